"""Sessions as columns: keys with one open session that was never emitted, a slot for each.

Nothing else is held of such a key: no object, and no timer. A slot that is let go stays behind
until most are; then the others are written anew.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import repeat
from typing import Final, Self

import msgspec
import numpy as np
import numpy.typing as npt

from streamapp.core.aggregates import AggregateSet, Columns, Inputs
from streamapp.core.times import COLUMN_LIMIT_MS, FOREVER_MS
from streamapp.core.windows import IntArray
from streamapp.operators.aligned_columns import columns_of
from streamapp.operators.keyed_state import VERSION
from streamapp.operators.keyed_timers import timer_row
from streamapp.operators.session_held import OneSession, Stage

BoolArray = npt.NDArray[np.bool_]
#: Slots without a session that are put up with, whatever the number of others.
_FEW: Final = 1024
#: Columns of integers: see ``SessionSlots``.
_FIRST, _LAST, _TIMER, _DRAIN = range(4)
#: A key's row as ``KeyedState`` writes it; a template takes half of the time of an encoder.
_LINE: Final = b"[%d,%%d,[%%d,%%d,%d,%d,false,[],%%b]]" % (VERSION, Stage.OPEN, FOREVER_MS)
_encode_lines: Final = msgspec.json.Encoder().encode_lines


class SessionSlots:
    """See the module. Event times and gaps must fit columns (``COLUMN_LIMIT_MS``).

    ``keys`` and ``row_keys`` tell whose session is in a slot, and which row of the state is its.
    Of each slot there are the first and the last time of the session (``FOREVER_MS``: there is
    none), the timer that the state has (``FOREVER_MS``: the state has no row), the drain that its
    last change waited for, and whether it has changed since.
    """

    def __init__(self, aggregates: AggregateSet, columns: Columns, gap_ms: int) -> None:
        self._aggregates = aggregates
        self._columns = columns
        self._gap = gap_ms
        self.keys: list[Hashable] = []
        self.row_keys: list[bytes] = []
        self._of: dict[Hashable, int] = {}
        #: The timers of rows that the state has and whose session has ended.
        self._ended: dict[bytes, int] = {}
        self._times: IntArray = np.full((4, 0), FOREVER_MS)
        self._is_changed: BoolArray = np.zeros(0, np.bool_)
        self._drains = 0
        #: A slot, and its last time when there was none before; known to be out of date by that.
        self._oldest = (0, FOREVER_MS)

    @classmethod
    def of(cls, aggregates: AggregateSet, gap_ms: int) -> Self | None:
        """Return slots without sessions, or ``None`` if an aggregate has no columns."""
        columns = aggregates.columns() if aggregates.names else None
        return None if columns is None else cls(aggregates, columns, gap_ms)

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self._of)

    def __contains__(self, key: Hashable) -> bool:
        """Tell whether a key has a session here."""
        return key in self._of

    @property
    def first(self) -> IntArray:
        """The first time of the session of each slot."""
        times: IntArray = self._times[_FIRST]
        return times

    @property
    def last(self) -> IntArray:
        """The last time of the session of each slot."""
        times: IntArray = self._times[_LAST]
        return times

    @property
    def changed(self) -> int:
        """Number of rows of the state that are out of date."""
        return int(np.count_nonzero(self._is_changed)) + len(self._ended)

    @property
    def next_due_ms(self) -> int:
        """The least watermark at which a session closes."""
        if not self._of:
            return FOREVER_MS
        slot, last_ms = self._oldest
        if self.last[slot] != last_ms:
            slot = int(self.last.argmin())
            last_ms = int(self.last[slot])
            self._oldest = slot, last_ms
        return last_ms + self._gap

    def due(self, watermark_ms: int) -> IntArray:
        """Return the slots of the sessions that close by this watermark."""
        if self.next_due_ms > watermark_ms:
            return np.zeros(0, np.int64)
        return np.flatnonzero(self.last <= min(watermark_ms - self._gap, COLUMN_LIMIT_MS))

    def first_due(self, watermark_ms: int, count: int) -> int:
        """Return a watermark, at most this one, by which about ``count`` of the due close first."""
        lasts = self.last[self.due(watermark_ms)]
        if len(lasts) <= count:
            return watermark_ms
        return int(np.partition(lasts, count - 1)[count - 1]) + self._gap

    # --- records ---------------------------------------------------------------------------------

    def slots_of(self, keys: Sequence[Hashable]) -> IntArray:
        """Return the slot of each key, -1 for those that have none."""
        return np.fromiter(map(self._of.get, keys, repeat(-1)), np.int64, len(keys))

    def apart(self, slots: IntArray, times: IntArray) -> IntArray:
        """Return the slots with a time that does not touch their session as it is now."""
        far = (times < self.first[slots] - self._gap) | (times > self.last[slots] + self._gap)
        return np.unique(slots[far])

    def add(self, slots: IntArray, inputs: Inputs, times: IntArray) -> None:
        """Add one record to each slot, in order; each touches its session."""
        self._columns.add(slots, inputs, times, 0, len(slots))
        np.minimum.at(self.first, slots, times)
        np.maximum.at(self.last, slots, times)
        self._is_changed[slots] = True

    def names(self, slots: IntArray) -> tuple[list[Hashable], list[bytes]]:
        """Return the keys of slots, and the rows of the state that are theirs."""
        chosen = slots.tolist()
        return [self.keys[slot] for slot in chosen], [self.row_keys[slot] for slot in chosen]

    def mark_changed(self, slots: IntArray) -> None:
        """Have the rows of slots written whatever they were before."""
        self._is_changed[slots] = True

    # --- sessions come and go --------------------------------------------------------------------

    def begin(
        self, keys: Sequence[Hashable], row_keys: Sequence[bytes], spans: npt.ArrayLike
    ) -> IntArray:
        """Begin sessions without a record; return their slots.

        ``spans`` are their first and their last times. Where a key has one already, that one must
        end before the key is looked up.
        """
        start = self._columns.reserve(len(keys))
        stop = start + len(keys)
        self._grow(stop)
        self._times[_FIRST : _LAST + 1, start:stop] = spans
        self._of.update(zip(keys, range(start, stop), strict=True))
        self.keys += keys
        self.row_keys += row_keys
        earliest = start + int(self.last[start:stop].argmin())
        if self.last[earliest] < self._oldest[1]:
            self._oldest = earliest, int(self.last[earliest])
        return np.arange(start, stop)

    def take(
        self, keys: Sequence[Hashable], row_keys: Sequence[bytes], many: Sequence[OneSession]
    ) -> IntArray:
        """Move sessions here, each the only one of its key, open and never emitted."""
        spans = [one.first for one in many], [one.last for one in many]
        slots = self.begin(keys, row_keys, spans)
        self._columns.load_accs(slots, [one.acc for one in many])
        return slots

    def results(self, slots: IntArray) -> Sequence[Sequence[object]]:
        """See ``Columns.results``."""
        return self._columns.results(slots)

    def end(self, slots: IntArray) -> None:
        """End sessions: their rows leave the state."""
        timers = self._times[_TIMER, slots]
        stored = slots[timers < FOREVER_MS].tolist()
        row_keys = map(self.row_keys.__getitem__, stored)
        self._ended.update(zip(row_keys, timers[timers < FOREVER_MS].tolist(), strict=True))
        self._drop(slots)

    def leave(self, slots: IntArray) -> list[tuple[Hashable, OneSession, int]]:
        """Let go of sessions; return each with its key and the timer that the state has."""
        names = [self.keys[slot] for slot in slots.tolist()]
        firsts, lasts, timers = self._times[: _TIMER + 1, slots].tolist()
        made = map(OneSession, firsts, lasts, self._columns.accs(slots))
        self._drop(slots)
        return [*zip(names, made, timers, strict=True)]

    def disown(self, row_key: bytes, timer_ms: int) -> None:
        """Note a row that the state has, and whose session is no more what it tells."""
        self._ended[row_key] = timer_ms

    def has_ended(self, row_key: bytes) -> bool:
        """Tell whether the state has a row that is no more true."""
        return row_key in self._ended

    def _drop(self, slots: IntArray) -> None:
        of = self._of
        for slot in slots.tolist():
            key = self.keys[slot]
            if of.get(key) == slot:
                del of[key]
        self._is_changed[slots] = False
        self._times[:, slots] = FOREVER_MS

    def _grow(self, size: int) -> None:
        capacity = len(self._is_changed)
        if size > capacity:
            more = max(size, _FEW)
            self._times = np.hstack((self._times, np.full((4, more), FOREVER_MS)))
            self._is_changed = np.append(self._is_changed, np.zeros(more, np.bool_))

    def compact(self) -> None:
        """Write the sessions anew if most slots have none."""
        if len(self.keys) <= 2 * len(self._of) + _FEW:
            return
        slots = np.fromiter(self._of.values(), np.int64, len(self._of))
        columns = columns_of(self._aggregates)
        columns.reserve(len(slots))
        columns.merge(np.arange(len(slots)), self._columns, slots)
        self._columns = columns
        self.keys = [*self._of]
        self.row_keys = [self.row_keys[slot] for slot in slots.tolist()]
        self._of = dict(zip(self.keys, range(len(slots)), strict=True))
        self._times = self._times[:, slots]
        self._is_changed = self._is_changed[slots]
        self._oldest = 0, self._oldest[1]

    # --- state -----------------------------------------------------------------------------------

    def drain(self, watermark_ms: int) -> dict[bytes, bytes | None]:
        """Return the rows of what has changed since the last call.

        A timer that the state has stays as it is, until the watermark has passed it: that it lies
        too early costs less than a row for each time that its session has grown.
        """
        slots = np.flatnonzero(self._is_changed)
        self._is_changed[slots] = False
        self._drains += 1
        self._times[_DRAIN, slots] = self._drains
        changed: dict[bytes, bytes | None] = {}
        # First of all: the key may have another session by now.
        for row_key, timer_ms in self._ended.items():
            changed[row_key] = changed[timer_row(timer_ms, row_key[1:])] = None
        self._ended.clear()
        self._move_timers(slots, watermark_ms, changed)
        row_keys = map(self.row_keys.__getitem__, slots.tolist())
        changed.update(zip(row_keys, self._lines(slots), strict=True))
        return changed

    def _move_timers(
        self, slots: IntArray, watermark_ms: int, changed: dict[bytes, bytes | None]
    ) -> None:
        timers = self._times[_TIMER, slots]
        moving = slots[(timers <= watermark_ms) | (timers == FOREVER_MS)]
        before = self._times[_TIMER, moving].tolist()
        self._times[_TIMER, moving] = self.last[moving] + self._gap
        after = self._times[_TIMER, moving].tolist()
        for slot, old_ms, new_ms in zip(moving.tolist(), before, after, strict=True):
            raw = self.row_keys[slot][1:]
            if old_ms < FOREVER_MS:
                changed[timer_row(old_ms, raw)] = None
            changed[timer_row(new_ms, raw)] = b""

    def _lines(self, slots: IntArray) -> list[bytes]:
        packed = [*zip(*self._columns.packed_slots(slots), strict=True)]
        accs = _encode_lines(packed).splitlines()
        times = self._times[[_TIMER, _FIRST, _LAST]][:, slots].tolist()
        return [*map(_LINE.__mod__, zip(*times, accs, strict=True))]

    def forget(self, count: int) -> list[tuple[int, bytes]]:
        """Let go of the sessions that have not changed for longest; the state must have them all.

        Returns:
            The timers that the state has of them, each with its key.
        """
        some = np.fromiter(self._of.values(), np.int64, len(self._of))
        if count < len(some):
            some = some[np.argpartition(self._times[_DRAIN, some], count)[:count]]
        timers = self._times[_TIMER, some].tolist()
        raws = [self.row_keys[slot][1:] for slot in some.tolist()]
        self._drop(some)
        return [*zip(timers, raws, strict=True)]
