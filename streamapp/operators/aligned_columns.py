"""The rows of many cells in one set of columns, for rows that come many at once.

Rows of cells that are gone stay behind and are left out when the columns are written anew, which
happens when they are the greater part.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from streamapp.core.aggregates import Acc, AggregateSet, Columns, Inputs
from streamapp.core.aggregates.inputs import objects_of
from streamapp.core.windows import IntArray

#: Dead rows that are put up with, whatever the number of live ones: small columns are not worth it.
_FEW: Final = 1024


def columns_of(aggregates: AggregateSet) -> Columns:
    """Return columns without rows; the aggregates must have columns."""
    columns = aggregates.columns()
    if columns is None:
        msg = "An aggregate has no columns"
        raise TypeError(msg)
    return columns


def rows_of(slots: Mapping[Hashable, int], keys: Collection[Hashable]) -> IntArray:
    """Return the row of each key."""
    return np.fromiter(map(slots.__getitem__, keys), np.int64, len(keys))


class Slots(dict[Hashable, int]):
    """The rows of a cell's keys; a key that is looked up gets the next row if it has none."""

    __slots__ = ("_keys", "_start", "_starts")

    def __init__(self, start: int, starts: list[int], keys: list[Hashable]) -> None:
        super().__init__()
        self._start = start
        self._starts = starts
        self._keys = keys

    def __missing__(self, key: Hashable) -> int:
        row = self[key] = len(self._keys)
        self._starts.append(self._start)
        self._keys.append(key)
        return row


@dataclass(frozen=True, slots=True)
class Changed:
    """Rows of one cell: their keys, their packed aggregates slot by slot, and touched marks."""

    start: int
    keys: list[Hashable]
    packed: list[Sequence[object]]
    touched: list[bool]


class CellColumns:
    """See the module. ``starts[row]`` is the start of the cell of a row, ``keys[row]`` its key."""

    def __init__(self, aggregates: AggregateSet, columns: Columns) -> None:
        self._aggregates = aggregates
        self._dead = 0
        self._made = 0
        self._changed = np.zeros(_FEW, np.bool_)
        self._touched = np.zeros(_FEW, np.bool_)
        self.columns = columns
        self.starts: list[int] = []
        self.keys: list[Hashable] = []

    @classmethod
    def of(cls, aggregates: AggregateSet) -> Self | None:
        """Return columns without rows, or ``None`` if an aggregate has no columns."""
        columns = aggregates.columns()
        return None if columns is None else cls(aggregates, columns)

    def slots(self, start_ms: int) -> Slots:
        """Return an empty mapping from the keys of a cell to rows."""
        return Slots(start_ms, self.starts, self.keys)

    def __len__(self) -> int:
        """Return the number of rows, dead ones included."""
        return len(self.keys)

    @property
    def changed_count(self) -> int:
        """Number of rows that changed since they were last taken."""
        return int(np.count_nonzero(self._changed))

    def place(
        self,
        slots: Mapping[int, Mapping[Hashable, int]],
        starts: Sequence[int] | IntArray,
        keys: Sequence[Hashable],
    ) -> IntArray:
        """Return the row of each ``(start of a cell, key)``, new and empty where there is none.

        ``slots`` are those of all cells that are named.
        """
        if len(slots) == 1:
            (only,) = slots.values()
            rows = rows_of(only, keys)
        else:
            rows = np.empty(len(keys), np.int64)
            cells, named = np.asarray(starts), objects_of(keys)
            for start, of_cell in slots.items():
                here = np.flatnonzero(cells == start)
                rows[here] = rows_of(of_cell, named[here].tolist())
        self._reserve()
        return rows

    def load(self, slots: Mapping[Hashable, int], accs: Mapping[Hashable, Acc]) -> None:
        """Give keys of a cell what they have; their rows must be new."""
        if accs:
            rows = rows_of(slots, accs)
            self._reserve()
            self.columns.load_accs(rows, [*accs.values()])

    def add(self, rows: IntArray, inputs: Inputs, times: IntArray, *, touches: bool) -> None:
        """Add one record to each of the rows, in order, and mark them as changed."""
        self.columns.add(rows, inputs, times, 0, len(rows))
        self._changed[rows] = True
        if touches:
            self._touched[rows] = True

    def acc(self, row: int) -> Acc:
        """Return what a row holds."""
        return self.columns.accs(np.array([row]))[0]

    def leave(self, row: int) -> tuple[Acc, bool, bool]:
        """Return what a row holds, and its marks (changed, touched); the row is dead now."""
        held = self.acc(row), bool(self._changed[row]), bool(self._touched[row])
        self.drop([row])
        return held

    def drop(self, rows: Iterable[int]) -> None:
        """Let go of rows."""
        dead = np.fromiter(rows, np.int64)
        self._changed[dead] = False
        self._touched[dead] = False
        self._dead += len(dead)

    def mark_changed(self, rows: Iterable[int]) -> None:
        """Mark rows whose change was noted elsewhere."""
        self._changed[np.fromiter(rows, np.int64)] = True

    def clean(self, slots: Mapping[Hashable, int]) -> Iterator[Hashable]:
        """Return the keys whose rows have not changed."""
        return (key for key, row in slots.items() if not self._changed[row])

    def touched(self, slots: Mapping[Hashable, int]) -> Iterator[Hashable]:
        """Return the keys whose rows are touched."""
        return (key for key, row in slots.items() if self._touched[row])

    def take_changed(self) -> Iterator[Changed]:
        """Take what changed since the last call, cell by cell; all of it, or marks are wrong."""
        rows = np.flatnonzero(self._changed)
        self._changed[rows] = False
        starts = np.array([self.starts[row] for row in rows.tolist()], np.int64)
        for start in np.unique(starts).tolist():
            here = rows[starts == start]
            keys = [self.keys[row] for row in here.tolist()]
            packed, touched = self.columns.packed_slots(here), self._touched[here].tolist()
            yield Changed(start, keys, packed, touched)

    def take_touched(self) -> list[tuple[int, Hashable]]:
        """Return the cell and the key of what was touched since the last call."""
        rows = np.flatnonzero(self._touched)
        self._touched[rows] = False
        return [(self.starts[row], self.keys[row]) for row in rows.tolist()]

    def compact(self, cells: Iterable[dict[Hashable, int]]) -> None:
        """Write the live rows anew if most are dead; ``cells`` are the slots of all cells."""
        if self._dead <= len(self.keys) - self._dead + _FEW:
            return
        live = [slots for slots in cells if slots]
        rows = np.fromiter((row for slots in live for row in slots.values()), np.int64)
        columns = columns_of(self._aggregates)
        columns.reserve(len(rows))
        columns.merge(np.arange(len(rows)), self.columns, rows)
        self.columns, self._dead = columns, 0
        for names in (self.starts, self.keys):
            names[:] = [names[row] for row in rows.tolist()]
        for marks in (self._changed, self._touched):
            kept = marks[rows]
            marks[:] = False
            marks[: len(rows)] = kept
        self._made = len(rows)
        numbers = iter(range(len(rows)))
        for slots in live:
            slots.update(zip([*slots], numbers, strict=False))

    def _reserve(self) -> None:
        """Make room for the rows that ``Slots`` has given away."""
        total = len(self.keys)
        self.columns.reserve(total - self._made)
        self._made = total
        if total > len(self._changed):
            more = np.zeros(total, np.bool_)
            self._changed = np.concatenate((self._changed, more))
            self._touched = np.concatenate((self._touched, more))
