"""The rows of many cells in one set of columns, for rows that come many at once.

A row's name is made of the number of its cell and the number of its key, so one look-up in a dict
for each record is all that is done in Python. Rows that are gone stay behind and are left out when
the columns are written anew, which happens when they are the greater part.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

import numpy as np

from streamapp.core.aggregates import Acc, AggregateSet, Columns, Inputs
from streamapp.core.windows import IntArray
from streamapp.operators.aligned_cell import Cell
from streamapp.operators.aligned_index import Numbers, RowIndex

#: Dead rows that are put up with, whatever the number of live ones: small columns are not worth it.
_FEW: Final = 1024
#: A name is the number of a cell, and in its last bits that of a key.
_KEY_BITS: Final = 32
_KEY_MASK: Final = (1 << _KEY_BITS) - 1


def columns_of(aggregates: AggregateSet) -> Columns:
    """Return columns without rows; the aggregates must have columns."""
    columns = aggregates.columns()
    if columns is None:
        msg = "An aggregate has no columns"
        raise TypeError(msg)
    return columns


@dataclass(frozen=True, slots=True)
class Changed:
    """Rows of one cell: their keys, their packed aggregates slot by slot, and touched marks."""

    cell: Cell
    keys: list[Hashable]
    packed: list[Sequence[object]]
    touched: list[bool]

    def pending(self, due_ms: int | None) -> Iterable[int | None] | None:
        """Return for each row when an update of it is due, if one is due then for the touched."""
        if due_ms is None:
            return None
        waiting = self.waiting()
        return (due_ms if key in waiting else None for key in self.keys)

    def waiting(self) -> set[Hashable]:
        """Return the keys that were touched."""
        marked = zip(self.keys, self.touched, strict=True)
        return {key for key, is_ in marked if is_ or key in self.cell.touched}


class CellColumns:
    """See the module."""

    def __init__(self, aggregates: AggregateSet, columns: Columns) -> None:
        self._aggregates = aggregates
        self._numbers = Numbers()
        self._index = RowIndex()
        self._cells = 0
        self._dead = 0
        self._changed = np.zeros(_FEW, np.bool_)
        self._touched = np.zeros(_FEW, np.bool_)
        self.columns = columns

    @classmethod
    def of(cls, aggregates: AggregateSet) -> Self | None:
        """Return columns without rows, or ``None`` if an aggregate has no columns."""
        columns = aggregates.columns()
        return None if columns is None else cls(aggregates, columns)

    @property
    def changed_count(self) -> int:
        """Number of rows that changed since they were last taken."""
        return int(np.count_nonzero(self._changed))

    def new_cell(self) -> int:
        """Return the number of a new cell."""
        self._cells += 1
        return self._cells - 1

    # --- which rows there are --------------------------------------------------------------------

    def rows(self, cell: Cell) -> IntArray:
        """Return the rows of a cell."""
        if not cell.count:
            return np.zeros(0, np.int64)
        rows = np.concatenate([np.arange(span.start, span.stop) for span in cell.spans])
        return rows if len(rows) == cell.count else self._index.live(rows)

    def keys(self, rows: IntArray) -> list[Hashable]:
        """Return the key of each row."""
        return self.keys_of(self._index.names(rows) & _KEY_MASK)

    def row_of(self, cell: Cell, key: Hashable) -> int | None:
        """Return the row of a key in a cell; ``None`` if it has none."""
        number = self._numbers.get(key) if cell.count else None
        return None if number is None else self._index.find_one(_name(cell) | number)

    def numbers(self, cells: Iterable[Cell]) -> IntArray:
        """Return the numbers of the keys that cells have, each once."""
        rows = np.concatenate([self.rows(cell) for cell in cells])
        return _distinct(self._index.names(rows) & _KEY_MASK)

    def numbers_of(self, keys: Collection[Hashable]) -> IntArray:
        """Return the numbers of keys."""
        return self._numbers.of(keys)

    def keys_of(self, numbers: IntArray) -> list[Hashable]:
        """Return the keys with these numbers."""
        return [*map(self._numbers.keys_of.__getitem__, numbers.tolist())]

    def find(self, cell: Cell, numbers: IntArray) -> IntArray:
        """Return the row in a cell of each key's number, negative where there is none."""
        return self._index.find(numbers | _name(cell))

    def place(
        self, cells: Sequence[Cell], which: IntArray | None, keys: Collection[Hashable]
    ) -> IntArray:
        """Return the row of each key in its cell, new and empty where there is none.

        ``which`` is the place of each key's cell among the ``cells``; ``None``: there is but one.
        """
        names = self._numbers.of(keys)
        if which is None:
            names |= _name(cells[0])
        else:
            names |= np.array([_name(cell) for cell in cells])[which]
        rows = self._index.find(names)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            self._make(cells, _distinct(names[missing]))
            rows[missing] = self._index.find(names[missing])
        return rows

    def new_keys(self, cell: Cell, known: int) -> list[tuple[int, Hashable]]:
        """Return the rows of a cell from a row on, with their keys."""
        spans = [range(max(span.start, known), span.stop) for span in cell.spans]
        rows = np.array([row for span in spans for row in span], np.int64)
        return [*zip(rows.tolist(), self.keys(rows), strict=True)]

    def _make(self, cells: Iterable[Cell], names: IntArray) -> None:
        """Make rows with these names, which rise."""
        first = self.columns.reserve(len(names))
        self._index.add(names)
        for cell in cells:
            low, high = np.searchsorted(names, (_name(cell), _name(cell) + _KEY_MASK + 1)).tolist()
            if low < high:
                cell.spans.append(range(first + low, first + high))
                cell.count += high - low
        total = first + len(names)
        if total > len(self._changed):
            more = np.zeros(total, np.bool_)
            self._changed = np.concatenate((self._changed, more))
            self._touched = np.concatenate((self._touched, more))

    # --- what is in them -------------------------------------------------------------------------

    def load(self, rows: IntArray, accs: Sequence[Acc]) -> None:
        """Give rows what they hold; they must be new."""
        if accs:
            self.columns.load_accs(rows, accs)

    def add(self, rows: IntArray, inputs: Inputs, times: IntArray, *, touches: bool) -> None:
        """Add one record to each of the rows, in order, and mark them as changed."""
        self.columns.add(rows, inputs, times, 0, len(rows))
        self._changed[rows] = True
        if touches:
            self._touched[rows] = True

    def acc(self, row: int) -> Acc:
        """Return what a row holds."""
        return self.columns.accs(np.array([row]))[0]

    def leave(self, cell: Cell, row: int) -> tuple[Acc, bool, bool]:
        """Return what a row holds, and its marks (changed, touched); the row is dead now."""
        held = self.acc(row), bool(self._changed[row]), bool(self._touched[row])
        self.drop(cell, np.array([row]))
        return held

    def drop(self, cell: Cell, rows: IntArray) -> None:
        """Let go of rows of a cell."""
        self._index.drop(rows)
        self._changed[rows] = False
        self._touched[rows] = False
        self._dead += len(rows)
        cell.count -= len(rows)

    def mark_changed(self, rows: IntArray) -> None:
        """Mark rows whose change was noted elsewhere."""
        self._changed[rows] = True

    def clean(self, cell: Cell) -> IntArray:
        """Return the rows of a cell that have not changed."""
        rows = self.rows(cell)
        return rows[~self._changed[rows]]

    def touched(self, rows: IntArray) -> list[Hashable]:
        """Return the keys of those of the rows that are touched."""
        return self.keys(rows[self._touched[rows]])

    def take_changed(self, cells: Iterable[Cell]) -> Iterator[Changed]:
        """Take what changed since the last call, cell by cell; all of it, or marks are wrong."""
        for cell, rows in self._taken(self._changed, cells):
            packed, touched = self.columns.packed_slots(rows), self._touched[rows].tolist()
            yield Changed(cell, self.keys(rows), packed, touched)

    def take_touched(self, cells: Iterable[Cell]) -> Iterator[tuple[Cell, list[Hashable]]]:
        """Take the cells and keys of what was touched since the last call; all of it, as above."""
        return ((cell, self.keys(rows)) for cell, rows in self._taken(self._touched, cells))

    def _taken(
        self, marks: np.ndarray[tuple[int], np.dtype[np.bool_]], cells: Iterable[Cell]
    ) -> Iterator[tuple[Cell, IntArray]]:
        """Take marks away; return the rows that had one, cell by cell."""
        marked = np.flatnonzero(marks)
        marks[marked] = False
        names = np.sort(self._index.names(marked))
        rows, numbers = self._index.find(names), names >> _KEY_BITS
        edges = np.flatnonzero(numbers[1:] != numbers[:-1]) + 1
        by_number = {cell.number: cell for cell in cells} if len(rows) else {}
        for start, stop in pairwise([0, *edges.tolist(), len(rows)]) if len(rows) else ():
            yield by_number[int(numbers[start])], rows[start:stop]

    # --- written anew ----------------------------------------------------------------------------

    def compact(self, cells: Collection[Cell]) -> None:
        """Write the live rows anew if most are dead; ``cells`` are all that there are."""
        live = len(self._index) - self._dead
        if self._dead <= live + _FEW:
            return
        rows = np.concatenate([np.zeros(0, np.int64), *(self.rows(cell) for cell in cells)])
        numbers = self._kept_keys(self._index.names(rows) & _KEY_MASK)
        columns = columns_of(self._aggregates)
        columns.reserve(len(rows))
        columns.merge(np.arange(len(rows)), self.columns, rows)
        self.columns, self._index = columns, RowIndex()
        self._dead = self._cells = at = 0
        for cell in cells:
            cell.number, cell.spans = self.new_cell(), [range(at, at + cell.count)]
            self._index.add(numbers[at : at + cell.count] | _name(cell))
            at += cell.count
        self._changed, self._touched = _kept(self._changed, rows), _kept(self._touched, rows)

    def _kept_keys(self, numbers: IntArray) -> IntArray:
        """Forget the keys without a row if they are the greater part; return the new numbers."""
        live = _distinct(numbers)
        if len(self._numbers) <= 2 * len(live) + _FEW:
            return numbers
        self._numbers = Numbers(self.keys_of(live))
        return np.searchsorted(live, numbers)


def _name(cell: Cell) -> int:
    """Return the name of the row of the key with number 0 in a cell."""
    return cell.number << _KEY_BITS


def _distinct(numbers: IntArray) -> IntArray:
    """Return the numbers once each, rising; ``np.unique`` takes ten times as long."""
    found = np.sort(numbers)
    return found[np.append(True, found[1:] != found[:-1])] if len(found) else found


def _kept(
    marks: np.ndarray[tuple[int], np.dtype[np.bool_]], rows: IntArray
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.concatenate((marks[rows], np.zeros(_FEW, np.bool_)))
