"""Where the parts of a set of aggregates lie in an accumulator, and how slots become results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamapp.core.aggregates.packing import pack_value, pack_values
from streamapp.core.aggregates.parts import KINDS, LAST_SLOT, Aggregate, Codec, Part, Result
from streamapp.core.aggregates.values import Check, Field
from streamapp.errors import ConfigError

#: The state of all aggregates of one window: one slot after the other.
Acc = list[object]
#: A part, and the index of its first slot.
Placed = tuple[Part, int]


class Layout:
    """Distinct fields with their checks, distinct parts with their slots, and the results."""

    __slots__ = ("checks", "codecs", "placed", "results", "size")

    def __init__(self, aggregates: Mapping[str, Aggregate]) -> None:
        parts = [part for one in aggregates.values() for part in one.parts]
        self.checks = _checks(parts)
        self.placed: list[Placed] = []
        self.size = 0
        places: dict[tuple[object, ...], range] = {}
        for part in parts:
            if _key(part) not in places:
                self.placed.append((part, self.size))
                places[_key(part)] = range(self.size, self.size + len(KINDS[part.kind].zero))
                self.size = places[_key(part)].stop
        #: For each slot; ``None`` where it is stored as it is.
        self.codecs = [_codec(part) for part, _ in self.placed for _ in KINDS[part.kind].zero]
        #: For each aggregate, its result and the slots that it needs.
        self.results = [
            (one.result, [slot for part in one.parts for slot in places[_key(part)]])
            for one in aggregates.values()
        ]

    @property
    def fields(self) -> list[Field]:
        """The distinct fields, in the order of ``Inputs.lists``."""
        return [*self.checks]

    def results_of(self, slots: Sequence[Sequence[object]]) -> list[Sequence[object]]:
        """Return a list for each aggregate, from a list for each slot."""
        return [_results(result, [slots[slot] for slot in used]) for result, used in self.results]

    def unpack(self, packed: Sequence[object]) -> Acc:
        """Return the slots of one accumulator that was packed."""
        return [
            slot if codec is None else codec[1](slot)
            for codec, slot in zip(self.codecs, packed, strict=True)
        ]

    def pack_slots(self, slots: Sequence[Sequence[object]]) -> list[Sequence[object]]:
        """Return the packed form of slots, a list for each of them."""
        return [_packed(codec, values) for codec, values in zip(self.codecs, slots, strict=True)]


def _results(result: Result, slots: Sequence[Sequence[object]]) -> Sequence[object]:
    if result in LAST_SLOT and all(slots[0]):
        return slots[-1]
    return [*map(result, *slots)]


def _packed(codec: Codec | None, values: Sequence[object]) -> Sequence[object]:
    if codec is None:
        return values
    return pack_values(values) if codec[0] is pack_value else [*map(codec[0], values)]


def _key(part: Part) -> tuple[object, ...]:
    """Return what makes a part the same as another; checks of one field are united."""
    return part.kind, part.field, part.by, part.param


def _codec(part: Part) -> Codec | None:
    codec = KINDS[part.kind].codec
    return None if codec is None else codec(part)


def _checks(parts: Sequence[Part]) -> dict[Field, Check]:
    """Return the distinct fields with the strictest of their checks."""
    checks: dict[Field, Check] = {}
    for part in parts:
        for field, check in ((part.field, part.check), (part.by, Check.NUMBER)):
            if field is None and (part.kind == "rows" or part.field is not None):
                continue  # it counts all records, or asks for one field only
            if not (isinstance(field, str) or callable(field)):
                message = f"A field of an aggregate is {field!r}, neither a name nor a function"
                raise ConfigError(message, hint='Write it like sum("amount")')
            checks[field] = max(check, checks.get(field, check))
    return checks
