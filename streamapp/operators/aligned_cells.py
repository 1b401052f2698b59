"""The cells of aligned windows in memory: what was added, what changed, what may be forgotten.

A key of a cell has its aggregates in one of two forms, with equal results: an accumulator (few rows
come at once) or a row of the columns (many come at once). What memory does not hold is in the
state as of the last drain; a cell knows whether that may be (``whole``).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Iterator
from itertools import islice

import numpy as np

from streamapp.core.aggregates import Acc, AddError, AggregateSet
from streamapp.core.times import FOREVER_MS
from streamapp.core.windows import Grid, IntArray
from streamapp.operators.aligned_cell import Cell
from streamapp.operators.aligned_columns import CellColumns
from streamapp.operators.aligned_place import Entries, distinct
from streamapp.operators.aligned_rows import (
    all_to_bytes,
    cells_of,
    raw_keys,
    row_at,
    rows_of,
    to_bytes,
)
from streamapp.operators.operator import StateView


class Cells:
    """All cells that exist, in memory or in the state.

    Changes that were not drained are never forgotten; ``notes_touched`` says whether those are
    noted that no update told of.
    """

    def __init__(
        self, grid: Grid, aggregates: AggregateSet, state: StateView, *, notes_touched: bool
    ) -> None:
        self._grid = grid
        self._aggregates = aggregates
        self._state = state
        self._notes_touched = notes_touched
        self._cells: dict[int, Cell] = {}
        self._deleted: dict[bytes, None] = {}
        self.starts: list[int] = []
        #: Whether a change waits for an update.
        self.has_touched = False
        self.columns = CellColumns.of(aggregates)

    def __len__(self) -> int:
        """Return the number of rows in memory."""
        return sum(map(len, self._cells.values()))

    @property
    def changed(self) -> int:
        """Number of rows that ``drain`` will bring, or an estimate."""
        marked = 0 if self.columns is None else self.columns.changed_count
        return len(self._deleted) + marked + sum(len(c.changed) for c in self._cells.values())

    # --- which cells there are -------------------------------------------------------------------

    def open(self, start_ms: int, *, restored: bool = False) -> Cell:
        """Return the cell that starts then; it exists from now on."""
        cell = self._cells.get(start_ms)
        if cell is None:
            number = 0 if self.columns is None else self.columns.new_cell()
            cell = Cell(start_ms, number, whole=not restored, stored=restored)
            self._cells[start_ms] = cell
            insort(self.starts, start_ms)
        return cell

    def of_window(self, start_ms: int) -> list[Cell]:
        """Return the existing cells of a window, in the order of time."""
        cells = self._cells
        return [cells[at] for at in self._grid.cells_in(start_ms) if at in cells]

    def next_window(self, start_ms: int) -> int | None:
        """Return the least start at or after this one of a window with a cell."""
        for start in islice(self.starts, bisect_left(self.starts, start_ms), None):
            over = self._grid.windows_over(start)
            if over:
                return max(start_ms, over[0])
        return None

    def drop_until(self, watermark_ms: int) -> None:
        """Forget the cells, here and in the state, that take no more records."""
        while self.starts and self.clean_ms(self.starts[0]) <= watermark_ms:
            cell = self._cells.pop(self.starts.pop(0))
            if cell.stored:
                self.complete(cell)
                self._deleted.update(dict.fromkeys(raw_keys(cell.start, self.keys(cell))))
            if self.columns is not None:
                self.columns.drop(cell, self.columns.rows(cell))
        self._compact()

    def clean_ms(self, start_ms: int) -> int:
        """Return the least watermark at which a cell takes no more records."""
        return self._grid.clean_ms(self._grid.windows_over(start_ms)[-1])

    # --- what is in them -------------------------------------------------------------------------

    def keys(self, cell: Cell) -> list[Hashable]:
        """Return the keys of a cell that memory holds."""
        columns = self.columns
        return [*cell.accs, *(() if columns is None else columns.keys(columns.rows(cell)))]

    def find(self, cell: Cell, key: Hashable) -> Acc | None:
        """Return the aggregates of a key, not to be changed; ``None`` if the cell has none."""
        if key in cell.accs:
            return cell.accs[key]
        row = self._row(cell, key)
        if self.columns is not None and row is not None:
            return self.columns.acc(row)
        return self._stored(cell, key)

    def fetch(self, cell: Cell, keys: Iterable[Hashable]) -> None:
        """Read these keys of a cell where memory does not hold them."""
        for key in () if cell.whole else keys:
            if key not in cell.accs and self._row(cell, key) is None:
                acc = self._stored(cell, key)
                if acc is not None:
                    cell.accs[key] = acc

    def complete(self, cell: Cell) -> None:
        """Read what memory does not hold of a cell."""
        if not cell.whole:
            known = {*self.keys(cell)}
            for row in rows_of(self._state, cell.start):
                if row.key not in known:
                    cell.accs[row.key] = self._aggregates.unpack(row.packed)
            cell.whole = True

    def add(self, entries: Entries) -> None:
        """Add rows: all at once where they have times as an array.

        Raises:
            AddError: A function of the application failed; only rows of earlier origins count.
        """
        if self.columns is not None and entries.times is not None and len(entries.times):
            self._add_many(self.columns, entries, entries.times)
            return
        made: list[tuple[int, Cell, Hashable]] = []
        accs = [*self._accs_of(entries, made)]
        try:
            self._aggregates.add_all(accs, entries.inputs, entries.rows, 0, len(accs))
        except AddError as exc:
            origins = entries.rows.origins
            done = bisect_left(origins, origins[exc.index])
            for index, cell, key in made:
                if index >= done:
                    del cell.accs[key]
            self._note(entries, done)
            raise
        self._note(entries, len(accs))

    def _add_many(self, columns: CellColumns, entries: Entries, times: IntArray) -> None:
        starts, which = distinct(np.asarray(entries.starts), self._grid.step_ms)
        cells = [self.open(start) for start in starts]
        for cell in cells:
            self.to_columns(columns, cell)
        known = len(columns.columns)
        rows = columns.place(cells, which, entries.rows.keys)
        self._load_new(columns, [cell for cell in cells if not cell.whole], known)
        columns.add(rows, entries.inputs, times, touches=self._notes_touched)
        self.has_touched |= self._notes_touched

    def _load_new(self, columns: CellColumns, cells: Iterable[Cell], known: int) -> None:
        """Give the rows from ``known`` on what the state has of their keys."""
        rows: list[int] = []
        accs: list[Acc] = []
        for cell in cells:
            for row, key in columns.new_keys(cell, known):
                acc = self._stored(cell, key)
                if acc is not None:
                    rows.append(row)
                    accs.append(acc)
        columns.load(np.array(rows, np.int64), accs)

    def to_columns(self, columns: CellColumns, cell: Cell) -> None:
        """Bring all keys of a cell that memory holds into columns."""
        if cell.accs:
            rows = columns.place([cell], None, cell.accs)
            columns.load(rows, [*cell.accs.values()])
            columns.mark_changed(rows[[key in cell.changed for key in cell.accs]])
            cell.accs.clear()

    def _row(self, cell: Cell, key: Hashable) -> int | None:
        return None if self.columns is None else self.columns.row_of(cell, key)

    def _accs_of(self, entries: Entries, made: list[tuple[int, Cell, Hashable]]) -> Iterator[Acc]:
        cells = self._cells
        for index, (start, key) in enumerate(zip(entries.starts, entries.rows.keys, strict=True)):
            cell = cells.get(start) or self.open(start)
            acc = cell.accs.get(key)
            if acc is None:
                acc = self._leave_columns(cell, key) or self._stored(cell, key)
                if acc is None:
                    acc = self._aggregates.new()
                    made.append((index, cell, key))
                cell.accs[key] = acc
            yield acc

    def _leave_columns(self, cell: Cell, key: Hashable) -> Acc | None:
        row = self._row(cell, key)
        if self.columns is None or row is None:
            return None
        acc, changed, touched = self.columns.leave(cell, row)
        cell.changed |= {key} if changed else set()
        cell.touched |= {key} if touched else set()
        return acc

    def _stored(self, cell: Cell, key: Hashable) -> Acc | None:
        if cell.whole:
            return None
        row = row_at(self._state, cell.start, key)
        return None if row is None else self._aggregates.unpack(row.packed)

    def _note(self, entries: Entries, stop: int) -> None:
        cells = self._cells
        for start, key in islice(zip(entries.starts, entries.rows.keys, strict=True), stop):
            cells[start].changed.add(key)
            if self._notes_touched:
                cells[start].touched.add(key)
        self.has_touched |= self._notes_touched and stop > 0

    # --- what becomes of it ----------------------------------------------------------------------

    def take_touched(self) -> dict[int, set[Hashable]]:
        """Return the keys that changed since the last call, by the start of their cell."""
        found: dict[int, set[Hashable]] = {}
        for start, cell in self._cells.items():
            if cell.touched:
                found[start], cell.touched = cell.touched, set()
        for cell, keys in self.columns.take_touched(self._cells.values()) if self.columns else ():
            found.setdefault(cell.start, set()).update(keys)
        self.has_touched = False
        for cell in self._cells.values():
            self._settle(cell)
        return found

    def _settle(self, cell: Cell) -> None:
        """Have the state say of no key any more that an update is due at a commit."""
        self.fetch(cell, cell.waiting)
        for key in cell.waiting:
            row = self._row(cell, key)
            if self.columns is not None and row is not None:
                self.columns.mark_changed(np.array([row]))
            else:
                cell.changed.add(key)
        cell.waiting.clear()

    def drain(self, pending_ms: int | None) -> dict[bytes, bytes | None]:
        """Return the rows that changed since the last call, as bytes; ``None`` deletes one.

        ``pending_ms`` is when an update is due for those that have been touched.
        """
        pending_ms = pending_ms if self.has_touched else None
        changes: dict[bytes, bytes | None] = {**self._deleted}
        self._deleted.clear()
        for cell in self._cells.values():
            for key in cell.changed & cell.accs.keys():
                pending = pending_ms if key in cell.touched else None
                packed = self._aggregates.pack(cell.accs[key])
                changes[cell.raw(key)] = to_bytes(packed, pending)
                cell.stored = True
                if pending == FOREVER_MS:
                    cell.waiting.add(key)
            cell.changed.clear()
        for changed in self.columns.take_changed(self._cells.values()) if self.columns else ():
            cell = changed.cell
            rows = all_to_bytes(changed.packed, changed.pending(pending_ms))
            if pending_ms == FOREVER_MS:
                cell.waiting.update(changed.waiting())
            changes.update(zip(raw_keys(cell.start, changed.keys), rows, strict=True))
            cell.stored = True
        return changes

    def restore(self, watermark_ms: int) -> None:
        """Learn which cells the state has, and what waits for an update since this watermark."""
        for start in [*cells_of(self._state)]:
            cell = self.open(start, restored=True)
            if self._notes_touched:
                rows = rows_of(self._state, start)
                pending = {row.key: row.pending_ms for row in rows if row.is_pending(watermark_ms)}
                cell.touched = {*pending}
                cell.waiting = {key for key, due_ms in pending.items() if due_ms == FOREVER_MS}
                self.has_touched |= bool(cell.touched)

    def trim(self, limit: int) -> None:
        """Forget rows that the state has, until about so many are left.

        The oldest cells go first: they are read once more, in one go, when their windows fire,
        while records still come for the newest.
        """
        excess = len(self) - limit
        for start in self.starts:
            if excess <= 0:
                break
            excess -= self._forget(self._cells[start], excess)
        self._compact()

    def _forget(self, cell: Cell, count: int) -> int:
        """Forget up to so many keys of a cell; return how many."""
        gone = [*islice((key for key in cell.accs if key not in cell.changed), count)]
        for key in gone:
            del cell.accs[key]
        forgotten = len(gone)
        if self.columns is not None:
            rows = self.columns.clean(cell)[: count - forgotten]
            cell.touched.update(self.columns.touched(rows))
            self.columns.drop(cell, rows)
            forgotten += len(rows)
        cell.whole = cell.whole and not forgotten
        return forgotten

    def _compact(self) -> None:
        if self.columns is not None:
            self.columns.compact(self._cells.values())
