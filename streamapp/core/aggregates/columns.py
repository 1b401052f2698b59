"""The state of many windows as columns: one row for each window, one array for each slot.

Bit for bit what accumulators hold after the same records, whatever the batches were: sums are
added in the order of the rows, moments by Welford's step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from streamapp.core.aggregates.column_parts import (
    Added,
    CountColumn,
    DatedColumn,
    MomentsColumn,
    Pairs,
    PartColumn,
)
from streamapp.core.aggregates.inputs import Inputs, Ints
from streamapp.core.aggregates.layout import Acc, Layout
from streamapp.core.aggregates.number_column import NumberColumn
from streamapp.core.aggregates.values import Field

_COLUMNS: Final[dict[str, Callable[[], PartColumn]]] = {
    "sum": lambda: NumberColumn("sum"),
    "min": lambda: NumberColumn("min"),
    "max": lambda: NumberColumn("max"),
    "moments": MomentsColumn,
    "first": lambda: DatedColumn(is_last=False),
    "last": lambda: DatedColumn(is_last=True),
}
#: Kinds of parts that have a column.
COLUMN_KINDS: Final = frozenset({"rows", "count", *_COLUMNS})
_LEAST_CAPACITY: Final = 64


@dataclass(frozen=True, slots=True)
class _FieldColumns:
    """The columns of one field: its count, and the other parts; with their first slots."""

    index: int
    count: CountColumn
    count_slot: int
    parts: tuple[tuple[PartColumn, int], ...]


class Columns:
    """The state of many windows. Rows are windows, numbered as ``reserve`` hands them out."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._length = 0
        self._capacity = 0
        placed = layout.placed
        self._records = [(CountColumn(), slot) for part, slot in placed if part.kind == "rows"]
        self._fields = [_columns_of(layout, i, field) for i, field in enumerate(layout.fields)]

    def __len__(self) -> int:
        """Return the number of rows that were handed out."""
        return self._length

    def reserve(self, n: int) -> int:
        """Return the first of ``n`` new rows that are windows without a record."""
        first = self._length
        self._length += n
        if self._length > self._capacity:
            self._capacity = max(self._length, 2 * self._capacity, _LEAST_CAPACITY)
            for column in self._all():
                column.grow(self._capacity)
        return first

    def add(self, rows: Ints, inputs: Inputs, times: Ints, start: int, stop: int) -> None:
        """Add the values ``[start, stop)`` of ``inputs``, in order.

        Args:
            rows: The row of each of them, shape ``(stop - start,)``; a row may be there often.
            inputs: What ``AggregateSet.extract`` returned.
            times: The event times of all of ``inputs``, shape ``(len(inputs),)``.
            start: Index of the first value in ``inputs``.
            stop: Index behind the last one.
        """
        whole = Added(rows, times[start:stop])
        for column, _ in self._records:
            np.add.at(column.values, rows, 1)
        for field in self._fields:
            added = whole.field(inputs.part(field.index, start, stop))
            if not len(added.rows):
                continue
            for part, _ in field.parts:
                part.add(added, field.count.values)
            field.count.add(added)

    def merge(self, rows: Ints, other: Columns, other_rows: Ints) -> None:
        """Merge windows of other columns of the same set into distinct rows of these."""
        for (mine, _), (theirs, _) in zip(self._records, other._records, strict=True):
            mine.values[rows] += theirs.values[other_rows]
        for field, its in zip(self._fields, other._fields, strict=True):
            filled = its.count.values[other_rows] > 0
            into, others = rows[filled], other_rows[filled]
            if not len(into):
                continue
            pairs = Pairs(into, others, field.count.values[into], its.count.values[others])
            for (part, _), (theirs_part, _) in zip(field.parts, its.parts, strict=True):
                part.merge(pairs, theirs_part, field.count.values)
            field.count.values[into] += pairs.b

    def results(self, rows: Ints) -> list[Sequence[object]]:
        """Return a list for each name, with the result of each row."""
        return self._layout.results_of(self._slots(rows))

    def accs(self, rows: Ints) -> list[Acc]:
        """Return the state of each row as an accumulator."""
        return [*map(list, zip(*self._slots(rows), strict=True))]

    def pack(self, rows: Ints) -> list[list[object]]:
        """Return the state of each row, as ``AggregateSet.pack`` does."""
        return [*map(list, zip(*self.packed_slots(rows), strict=True))]

    def packed_slots(self, rows: Ints) -> list[Sequence[object]]:
        """Return the state of the rows as ``pack`` does, but a list for each slot."""
        return self._layout.pack_slots(self._slots(rows))

    def load_accs(self, rows: Ints, accs: Sequence[Acc]) -> None:
        """Set rows that are windows without a record to the state of accumulators."""
        slots = [*zip(*accs, strict=True)] or [()] * self._layout.size
        for column, slot in self._records:
            column.values[rows] = slots[slot]
        for field in self._fields:
            counts = np.array(slots[field.count_slot], np.int64)
            filled = np.flatnonzero(counts)
            chosen = filled.tolist()
            for part, slot in field.parts:
                part.load(
                    rows[filled],
                    [[slots[slot + i][j] for j in chosen] for i in range(part.width)],
                    field.count.values,
                )
            field.count.values[rows] = counts

    def load(self, row: int, packed: Sequence[object]) -> None:
        """Set a row that is a window without a record to what ``pack`` wrote."""
        self.load_many(np.array([row]), [packed])

    def load_many(self, rows: Ints, packed: Sequence[Sequence[object]]) -> None:
        """Set rows that are windows without a record to what ``pack`` wrote."""
        self.load_accs(rows, [self._layout.unpack(one) for one in packed])

    def _slots(self, rows: Ints) -> list[list[object]]:
        slots: list[list[object]] = [[]] * self._layout.size
        for column, slot in self._records:
            slots[slot] = column.values[rows].tolist()
        for field in self._fields:
            counts = field.count.values[rows]
            slots[field.count_slot] = counts.tolist()
            for part, slot in field.parts:
                slots[slot : slot + part.width] = part.slots(rows, counts)
        return slots

    def _all(self) -> Iterator[CountColumn | PartColumn]:
        for column, _ in self._records:
            yield column
        for field in self._fields:
            yield field.count
            for part, _ in field.parts:
                yield part


def _columns_of(layout: Layout, index: int, field: Field) -> _FieldColumns:
    mine = [(part.kind, slot) for part, slot in layout.placed if part.field == field]
    count_slot = next(slot for kind, slot in mine if kind == "count")
    parts = [(_COLUMNS[kind](), slot) for kind, slot in mine if kind != "count"]
    return _FieldColumns(index, CountColumn(), count_slot, tuple(parts))
