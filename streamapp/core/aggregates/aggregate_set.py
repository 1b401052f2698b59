"""The aggregates of a pipeline's step, by name: how they start, grow, merge, end and are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import groupby

from streamapp.core.aggregates.columns import Columns
from streamapp.core.aggregates.inputs import Inputs
from streamapp.core.aggregates.parts import KINDS, Aggregate, Part
from streamapp.core.aggregates.program import AddError, Placed, program
from streamapp.core.aggregates.values import Check, Field, read
from streamapp.core.rows import Rows

#: The state of all aggregates of one window: one slot after the other.
Acc = list[object]


class AggregateSet(Mapping[str, Aggregate]):
    """Aggregates by name; what they have in common is kept and computed once.

    Adding is sequential: the result of a row's place in a batch never differs from that of the row
    alone. ``merge`` is associative, and has ``new()`` as its neutral element; exactly where numbers
    are integers, up to rounding where they are floats.
    """

    def __init__(self, aggregates: Mapping[str, Aggregate]) -> None:
        self._aggregates = dict(aggregates)
        self.names = tuple(self._aggregates)
        parts = [part for one in self._aggregates.values() for part in one.parts]
        self._checks = _checks(parts)
        self._placed = _placed(parts)
        places = {_key(part): _slots(part, slot) for part, slot in self._placed}
        self._results = [
            (one.result, [slot for part in one.parts for slot in places[_key(part)]])
            for one in self._aggregates.values()
        ]
        self._program = program([*self._checks], self._placed)
        self._fails = any(part.kind == "functions" for part, _ in self._placed)
        self._packers = [
            (part, KINDS[part.kind].pack, KINDS[part.kind].unpack)
            for part, slot in self._placed
            for _ in _slots(part, slot)
        ]

    def __getitem__(self, name: str) -> Aggregate:
        return self._aggregates[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._aggregates)

    def __len__(self) -> int:
        return len(self._aggregates)

    def extract(self, values: Sequence[object]) -> Inputs:
        """Read the fields of all values, each once.

        Raises:
            InputsError: The first value that an aggregate cannot take.
        """
        lists = [read(field, check, values) for field, check in self._checks.items()]
        return Inputs(lists, len(values))

    def new(self) -> Acc:
        """Return the state of no row at all."""
        return [zero for part, _ in self._placed for zero in KINDS[part.kind].zero(part)]

    def add_all(
        self, accs: Sequence[Acc], inputs: Inputs, rows: Rows, start: int, stop: int
    ) -> None:
        """Add each row ``i`` of ``[start, stop)`` to ``accs[i - start]``, in order.

        Raises:
            AddError: A function of the application failed.
        """
        origins = rows.origins[start:stop]
        add = self._program.add_all
        if not self._fails or len(set(origins)) == len(origins):
            add(accs, inputs.lists, rows.times, start, stop)
            return
        for _, run in groupby(range(start, stop), lambda i: rows.origins[i]):
            group = [*run]
            mine = accs[group[0] - start : group[-1] + 1 - start]
            before = [(acc, deepcopy(acc)) for acc in mine]
            try:
                add(mine, inputs.lists, rows.times, group[0], group[-1] + 1)
            except AddError:
                for acc, kept in before:
                    acc[:] = kept
                raise

    def merge(self, into: Acc, other: Acc) -> None:
        """Add the rows of ``other``, as if they had come after those of ``into``."""
        self._program.merge(into, other)

    def results(self, acc: Acc) -> tuple[object, ...]:
        """Return the results in the order of ``names``."""
        return tuple([result(*[acc[slot] for slot in slots]) for result, slots in self._results])

    def pack(self, acc: Acc) -> list[object]:
        """Return the state as JSON keeps it, one entry for each slot.

        Raises:
            UsageError: The state of an aggregate of the application would not survive.
        """
        return [
            slot if pack is None else pack(part, slot)
            for (part, pack, _), slot in zip(self._packers, acc, strict=True)
        ]

    def unpack(self, packed: Sequence[object]) -> Acc:
        """Return the state that ``pack`` wrote."""
        return [
            slot if unpack is None else unpack(part, slot)
            for (part, _, unpack), slot in zip(self._packers, packed, strict=True)
        ]

    def columns(self) -> Columns | None:
        """Return the state of many windows as columns; ``None`` if an aggregate has none."""
        return None


def _key(part: Part) -> tuple[object, ...]:
    """Return what makes a part the same as another; checks of one field are united."""
    return part.kind, part.field, part.by, part.param


def _checks(parts: Sequence[Part]) -> dict[Field, Check]:
    """Return the distinct fields with the strictest of their checks."""
    checks: dict[Field, Check] = {}
    for part in parts:
        for field, check in ((part.field, part.check), (part.by, Check.NUMBER)):
            if field is not None:
                checks[field] = max(check, checks.get(field, check))
    return checks


def _placed(parts: Sequence[Part]) -> list[Placed]:
    """Give each distinct part its slots; a count comes before what uses it."""
    placed: dict[tuple[object, ...], Placed] = {}
    slot = 0
    for part in parts:
        if _key(part) not in placed:
            placed[_key(part)] = part, slot
            slot += len(KINDS[part.kind].zero(part))
    return [*placed.values()]


def _slots(part: Part, slot: int) -> range:
    return range(slot, slot + len(KINDS[part.kind].zero(part)))
