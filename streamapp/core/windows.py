"""Window specifications, and the one formula that places an event time into windows.

All intervals are half-open ``[start, end)`` in integer ms since 1970. Rules: Flink's (semantics in
docs/windows.md). Pure; numbers and int64 arrays go through the same formulas.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Final, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt

from streamapp.core.times import COLUMN_LIMIT_MS, FOREVER_MS, NEVER_MS, plus

IntArray = npt.NDArray[np.int64]
_Times = TypeVar("_Times", int, IntArray)

#: Most windows that one record may lie in: each costs some microseconds of the worker's loop.
MOST_WINDOWS: Final = 10_000

#: What becomes of a record that is later than the allowed lateness: always counted.
OnLate = Literal["drop", "side", "correct"]


@dataclass(frozen=True, slots=True)
class Lateness:
    """How long a window takes late records after it has closed, and what becomes of later ones."""

    allowed_ms: int = 0
    on_late: OnLate = "drop"


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows ``[start, start + size_ms)``, one after the other; ``start = offset_ms`` mod size."""

    size_ms: int
    offset_ms: int = 0
    late: Lateness = Lateness()


@dataclass(frozen=True, slots=True)
class Hopping:
    """Windows of ``size_ms`` that start every ``slide_ms``; the size need be no multiple of it."""

    size_ms: int
    slide_ms: int
    offset_ms: int = 0
    late: Lateness = Lateness()


@dataclass(frozen=True, slots=True)
class Sliding:
    """The window of a record at ``t`` is ``[t - size_ms, t]``, both ends included."""

    size_ms: int
    late: Lateness = Lateness()


@dataclass(frozen=True, slots=True)
class Session:
    """Records of one key that are at most ``gap_ms`` apart; ``end`` is the last time + gap."""

    gap_ms: int
    late: Lateness = Lateness()


@dataclass(frozen=True, slots=True)
class Count:
    """Every ``count`` records of a key, in the order of arrival."""

    count: int


@dataclass(frozen=True, slots=True)
class Global:
    """One window for all time; emits every ``count`` records of a key and/or every ``every_ms``."""

    count: int | None = None
    every_ms: int | None = None


WindowSpec = Tumbling | Hopping | Sliding | Session | Count | Global


@dataclass(frozen=True, slots=True)
class Emission:
    """When results leave: ``close`` (final), ``update`` (per commit), ``every`` (event time)."""

    kind: Literal["close", "update", "every"] = "close"
    every_ms: int = 0


#: Windows are made of panes up to this many panes per window, or this many per overlapping window:
#: beyond, a record in each of its windows costs less than a window that is put together.
_MANY_PANES: Final = 64
_PANES_PER_OVERLAP: Final = 4


def floor_to(times: _Times, step_ms: int, offset_ms: int) -> _Times:
    """Return the greatest ``offset_ms + n * step_ms`` at or before each time, also below zero."""
    return times - (times - offset_ms) % step_ms


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the windows of a tumbling or hopping spec lie, and the cells that keep their state.

    A window starts every ``slide_ms``; the windows of ``t`` are those with a start in
    ``(t - size_ms, t]``. A cell ``[c, c + cell_ms)`` starts every ``step_ms`` and is the unit of
    state. Cells are panes (``cell_ms == step_ms`` divides size and slide: a record is in one cell,
    a window consists of several) or windows (a record is in several cells, a window is one).
    """

    size_ms: int
    slide_ms: int
    offset_ms: int
    allowed_ms: int
    cell_ms: int
    step_ms: int

    @classmethod
    def of(cls, spec: Tumbling | Hopping) -> Self:
        """Return the grid of a spec, in panes unless a window would consist of too many."""
        size, slide = spec.size_ms, spec.slide_ms if isinstance(spec, Hopping) else spec.size_ms
        pane = gcd(size, slide)
        overlap = -(-size // slide)
        in_panes = size // pane <= max(_MANY_PANES, _PANES_PER_OVERLAP * overlap)
        cell, step = (pane, pane) if in_panes else (size, slide)
        return cls(size, slide, spec.offset_ms, spec.late.allowed_ms, cell, step)

    @property
    def is_single(self) -> bool:
        """Whether a window is one cell."""
        return self.cell_ms == self.size_ms

    @property
    def in_panes(self) -> bool:
        """Whether every time is in exactly one cell."""
        return self.cell_ms == self.step_ms

    @property
    def has_gaps(self) -> bool:
        """Whether there are times in no window."""
        return self.slide_ms > self.size_ms

    def first_start(self, times: _Times) -> _Times:
        """Return the least start of a window that ends after each time."""
        return floor_to(times - self.size_ms, self.slide_ms, self.offset_ms) + self.slide_ms

    def windows_at(self, time_ms: int) -> range:
        """Return the starts of the windows of a time."""
        last = floor_to(time_ms, self.slide_ms, self.offset_ms)
        return range(self.first_start(time_ms), last + 1, self.slide_ms)

    def cells_at(self, time_ms: int) -> range:
        """Return the starts of the cells of a time."""
        last = floor_to(time_ms, self.step_ms, self.offset_ms)
        first = floor_to(time_ms - self.cell_ms, self.step_ms, self.offset_ms) + self.step_ms
        return range(first, last + 1, self.step_ms)

    def windows_over(self, cell_ms: int) -> range:
        """Return the starts of the windows that a cell is part of; none for one between windows."""
        last = floor_to(cell_ms, self.slide_ms, self.offset_ms)
        first = cell_ms + self.cell_ms - self.size_ms
        return range(
            floor_to(first - 1, self.slide_ms, self.offset_ms) + self.slide_ms,
            last + 1,
            self.slide_ms,
        )

    def cells_in(self, start_ms: int) -> range:
        """Return the starts of the cells that a window consists of, in the order of time."""
        return range(start_ms, start_ms + self.size_ms - self.cell_ms + 1, self.step_ms)

    def fire_ms(self, start_ms: int) -> int:
        """Return the least watermark at which a window is complete: its last instant."""
        return plus(start_ms, self.size_ms) - 1

    def clean_ms(self, start_ms: int) -> int:
        """Return the least watermark at which a window takes no more records."""
        return plus(self.fire_ms(start_ms), self.allowed_ms)

    def open_from(self, watermark_ms: int) -> int:
        """Return the least start of a window that has not fired at this watermark."""
        if watermark_ms >= FOREVER_MS - 1:
            return 2 * FOREVER_MS  # the last instant of every saturated window has passed
        return (
            floor_to(watermark_ms - self.size_ms + 1, self.slide_ms, self.offset_ms) + self.slide_ms
        )

    def due_ms(self, time_ms: int, mark_ms: int) -> int:
        """Return when the first window that takes a record fires, ``NEVER_MS`` if it has fired.

        ``FOREVER_MS`` if there is none: the record is late for all of its windows, or in none.
        """
        for start in self.windows_at(time_ms):
            if self.clean_ms(start) > mark_ms:
                fire = self.fire_ms(start)
                return NEVER_MS if fire <= mark_ms else fire
        return FOREVER_MS

    @property
    def fits_columns(self) -> bool:
        """Whether times within ``COLUMN_LIMIT_MS`` can be worked on as 64-bit columns."""
        return self.size_ms + self.slide_ms + self.allowed_ms + abs(self.offset_ms) < (
            COLUMN_LIMIT_MS
        )

    def dues_ms(self, times: IntArray, marks: IntArray) -> IntArray:
        """Return ``due_ms`` of each pair."""
        slide, offset = self.slide_ms, self.offset_ms
        kept = floor_to(marks - (self.size_ms + self.allowed_ms - 1), slide, offset) + slide
        first = np.maximum(self.first_start(times), kept)
        fire = first + (self.size_ms - 1)
        open_dues = np.where(fire <= marks, NEVER_MS, fire)
        return np.where(first > floor_to(times, slide, offset), FOREVER_MS, open_dues)
