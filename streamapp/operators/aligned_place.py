"""Where rows go: into which cells of aligned windows, and for which windows they are late.

A row is judged by its own mark, window by window, so results do not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from streamapp.core.aggregates import Inputs
from streamapp.core.int_columns import as_numpy
from streamapp.core.rows import Rows
from streamapp.core.times import COLUMN_LIMIT_MS
from streamapp.core.windows import Grid, IntArray, floor_to
from streamapp.operators.pick import picked

#: Rows from which on columns pay: below, their calls cost more than a loop.
MANY: Final = 256
#: The starts of cells: an array where rows are worked on as columns.
Starts = Sequence[int] | IntArray


@dataclass(slots=True)
class Placed:
    """What becomes of rows. Windows are starts; pairs are ``(index of the row, window)``.

    Entry ``i`` is row ``indices[i]`` (``None``: row ``i``) in the cell that starts at
    ``starts[i]``. ``late`` rows are late for all of their windows. ``again`` has the windows that
    have fired and take the row, ``closed`` those that take it no more.
    """

    starts: Starts = ()
    indices: Sequence[int] | None = None
    late: list[int] = field(default_factory=list)
    again: list[tuple[int, int]] = field(default_factory=list)
    closed: list[tuple[int, int]] = field(default_factory=list)

    def entries(self, rows: Rows, inputs: Inputs, times: IntArray | None) -> Entries:
        """Return the rows as they go into cells."""
        if self.indices is None:
            return Entries(rows, self.starts, inputs, times)
        if times is not None:
            times = times[np.array(self.indices, np.int64)]
        return Entries(picked(rows, self.indices), self.starts, inputs.take(self.indices), times)

    def judge(self, grid: Grid, index: int, time_ms: int, mark_ms: int) -> bool:
        """Note which windows of a row have fired; return whether one takes it."""
        windows = grid.windows_at(time_ms)
        for start in windows:
            if grid.fire_ms(start) > mark_ms:
                return True
            pairs = self.again if grid.clean_ms(start) > mark_ms else self.closed
            pairs.append((index, start))
        if not windows:
            return False  # between two windows: late for none
        if grid.clean_ms(windows[-1]) > mark_ms:
            return True
        self.late.append(index)
        return False


@dataclass(frozen=True, slots=True)
class Entries:
    """Rows as they go into cells: entry ``i`` goes into the cell that starts at ``starts[i]``.

    ``times`` are those of the rows as an array where they are worked on as columns.
    """

    rows: Rows
    starts: Starts
    inputs: Inputs
    times: IntArray | None


class TimeColumns:
    """The event times of rows as arrays; the last one is kept: it is asked for several times."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._last: tuple[Sequence[int], IntArray | None] = (), None

    def of(self, rows: Rows, *, after_many: bool = False) -> IntArray | None:
        """Return the times if rows may be worked on as columns, and it pays.

        It does for many, and for few behind many: their cells are columns now, and to bring the
        state of a key back takes longer.
        """
        if (
            (len(rows) < MANY and not after_many)
            or not self._grid.fits_columns
            or not _fits(rows.marks[-1])
        ):
            return None
        if rows.times is not self._last[0]:
            times = as_numpy(rows.times)
            fit = _fits(int(times.min())) and _fits(int(times.max()))
            self._last = rows.times, times if fit else None
        return self._last[1]


def place(grid: Grid, rows: Rows, times: IntArray | None) -> Placed:
    """Find the cells of rows, and what they are late for; ``times`` if they fit columns."""
    if not grid.in_panes:
        return _in_windows(grid, rows)
    found = Placed(_cells_of(grid, rows, times))
    refused = {
        index
        for index in _suspects(grid, rows, times)
        if not found.judge(grid, index, rows.times[index], rows.marks[index])
    }
    if refused:
        found.indices = [index for index in range(len(rows)) if index not in refused]
        found.starts = [int(found.starts[index]) for index in found.indices]
    return found


def distinct(starts: IntArray, step_ms: int) -> tuple[list[int], IntArray | None]:
    """Return the distinct starts, and for each of ``starts`` its place; ``None`` if all are one."""
    least, most = int(starts.min()), int(starts.max())
    if least == most:
        return [least], None
    if most - least >= len(starts) * step_ms:
        found, which = np.unique(starts, return_inverse=True)
        return found.tolist(), which
    # Side by side, as usual: no need to sort.
    places = (starts - least) // step_ms
    is_there = np.bincount(places) > 0
    found = least + step_ms * np.flatnonzero(is_there)
    return found.tolist(), (np.cumsum(is_there) - 1)[places]


def _fits(time_ms: int) -> bool:
    return -2 * COLUMN_LIMIT_MS <= time_ms <= COLUMN_LIMIT_MS


def _cells_of(grid: Grid, rows: Rows, times: IntArray | None) -> Starts:
    step, offset = grid.step_ms, grid.offset_ms
    if times is not None:
        return floor_to(times, step, offset)
    return [time - (time - offset) % step for time in rows.times]


def _suspects(grid: Grid, rows: Rows, times: IntArray | None) -> Iterable[int]:
    """Return the rows that may be late for a window, or in none."""
    if grid.has_gaps:
        return range(len(rows))
    least = min(rows.times) if times is None else int(times.min())
    if grid.fire_ms(grid.first_start(least)) > rows.marks[-1]:
        return ()
    if times is None:
        return range(len(rows))
    fires = grid.first_start(times) + (grid.size_ms - 1)
    suspects: list[int] = np.flatnonzero(fires <= as_numpy(rows.marks)).tolist()
    return suspects


def _in_windows(grid: Grid, rows: Rows) -> Placed:
    found = Placed()
    starts: list[int] = []
    indices: list[int] = []
    for index, (time, mark) in enumerate(zip(rows.times, rows.marks, strict=True)):
        if found.judge(grid, index, time, mark):
            cells = [start for start in grid.cells_at(time) if grid.clean_ms(start) > mark]
            starts += cells
            indices += [index] * len(cells)
    found.starts, found.indices = starts, indices
    return found
