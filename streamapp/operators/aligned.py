"""Tumbling and hopping windows: records into cells, windows out of cells when they close."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Final, NoReturn, cast

import numpy as np

from streamapp.core.aggregates import AddError, AggregateSet, Inputs, InputsError
from streamapp.core.int_columns import as_numpy
from streamapp.core.rows import NO_ROWS, Rows, joined
from streamapp.core.times import FOREVER_MS, NEVER_MS
from streamapp.core.windows import Emission, Grid, Hopping, IntArray, Tumbling, floor_to
from streamapp.operators.aligned_cells import Cells
from streamapp.operators.aligned_place import (
    MANY,
    Placed,
    TimeColumns,
    place,
)
from streamapp.operators.aligned_results import PIECE, Results
from streamapp.operators.aligned_rows import view_of
from streamapp.operators.operator import AT_ONCE, Failed, Operator, RowError, StateView
from streamapp.operators.pick import picked
from streamapp.operators.results import CORRECTION, FINAL, LATE, UPDATE, WindowRow

_COUNTED: Final = {"drop": "dropped", "side": "side", "correct": "corrected"}
#: Rows of the result of ``process``: with the index of the row that each is for.
_Corrections = list[tuple[int, WindowRow | Failed]]


class AlignedWindows(Operator):
    """Windows that lie alike for all keys (``Tumbling``, ``Hopping``).

    Results of one call come in the order of the windows' ends, then of the keys' bytes. A record is
    late, and counted, when it is late for all of its windows; one that is late for some counts in
    the others. With ``correct`` each window that is closed for a record gets its correction, and
    the record is counted if there is any.
    """

    viewer = staticmethod(view_of)

    def __init__(
        self,
        spec: Tumbling | Hopping,
        aggregates: AggregateSet,
        row: type[WindowRow],
        emission: Emission,
        state: StateView,
    ) -> None:
        super().__init__()
        self._grid = Grid.of(spec)
        self._aggregates = aggregates
        self._on_late = spec.late.on_late
        self._emission = emission
        self._times = TimeColumns(self._grid)
        self._was_many = False
        self._cells = Cells(self._grid, aggregates, state, notes_touched=emission.kind != "close")
        self._results = Results(self._grid, aggregates, self._cells, row)
        self._failed = self._results.failed
        #: The greatest watermark seen: windows whose last instant it has reached have fired.
        self._watermark = NEVER_MS
        #: Windows that have fired and changed since, with their keys.
        self._again: dict[int, set[Hashable]] = {}
        self._late_rows: list[Rows] = []
        #: What is left of the work at a watermark that was begun.
        self._left: Iterator[list[WindowRow]] | None = None
        self.is_immediate = self.shifts_times = self._on_late == "correct"

    def restore(self, watermark_ms: int) -> None:
        """Take up the state as of a commit with this watermark; before the first row."""
        self._watermark = watermark_ms
        self._cells.restore(watermark_ms)
        self._set_due()

    # --- records ---------------------------------------------------------------------------------

    def process(self, rows: Rows, side: int = 0) -> Rows:
        """See ``Operator.process``. Brings corrections only."""
        del side
        if not len(rows):
            return NO_ROWS
        try:
            inputs = self._aggregates.extract(rows.values)
        except InputsError as exc:
            self._refuse(rows, exc.index, exc.__cause__)
        times = None
        if self._cells.columns is not None:
            times = self._times.of(rows, after_many=self._was_many)
            self._was_many = len(rows) >= MANY
        placed = place(self._grid, rows, times)
        try:
            corrections = self._corrections(rows, inputs, placed)
        except AddError as exc:
            self._refuse(rows, exc.index, exc.__cause__)
        entries = placed.entries(rows, inputs, times)
        try:
            self._cells.add(entries)
        except AddError as exc:
            origin = entries.rows.origins[exc.index]
            stop = bisect_left(rows.origins, origin)
            brought = self._finish(rows, placed, corrections, stop)
            raise RowError(origin, brought) from exc.__cause__
        return self._finish(rows, placed, corrections, len(rows))

    def _refuse(self, rows: Rows, index: int, cause: BaseException | None) -> NoReturn:
        """Process what comes before the origin of a row, which was not begun."""
        origin = rows.origins[index]
        brought = self.process(rows.part(0, bisect_left(rows.origins, origin)))
        raise RowError(origin, brought) from cause

    def _corrections(self, rows: Rows, inputs: Inputs, placed: Placed) -> _Corrections:
        """Aggregate each record by itself that closed windows take no more."""
        found: _Corrections = []
        for index, start in placed.closed if self._on_late == "correct" else ():
            alone = self._aggregates.new()
            self._aggregates.add_all([alone], inputs, rows, index, index + 1)
            key = rows.keys[index]
            try:
                results = [[result] for result in self._aggregates.results(alone)]
            except Exception as exc:  # noqa: BLE001 - whatever the user's function raises
                found.append((index, self._results.failure((start, CORRECTION), key, exc)))
                continue
            found += [(index, row) for row in self._results.rows(start, CORRECTION, [key], results)]
        return found

    def _finish(self, rows: Rows, placed: Placed, corrections: _Corrections, stop: int) -> Rows:
        """Do what follows from the rows ``[0, stop)``, which have been added."""
        if not stop:
            return NO_ROWS
        self._watermark = max(self._watermark, rows.marks[stop - 1])
        for index, start in placed.again:
            if index < stop:
                self._again.setdefault(start, set()).add(rows.keys[index])
        corrections = corrections[: bisect_left(corrections, stop, key=lambda made: made[0])]
        late = placed.late[: bisect_left(placed.late, stop)]
        if self._on_late == "side" and late:
            self._late_rows.append(picked(rows, late))
        counted = {index for index, _ in corrections} if self._on_late == "correct" else late
        if counted:
            self.late[_COUNTED[self._on_late]] += len(counted)
        self._set_due()
        self._failed += [row for _, row in corrections if isinstance(row, Failed)]
        made = [(index, row) for index, row in corrections if isinstance(row, WindowRow)]
        return Rows(
            [row.key for _, row in made],
            [row.end - 1 for _, row in made],
            [row for _, row in made],
            [rows.marks[index] for index, _ in made],
            [rows.origins[index] for index, _ in made],
        )

    def take_late(self) -> Rows:
        """See ``Operator.take_late``."""
        late, self._late_rows = self._late_rows, []
        return joined(late)

    # --- work at a watermark ---------------------------------------------------------------------

    def dues(self, rows: Rows, side: int = 0, last_ms: int = FOREVER_MS) -> Sequence[int] | None:
        """See ``Operator.dues``; ``None`` if no row makes work before what is due already."""
        del side
        stop = bisect_left(rows.marks, self.next_due_ms)
        if not stop:
            return None
        times = self._times.of(rows)
        first = min(rows.times[:stop]) if times is None else int(times[:stop].min())
        least = self._grid.fire_ms(self._grid.first_start(first))
        if min(least, self._tick_ms(rows.marks[0])) > last_ms:
            return None
        if times is not None:
            return self._dues_of_many(times, as_numpy(rows.marks))
        due = self._grid.due_ms
        pairs = zip(rows.times, rows.marks, strict=True)
        return [
            found if found in (AT_ONCE, FOREVER_MS) else min(found, self._tick_ms(mark))
            for found, mark in ((due(time, mark), mark) for time, mark in pairs)
        ]

    def _dues_of_many(self, times: IntArray, marks: IntArray) -> Sequence[int]:
        found = self._grid.dues_ms(times, marks)
        if self._emission.kind == "every":
            ticks = floor_to(marks, self._emission.every_ms, 0) + self._emission.every_ms
            found = np.where(found == FOREVER_MS, found, np.minimum(found, ticks))
        return cast("Sequence[int]", found)

    def advance(self, watermark_ms: int) -> Rows:
        """See ``Operator.advance``; brings about ``PIECE`` rows at a time."""
        if self._left is None:
            self._left = self._due(watermark_ms)
        rows: list[WindowRow] = []
        for some in self._left:
            rows += some
            if len(rows) >= PIECE:
                self.next_due_ms = AT_ONCE
                return _rows_of(rows)
        self._left = None
        self._cells.drop_until(self._watermark)
        self._set_due()
        return _rows_of(rows)

    def due_by(self, watermark_ms: int) -> int:
        """See ``Operator.due_by``."""
        if self.next_due_ms > watermark_ms:
            return 0
        grid, cells = self._grid, self._cells
        rows = sum(map(len, self._again.values()))
        start = cells.next_window(grid.open_from(self._watermark))
        while start is not None and grid.fire_ms(start) <= watermark_ms:
            rows += max(map(len, cells.of_window(start)), default=0)
            start = cells.next_window(start + grid.slide_ms)
        return rows

    def _due(self, watermark_ms: int) -> Iterator[list[WindowRow]]:
        """Do what is due at this watermark, in pieces."""
        for at in sorted(self._again):
            yield from self._results.of_window(at, LATE, self._again[at])
        self._again.clear()
        grid, cells = self._grid, self._cells
        tick = self._tick_ms(self._watermark)
        start = cells.next_window(grid.open_from(self._watermark))
        while start is not None and grid.fire_ms(start) <= watermark_ms:
            yield from self._results.of_window(start, FINAL)
            start = cells.next_window(start + grid.slide_ms)
        self._watermark = max(self._watermark, watermark_ms)
        if tick <= watermark_ms:
            yield from self._updates()

    def on_commit(self) -> Rows:
        """See ``Operator.on_commit``."""
        if self._emission.kind != "update":
            return NO_ROWS
        return _rows_of([row for some in self._updates() for row in some])

    def _updates(self) -> Iterator[list[WindowRow]]:
        """Return the rows of what has changed since the last call in windows that are open."""
        if not self._cells.has_touched:
            return
        changed: dict[int, set[Hashable]] = {}
        first = self._grid.open_from(self._watermark)
        for cell, keys in self._cells.take_touched().items():
            for start in self._grid.windows_over(cell):
                if start >= first:
                    changed.setdefault(start, set()).update(keys)
        for at in sorted(changed):
            yield from self._results.of_window(at, UPDATE, changed[at])

    def _tick_ms(self, mark_ms: int) -> int:
        """Return when an update of what changes at this watermark is due."""
        if self._emission.kind != "every":
            return FOREVER_MS
        return floor_to(mark_ms, self._emission.every_ms, 0) + self._emission.every_ms

    def _set_due(self) -> None:
        cells = self._cells
        due = self._tick_ms(self._watermark) if cells.has_touched else FOREVER_MS
        start = cells.next_window(self._grid.open_from(self._watermark))
        if start is not None:
            due = min(due, self._grid.fire_ms(start))
        if cells.starts:
            due = min(due, cells.clean_ms(cells.starts[0]))
        self.next_due_ms = AT_ONCE if self._again else due

    # --- state -----------------------------------------------------------------------------------

    def drain(self) -> Mapping[bytes, bytes | None]:
        """See ``Operator.drain``."""
        is_close = self._emission.kind == "close"
        return self._cells.drain(None if is_close else self._tick_ms(self._watermark))

    def trim(self, rows: int) -> None:
        """See ``Operator.trim``."""
        self._cells.trim(rows)

    @property
    def size(self) -> int:
        """See ``Operator.size``."""
        return len(self._cells)

    @property
    def changed(self) -> int:
        """See ``Operator.changed``."""
        return self._cells.changed


def _rows_of(rows: Sequence[WindowRow]) -> Rows:
    if not rows:
        return NO_ROWS
    times = [row.end - 1 for row in rows]
    return Rows([row.key for row in rows], times, rows, [NEVER_MS] * len(rows), [0] * len(rows))
