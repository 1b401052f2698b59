"""Rows of an operator's state: what changed since the last drain, and timers kept beside the rows.

Layout, in the order of ``serde.ordered_keys``: ``(META,)`` is what the operator as a whole
remembers, ``(TIMER, due_ms, name)`` says when to look at what is called ``name``, and
``(ROW, ...)`` are the rows themselves. So what is due is found without looking at what is not.
"""

from __future__ import annotations

import heapq
import struct
from typing import Final

from streamapp.core.times import FOREVER_MS, NEVER_MS
from streamapp.operators.operator import StateView
from streamapp.serde.ordered_keys import decode_key, encode_key

META: Final = 0
TIMER: Final = 1
ROW: Final = 2

_TIMERS = encode_key((TIMER,))
_END_OF_TIMERS = encode_key((ROW,))

#: Tags of ``serde.ordered_keys``; a number follows its tag.
_NEGATIVE, _POSITIVE = 0x14, 0x15
_number = struct.Struct(">BQ").pack

#: Rows that only take room are removed in steps of a part of the time for which they are needed:
#: at most an eighth longer (at least 100 ms), so that a busy partition does not stop for each one.
_STEPS: Final = 8
_LEAST_STEP_MS: Final = 100


def step_of(keep_ms: int) -> int:
    """Return in which steps rows are removed that are needed for so long."""
    return max(keep_ms // _STEPS, _LEAST_STEP_MS)


def rounded_up(time_ms: int, step_ms: int) -> int:
    """Return the first multiple of the step that is not before the time; never beyond 64 bits."""
    return min(-(-time_ms // step_ms) * step_ms, FOREVER_MS)


def int_part(number: int) -> bytes:
    """Return what a 64-bit number is inside of a key that is a tuple; as ``encode_key``, faster."""
    return _number(_POSITIVE, number) if number >= 0 else _number(_NEGATIVE, number + (1 << 64))


class Changes:
    """Rows written and deleted since the last drain.

    A row that came and went in between leaves no trace.
    """

    __slots__ = ("_new", "_rows")

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes | None] = {}
        self._new: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._rows)

    def insert(self, raw: bytes, data: bytes) -> None:
        """Write a row that was not there."""
        if raw not in self._rows:
            self._new.add(raw)
        self._rows[raw] = data

    def update(self, raw: bytes, data: bytes) -> None:
        """Write a row that was there, or may have been."""
        self._rows[raw] = data

    def delete(self, raw: bytes) -> None:
        """Delete a row that was there."""
        if raw in self._new:
            self._new.discard(raw)
            del self._rows[raw]
        else:
            self._rows[raw] = None

    def has_written(self, raw: bytes) -> bool:
        """Tell whether a row is about to be written."""
        return self._rows.get(raw) is not None

    def has_deleted(self, raw: bytes) -> bool:
        """Tell whether a row of the state is about to go."""
        return self._rows.get(raw, b"") is None

    def take(self) -> dict[bytes, bytes | None]:
        """Return the changes and forget them."""
        rows = self._rows
        self._rows, self._new = {}, set()
        return rows


class Timers:
    """At most one timer for each name; who sets it knows what it was set to before.

    A name is bytes: the parts of a key that follow the time.

    All that are due before ``_stored_ms`` are in the heap; later ones may be in the state only.
    The heap may hold timers that were moved since, or one twice: whoever takes them compares with
    what the timer was set to.
    """

    __slots__ = ("_changes", "_heap", "_state", "_stored_ms")

    def __init__(self, state: StateView, changes: Changes) -> None:
        self._state = state
        self._changes = changes
        self._heap: list[tuple[int, bytes]] = []
        #: The first call looks at the state, not this constructor: it may not be restored yet.
        self._stored_ms = NEVER_MS

    @property
    def next_ms(self) -> int:
        """The least watermark at which a timer may be due."""
        return min(self._heap[0][0], self._stored_ms) if self._heap else self._stored_ms

    def move(self, name: bytes, old_ms: int, new_ms: int) -> None:
        """Set a timer; ``FOREVER_MS`` stands for none."""
        if old_ms == new_ms:
            return
        if old_ms < FOREVER_MS:
            self._changes.delete(_TIMERS + int_part(old_ms) + name)
        if new_ms < FOREVER_MS:
            self._changes.insert(_TIMERS + int_part(new_ms) + name, b"")
            heapq.heappush(self._heap, (new_ms, name))

    def due(self, watermark_ms: int) -> list[tuple[int, bytes]]:
        """Return ``(due_ms, name)`` of what is due, in that order; see the class about moved ones.

        The caller moves each timer of these that is still set.
        """
        if self._stored_ms <= watermark_ms:
            self._load(watermark_ms)
        heap = self._heap
        due = []
        while heap and heap[0][0] <= watermark_ms:
            due.append(heapq.heappop(heap))
        return due

    def correct(self, name: bytes, fired_ms: int, due_ms: int) -> None:
        """Set the timer of what was due at ``fired_ms`` and is not: it is to be due at ``due_ms``.

        Nothing is to do for one that was moved. One that an operator of other bounds has set,
        before the application was changed, is still where that has put it.
        """
        if due_ms == FOREVER_MS:
            return
        raw = _TIMERS + int_part(due_ms) + name
        if not self._changes.has_written(raw) and self._state.get(raw) is None:
            self.move(name, fired_ms, due_ms)

    def trim(self, count: int) -> None:
        """Keep no more than so many in memory; all of them are in the state."""
        if len(self._heap) > count:
            first = heapq.nsmallest(count + 1, self._heap)
            self._stored_ms = min(self._stored_ms, first.pop()[0])
            self._heap = first

    def _load(self, watermark_ms: int) -> None:
        """Take what the state holds from ``_stored_ms`` to the watermark into the heap."""
        start = _TIMERS + int_part(self._stored_ms)
        self._stored_ms = FOREVER_MS
        for raw, _ in self._state.scan(start, _END_OF_TIMERS):
            _, due_ms, *_ = decode_key(raw)
            if due_ms > watermark_ms:
                self._stored_ms = due_ms
                return
            if not self._changes.has_deleted(raw):
                heapq.heappush(self._heap, (due_ms, raw[len(start) :]))
