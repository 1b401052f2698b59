"""Where the parts of a set of aggregates lie in an accumulator, and how slots become results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from streamapp.core.aggregates.parts import KINDS, Aggregate, Part
from streamapp.core.aggregates.values import Check, Field

#: The state of all aggregates of one window: one slot after the other.
Acc = list[object]
#: A part, and the index of its first slot.
Placed = tuple[Part, int]


class Layout:
    """Distinct fields with their checks, distinct parts with their slots, and the results."""

    __slots__ = ("_codecs", "_results", "checks", "placed", "size")

    def __init__(self, aggregates: Mapping[str, Aggregate]) -> None:
        parts = [part for one in aggregates.values() for part in one.parts]
        self.checks = _checks(parts)
        self.placed: list[Placed] = []
        self.size = 0
        places: dict[tuple[object, ...], range] = {}
        for part in parts:
            if _key(part) not in places:
                self.placed.append((part, self.size))
                places[_key(part)] = range(self.size, self.size + len(KINDS[part.kind].zero(part)))
                self.size = places[_key(part)].stop
        self._codecs = [(part, KINDS[part.kind]) for part, _ in self.placed for _ in _slots(part)]
        self._results = [
            (one.result, [slot for part in one.parts for slot in places[_key(part)]])
            for one in aggregates.values()
        ]

    @property
    def fields(self) -> list[Field]:
        """The distinct fields, in the order of ``Inputs.lists``."""
        return [*self.checks]

    def new(self) -> Acc:
        """Return the slots of no row at all."""
        return [zero for part, _ in self.placed for zero in KINDS[part.kind].zero(part)]

    def results(self, acc: Acc) -> tuple[object, ...]:
        """Return the results of one accumulator."""
        return tuple([result(*[acc[slot] for slot in slots]) for result, slots in self._results])

    def results_of(self, slots: Sequence[Sequence[object]]) -> list[list[object]]:
        """Return a list for each aggregate, from a list for each slot."""
        return [[*map(result, *[slots[slot] for slot in used])] for result, used in self._results]

    def pack(self, acc: Iterable[object]) -> list[object]:
        """Return the slots as JSON keeps them."""
        return [
            slot if kind.pack is None else kind.pack(part, slot)
            for (part, kind), slot in zip(self._codecs, acc, strict=True)
        ]

    def unpack(self, packed: Sequence[object]) -> Acc:
        """Return the slots that ``pack`` wrote."""
        return [
            slot if kind.unpack is None else kind.unpack(part, slot)
            for (part, kind), slot in zip(self._codecs, packed, strict=True)
        ]

    def pack_slots(self, slots: Sequence[Sequence[object]]) -> list[list[object]]:
        """Return a packed accumulator for each window, from a list for each slot."""
        packed = [
            values if kind.pack is None else [kind.pack(part, value) for value in values]
            for (part, kind), values in zip(self._codecs, slots, strict=True)
        ]
        return [*map(list, zip(*packed, strict=True))]


def _key(part: Part) -> tuple[object, ...]:
    """Return what makes a part the same as another; checks of one field are united."""
    return part.kind, part.field, part.by, part.param


def _slots(part: Part) -> range:
    return range(len(KINDS[part.kind].zero(part)))


def _checks(parts: Sequence[Part]) -> dict[Field, Check]:
    """Return the distinct fields with the strictest of their checks."""
    checks: dict[Field, Check] = {}
    for part in parts:
        for field, check in ((part.field, part.check), (part.by, Check.NUMBER)):
            if field is not None:
                checks[field] = max(check, checks.get(field, check))
    return checks
