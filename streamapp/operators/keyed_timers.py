"""Timers of keys: who has work at which watermark, durable and ordered by time.

A timer is a row of the operator's state, so that after a restart only what is due is looked at.
Memory holds the timers up to a horizon, and those that the state does not have yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Final

from streamapp.core.times import FOREVER_MS
from streamapp.operators.operator import StateView

#: First byte of the rows that are timers; the time and the key follow.
TIMER: Final = b"\x00"
_END: Final = b"\x01"
_SHIFT: Final = 1 << 63
#: Timers read from the state at once.
_PAGE: Final = 1_000


def timer_row(due_ms: int, raw: bytes) -> bytes:
    """Return the state's key of a timer; such keys are ordered by time."""
    return TIMER + (due_ms + _SHIFT).to_bytes(8, "big") + raw


def _read(row: bytes) -> tuple[int, bytes]:
    return int.from_bytes(row[1:9], "big") - _SHIFT, row[9:]


class Timers:
    """A queue of ``(due, key)``. It may hold timers that were moved: whoever takes one asks."""

    def __init__(self, state: StateView) -> None:
        self._state = state
        self._heap: list[tuple[int, bytes]] = []
        self._horizon = FOREVER_MS

    def __len__(self) -> int:
        return len(self._heap)

    def restore(self, before_ms: int) -> None:
        """Forget what memory holds; timers are looked for in the state from ``before_ms`` on."""
        self._heap.clear()
        self._horizon = before_ms

    def push(self, due_ms: int, raw: bytes) -> None:
        """Add a timer; one that is never due is none."""
        if due_ms < FOREVER_MS:
            heappush(self._heap, (due_ms, raw))

    def first(self) -> tuple[int, bytes] | None:
        """Return the timer that is due first, or ``None``."""
        heap = self._heap
        while self._horizon < FOREVER_MS and (not heap or heap[0][0] > self._horizon):
            self._load()
        return heap[0] if heap else None

    def pop(self) -> None:
        """Remove the timer that ``first`` returned."""
        heappop(self._heap)

    def trim(self, count: int) -> None:
        """Keep about so many timers; the state must have them all."""
        heap = self._heap
        if len(heap) > count:
            heap.sort()
            self._horizon = min(self._horizon, heap[count - 1][0] if count else heap[0][0] - 1)
            self._heap = [timer for timer in heap if timer[0] <= self._horizon]

    def _load(self) -> None:
        """Read the next page; timers of one time are read together."""
        rows = self._state.scan(timer_row(self._horizon + 1, b""), _END)
        page = [_read(row) for row, _ in islice(rows, _PAGE)]
        self._horizon = page[-1][0] if len(page) == _PAGE else FOREVER_MS
        page += self._rest(rows) if page else ()
        self._heap += page
        heapify(self._heap)

    def _rest(self, rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[int, bytes]]:
        for row, _ in rows:
            timer = _read(row)
            if timer[0] > self._horizon:
                return
            yield timer
