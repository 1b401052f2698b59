"""Records of many sessions at once: what only grows is worked on as columns, the rest one by one.

A batch is split by key. A key is worked on as columns if it has a slot (``session_slots``), its
session does not close within the batch, and all of its records touch the session as it was before
the batch: then none of them can do but extend it. Other keys leave their slots, and come back
after the batch if they are calm again. Keys do not meet, so the order between the two parts does
not matter; what closes in between is told at the row of the whole batch at which it is due.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Mapping, Sequence
from itertools import repeat
from typing import Final

import numpy as np

from streamapp.core.aggregates import AggregateSet, Inputs
from streamapp.core.rows import Rows
from streamapp.core.times import COLUMN_LIMIT_MS, FOREVER_MS
from streamapp.core.windows import Emission, IntArray, Session
from streamapp.operators.aligned_place import taken
from streamapp.operators.keyed import Adds, Emitted, KeyedWindows
from streamapp.operators.operator import StateView
from streamapp.operators.results import FINAL, WindowRow
from streamapp.operators.session_held import OneSession, Sessions, Stage
from streamapp.operators.session_slots import SessionSlots

#: Rows from which on columns pay: below, their calls cost more than a loop.
MANY: Final = 256


class ChosenAdds(Adds):
    """Some rows of a batch, ``indices`` of ``whole``, that wait to be added."""

    def __init__(
        self, aggregates: AggregateSet, whole: Rows, inputs: Inputs, indices: Sequence[int]
    ) -> None:
        super().__init__(aggregates, taken(whole, indices), inputs.take(indices), 0)
        self.whole = whole
        self.indices = indices


class SlottedSessions(KeyedWindows[Sessions]):
    """See the module."""

    def __init__(
        self,
        spec: Session,
        aggregates: AggregateSet,
        row: type[WindowRow],
        emission: Emission,
        state: StateView,
    ) -> None:
        super().__init__(aggregates, row, state, spec.late)
        self._gap = spec.gap_ms
        self._allowed = spec.late.allowed_ms
        fits = emission.kind == "close" and spec.gap_ms <= COLUMN_LIMIT_MS
        self._slots = SessionSlots.of(aggregates, spec.gap_ms) if fits else None

    # Rows in.

    def _take_all(self, rows: Rows, inputs: Inputs, out: Emitted) -> None:
        slots = self._slots
        if slots is None or len(rows) < MANY or not _fit(rows.times) or not _fit(rows.marks[-1:]):
            super()._take_all(rows, inputs, out)
            return
        if self.advances_itself:
            self._to_objects(slots, slots.due(rows.marks[-1]))
        times = np.fromiter(rows.times, np.int64, len(rows))
        self._take_many(slots, rows, times, inputs, out)
        self._mark = rows.marks[-1]

    def _take_many(
        self, slots: SessionSlots, rows: Rows, times: IntArray, inputs: Inputs, out: Emitted
    ) -> None:
        of = slots.slots_of(rows.keys)
        self._begin_many(slots, rows, of)
        has_slot = np.flatnonzero(of >= 0)
        apart = slots.apart(of[has_slot], times[has_slot])
        if apart:
            of[np.isin(of, apart)] = -1
            self._to_objects(slots, apart)
            has_slot = np.flatnonzero(of >= 0)
        if len(has_slot) == len(rows):
            slots.add(of, inputs, times)
        elif len(has_slot):
            slots.add(of[has_slot], inputs.take(has_slot.tolist()), times[has_slot])
        adds = ChosenAdds(self._aggregates, rows, inputs, np.flatnonzero(of < 0).tolist())
        self._take(adds, len(adds.rows), out)
        if self.advances_itself:
            self._advance_among(adds, len(rows) - 1, out)
        adds.flush()
        self._to_slots(slots, adds.rows)

    def _begin_many(self, slots: SessionSlots, rows: Rows, of: IntArray) -> None:
        """Begin the sessions of keys that have none; ``of`` is brought up to date."""
        kept, last_ms = self._kept, rows.marks[-1]
        new: dict[Hashable, int] = {}
        indices = np.flatnonzero(of < 0).tolist()
        for index in indices:
            if (key := rows.keys[index]) not in new:
                new[key] = index
        found = []
        for key, index in new.items():
            due_ms = rows.times[index] + self._gap - 1
            held = kept[key]
            if due_ms > last_ms and not held.sessions:
                self._touch(held)
                self._wake(held, due_ms)
                found.append((held, rows.times[index]))
        if found:
            slots.begin([held for held, _ in found], [time for _, time in found])
            of[indices] = slots.slots_of([rows.keys[index] for index in indices])

    def _advance_before(self, adds: Adds, out: Emitted) -> None:
        if isinstance(adds, ChosenAdds):
            self._advance_among(adds, adds.indices[adds.at], out)
        else:
            super()._advance_before(adds, out)

    def _advance_among(self, adds: ChosenAdds, last: int, out: Emitted) -> None:
        """Do what is due before any row of the batch from the one taken last up to ``last``."""
        marks, origins = adds.whole.marks, adds.whole.origins
        at = adds.indices[adds.at - 1] + 1 if adds.at else 0
        while at <= last and self.next_due_ms <= marks[last]:
            at = max(at, bisect_left(marks, self.next_due_ms))
            if at and origins[at] == origins[at - 1]:
                at += 1  # rows of one origin take effect together
                continue
            adds.flush()
            self._fire_before(adds.whole, at, out)

    # Between the two forms.

    def _to_objects(self, slots: SessionSlots, some: Sequence[int]) -> None:
        if some:
            for held in slots.leave(some):
                self._touch(held)

    def _to_object(self, held: Sessions) -> None:
        if held.slot >= 0 and self._slots is not None:
            self._to_objects(self._slots, [held.slot])

    def _due_of_slot(self, held: Sessions) -> int:
        return FOREVER_MS if self._slots is None else self._slots.due_ms(held.slot)

    def _to_slots(self, slots: SessionSlots, rows: Rows) -> None:
        """Move the sessions of these rows into slots that are simple enough."""
        kept = self._kept
        found = [
            (held, held.only)
            for key in dict.fromkeys(rows.keys)
            if (held := kept.get(key)) is not None and held.only is not None and _fits(held.only)
        ]
        if found:
            slots.take(found)
        slots.compact()

    # Work at a watermark.

    def advance(self, watermark_ms: int) -> Rows:
        """See ``Operator.advance``."""
        out = Emitted()
        if self._slots is not None and self.next_due_ms <= watermark_ms:
            self._close_many(self._slots, self._slots.due(watermark_ms - self._allowed), out)
            self._to_objects(self._slots, self._slots.due(watermark_ms))
        self._fire_all(watermark_ms, out)
        self._settle_if_asked()
        return out.rows(in_order=True)

    def _close_many(self, slots: SessionSlots, some: Sequence[int], out: Emitted) -> None:
        """Emit sessions of slots that are over, and let go of them."""
        if not some:
            return
        firsts, lasts = slots.spans(some)
        found, results = slots.close(some)
        keys, ends = [held.key for held in found], [last + self._gap for last in lasts]
        made = map(self._row, keys, firsts, ends, repeat(FINAL), firsts, lasts, *results)
        for held, end, row in zip(found, ends, made, strict=True):
            out.add((end, held.raw), row)
            held.due_ms = FOREVER_MS
            self._touch(held)
        self._timers.forget({held.raw for held in found})

    # State.

    def drain(self) -> Mapping[bytes, bytes | None]:
        """See ``Operator.drain``."""
        slots, kept = self._slots, self._kept
        if slots is None:
            return super().drain()
        for held in self._dirty:
            if held.slot >= 0:
                slots.mark_changed(held.slot)
        self._dirty = [held for held in self._dirty if held.slot < 0]
        for held in slots.changed_keys():
            kept[held.key] = kept.pop(held.key)  # as the others: see ``KeyedState.drain``
        changed, moved = slots.take_changed()
        for held, data in moved:
            self._drain(held, data, changed)
        changed.update(super().drain())
        return changed

    def trim(self, rows: int) -> None:
        """See ``Operator.trim``."""
        slots, kept = self._slots, self._kept
        if slots is None:
            super().trim(rows)
            return
        for held in slots.changed_keys():
            self._touch(held)
        super().trim(rows)
        slots.forget_all_but(kept)

    @property
    def changed(self) -> int:
        """See ``Operator.changed``."""
        return super().changed + (0 if self._slots is None else self._slots.changed)


def _fit(times: Sequence[int]) -> bool:
    return min(times) >= -2 * COLUMN_LIMIT_MS and max(times) <= COLUMN_LIMIT_MS


def _fits(one: OneSession) -> bool:
    return (
        one.stage is Stage.OPEN
        and one.tick_ms == FOREVER_MS
        and not one.is_current
        and not one.shown
        and -COLUMN_LIMIT_MS <= one.first <= one.last <= COLUMN_LIMIT_MS
    )
