"""Sessions as columns: keys with one open session that was never emitted, a slot for each.

A slot that is let go stays behind until most are; then the others are written anew.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence
from itertools import repeat
from typing import Final, Self

import msgspec
import numpy as np
import numpy.typing as npt

from streamapp.core.aggregates import AggregateSet, Columns, Inputs
from streamapp.core.times import FOREVER_MS
from streamapp.core.windows import IntArray
from streamapp.operators.aligned_columns import columns_of
from streamapp.operators.keyed_state import DATA, VERSION
from streamapp.operators.session_held import OneSession, Sessions, Stage

#: Slots without a session that are put up with, whatever the number of others.
_FEW: Final = 1024
_encode_lines: Final = msgspec.json.Encoder().encode_lines


class SessionSlots:
    """See the module. Event times and gaps must fit columns (``COLUMN_LIMIT_MS``).

    ``first`` and ``last`` are those of the session in a slot; ``is_changed`` marks the slots that
    have changed since they were last stored.
    """

    def __init__(self, aggregates: AggregateSet, columns: Columns, gap_ms: int) -> None:
        self._aggregates = aggregates
        self._columns = columns
        self._gap = gap_ms
        self._held: list[Sessions | None] = []
        self._row_keys: list[bytes] = []
        self._of: dict[Hashable, int] = {}
        self._first: IntArray = np.zeros(0, np.int64)
        self._last: IntArray = np.zeros(0, np.int64)
        self._timer: IntArray = np.zeros(0, np.int64)
        self._is_changed: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)
        #: Whether the state has a row of this slot with the timer in ``_timer``.
        self._is_settled: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)

    @classmethod
    def of(cls, aggregates: AggregateSet, gap_ms: int) -> Self | None:
        """Return slots without sessions, or ``None`` if an aggregate has no columns."""
        columns = aggregates.columns() if aggregates.names else None
        return None if columns is None else cls(aggregates, columns, gap_ms)

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self._of)

    @property
    def changed(self) -> int:
        """Number of sessions that have changed since they were last stored."""
        return int(np.count_nonzero(self._is_changed))

    def due_ms(self, slot: int) -> int:
        """Return the watermark at which a session closes."""
        return int(self._last[slot]) + self._gap - 1

    def due(self, watermark_ms: int) -> list[int]:
        """Return the slots of the sessions that close by this watermark."""
        lasts = self._last[: len(self._held)]
        found = np.flatnonzero(lasts <= watermark_ms - self._gap + 1).tolist()
        return [slot for slot in found if self._held[slot] is not None]

    # --- records ---------------------------------------------------------------------------------

    def slots_of(self, keys: Sequence[Hashable]) -> IntArray:
        """Return the slot of each key, -1 for those that have none."""
        return np.fromiter(map(self._of.get, keys, repeat(-1)), np.int64, len(keys))

    def apart(self, slots: IntArray, times: IntArray) -> list[int]:
        """Return the slots with a time that does not touch their session as it is now."""
        far = (times < self._first[slots] - self._gap) | (times > self._last[slots] + self._gap)
        return np.unique(slots[far]).tolist() if far.any() else []

    def add(self, slots: IntArray, inputs: Inputs, times: IntArray) -> None:
        """Add one record to each slot, in order; each touches its session."""
        self._columns.add(slots, inputs, times, 0, len(slots))
        np.minimum.at(self._first, slots, times)
        np.maximum.at(self._last, slots, times)
        self._is_changed[slots] = True

    # --- between the two forms -------------------------------------------------------------------

    def take(self, many: Sequence[tuple[Sessions, OneSession]]) -> None:
        """Move sessions here: of each key the only one, open and never emitted."""
        firsts, lasts = [one.first for _, one in many], [one.last for _, one in many]
        rows = self._reserve([held for held, _ in many], firsts, lasts)
        self._columns.load_accs(rows, [one.acc for _, one in many])
        for held, _ in many:
            held.put([])

    def begin(self, keys: Sequence[Sessions], times: Sequence[int]) -> None:
        """Begin a session without a record for keys that have none."""
        self._reserve(keys, times, times)

    def _reserve(
        self, keys: Sequence[Sessions], firsts: Sequence[int], lasts: Sequence[int]
    ) -> IntArray:
        start = self._columns.reserve(len(keys))
        stop = start + len(keys)
        self._grow(stop)
        self._first[start:stop] = firsts
        self._last[start:stop] = lasts
        self._is_changed[start:stop] = False
        self._is_settled[start:stop] = False
        for slot, held in enumerate(keys, start):
            held.slot = self._of[held.key] = slot
        self._held += keys
        self._row_keys += [DATA + held.raw for held in keys]
        return np.arange(start, stop)

    def close(self, slots: Sequence[int]) -> tuple[list[Sessions], list[list[object]]]:
        """End sessions; return their keys, and a list for each name with the results."""
        rows = np.array(slots, np.int64)
        results = self._columns.results(rows)
        return self._drop(rows), results

    def spans(self, slots: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return the first and the last time of each session."""
        rows = np.array(slots, np.int64)
        return self._first[rows].tolist(), self._last[rows].tolist()

    def leave(self, slots: Sequence[int]) -> list[Sessions]:
        """Give sessions back to their keys; return those that have changed."""
        rows = np.array(slots, np.int64)
        firsts, lasts = self.spans(slots)
        changed = self._is_changed[rows].tolist()
        accs = self._columns.accs(rows)
        found = self._drop(rows)
        for held, first, last, acc in zip(found, firsts, lasts, accs, strict=True):
            one = OneSession(first, last, acc)
            one.is_calm = True  # who changes it says so
            held.put([one])
        return [held for held, was_changed in zip(found, changed, strict=True) if was_changed]

    def forget_all_but(self, kept: Container[Hashable]) -> None:
        """Let go of the sessions of other keys, which must be stored as they are."""
        self._drop(np.array([at for key, at in self._of.items() if key not in kept], np.int64))

    def _drop(self, rows: IntArray) -> list[Sessions]:
        found = []
        for slot in rows.tolist():
            held, self._held[slot] = self._held[slot], None
            if held is not None:
                held.slot = -1
                del self._of[held.key]
                found.append(held)
        self._is_changed[rows] = False
        self._last[rows] = FOREVER_MS
        return found

    def _grow(self, size: int) -> None:
        if size > len(self._first):
            more = max(size, _FEW)
            self._first = np.concatenate((self._first, np.zeros(more, np.int64)))
            self._last = np.concatenate((self._last, np.full(more, FOREVER_MS)))
            self._timer = np.concatenate((self._timer, np.zeros(more, np.int64)))
            self._is_changed = np.concatenate((self._is_changed, np.zeros(more, np.bool_)))
            self._is_settled = np.concatenate((self._is_settled, np.zeros(more, np.bool_)))

    def compact(self) -> None:
        """Write the sessions anew if most slots have none."""
        if len(self._held) <= 2 * len(self._of) + _FEW:
            return
        held = [one for one in self._held if one is not None]
        rows = np.array([one.slot for one in held], np.int64)
        columns = columns_of(self._aggregates)
        columns.reserve(len(rows))
        columns.merge(np.arange(len(rows)), self._columns, rows)
        self._columns, self._held = columns, [*held]
        self._row_keys = [self._row_keys[one.slot] for one in held]
        self._first, self._last = self._first[rows], self._last[rows]
        self._timer = self._timer[rows]
        self._is_changed, self._is_settled = self._is_changed[rows], self._is_settled[rows]
        for slot, one in enumerate(held):
            one.slot = self._of[one.key] = slot

    # --- state -----------------------------------------------------------------------------------

    def mark_changed(self, slot: int) -> None:
        """Mark a session, and its timer, as changed."""
        self._is_changed[slot] = True
        self._is_settled[slot] = False

    def changed_keys(self) -> list[Sessions]:
        """Return the keys that have changed since they were last stored."""
        rows = np.flatnonzero(self._is_changed).tolist()
        return [held for slot in rows if (held := self._held[slot]) is not None]

    def take_changed(self) -> tuple[dict[bytes, bytes | None], list[tuple[Sessions, bytes]]]:
        """Return the rows of what has changed since the last call.

        Those whose timer is stored as it is come as rows of the state, others with their keys.
        """
        rows = np.flatnonzero(self._is_changed)
        self._is_changed[rows] = False
        settled, others = rows[self._is_settled[rows]], rows[~self._is_settled[rows]]
        moved = [held for slot in others.tolist() if (held := self._held[slot]) is not None]
        self._timer[others] = [held.due_ms for held in moved]
        self._is_settled[others] = True
        row_keys = map(self._row_keys.__getitem__, settled.tolist())
        changed: dict[bytes, bytes | None] = dict(zip(row_keys, self._lines(settled), strict=True))
        return changed, [*zip(moved, self._lines(others), strict=True)]

    def _lines(self, rows: IntArray) -> list[bytes]:
        sessions = zip(
            self._first[rows].tolist(),
            self._last[rows].tolist(),
            repeat(Stage.OPEN.value),
            repeat(FOREVER_MS),
            repeat(object=False),
            repeat(()),
            zip(*self._columns.packed_slots(rows), strict=True),
            strict=False,
        )
        timers = self._timer[rows].tolist()
        lines = _encode_lines([*zip(repeat(VERSION), timers, sessions, strict=False)]).split(b"\n")
        lines.pop()
        return lines
