"""Sessions in two forms, and how one becomes the other: columns for many, objects for the rest.

A key with one open session that was never emitted may have a slot (``session_slots``); all others
have objects, and timers in memory. The state's rows are the same for both. A timer of the state may
lie too early, never too late.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Final

import numpy as np

from streamapp.core.aggregates import AggregateSet
from streamapp.core.rows import Rows
from streamapp.core.times import COLUMN_LIMIT_MS, FOREVER_MS, NEVER_MS
from streamapp.core.windows import Emission, IntArray, Session
from streamapp.operators.keyed import Emitted, KeyedWindows
from streamapp.operators.keyed_state import DATA, data_rows, key_of, raw_key
from streamapp.operators.operator import StateView
from streamapp.operators.results import FINAL, WindowRow
from streamapp.operators.session_held import Sessions, Stage
from streamapp.operators.session_slots import BoolArray, SessionSlots

#: Sessions that close in one call: some 10 ms of work, after which others may have their turn.
PIECE: Final = 5_000


class SessionForms(KeyedWindows[Sessions]):
    """See the module. The sessions of a key are in ``_slots`` or in ``_kept``, never in both."""

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
        #: The greatest watermark that is known.
        self._watermark = NEVER_MS

    # From one form to the other.

    def load(self, key: Hashable) -> Sessions:
        """Return a key's sessions as objects."""
        slots = self._slots
        if slots is None:
            return super().load(key)
        if key in slots:
            self._to_objects(slots, slots.slots_of([key]))
            return self._kept[key]
        if slots.has_ended(DATA + raw_key(key)):
            return self._new(key)
        return super().load(key)

    def _to_objects(self, slots: SessionSlots, some: IntArray) -> None:
        """Move sessions from slots to objects, for who is about to change them."""
        for key, one, timer_ms in slots.leave(some) if len(some) else ():
            one.is_calm = True  # who changes it says so
            held = self._kept[key] = self._new(key)
            held.put([one])
            held.is_stored, held.stored_due_ms = timer_ms < FOREVER_MS, timer_ms
            self._touch(held)
            self._wake(held, self._due_of(held))

    def _to_slots(self, slots: SessionSlots, many: Sequence[Sessions]) -> IntArray:
        """Move sessions from objects to slots, which must fit; return their slots."""
        ones = [one for held in many if (one := held.only) is not None]
        for held in many:
            self._let_go(slots, held)
        return slots.take([held.key for held in many], [DATA + held.raw for held in many], ones)

    def _let_go(self, slots: SessionSlots, held: Sessions) -> None:
        """Forget the object of a key, for which ``slots`` is to have a session."""
        del self._kept[held.key]
        held.is_dirty = False
        if held.is_stored:
            slots.disown(DATA + held.raw, held.stored_due_ms)

    def _admitted(
        self, slots: SessionSlots, keys: Sequence[Hashable], times: IntArray, is_timely: BoolArray
    ) -> IntArray:
        """Find slots for keys that have none; return -1 where nothing fits.

        Keys without a session begin one at these times, if they may.
        """
        row_keys = data_rows(keys)
        chosen = np.full(len(keys), -1)
        begins = is_timely.copy()
        come: dict[int, Sessions] = {}
        for index, held in self._objects(slots, keys, row_keys):
            if held.sessions:
                begins[index] = False
            elif begins[index]:
                self._let_go(slots, held)
            if fits(held):
                come[index] = held
        if come:
            chosen[[*come]] = self._to_slots(slots, [*come.values()])
        if begins.any():
            new = np.flatnonzero(begins).tolist()
            names = [keys[index] for index in new], [row_keys[index] for index in new]
            chosen[begins] = slots.begin(*names, times[begins])
        return chosen

    def _objects(
        self, slots: SessionSlots, keys: Sequence[Hashable], row_keys: Sequence[bytes]
    ) -> Iterator[tuple[int, Sessions]]:
        """Iterate over those of the keys, by index, that have an object, or a row in the state."""
        for index, held in enumerate(map(self._kept.get, keys)):
            if held is not None:
                yield index, held
            elif not (self._is_whole or slots.has_ended(row_keys[index])) and (
                self._state.get(row_keys[index]) is not None
            ):
                yield index, self._kept[keys[index]]

    # Work at a watermark.

    def advance(self, watermark_ms: int) -> Rows:
        """See ``Operator.advance``; brings about ``PIECE`` rows at a time, in the order of time."""
        out = self._emitted()
        self._watermark = max(self._watermark, watermark_ms)
        if self._slots is not None:
            watermark_ms = self._slots.first_due(watermark_ms, PIECE)
            over = self._slots.due(watermark_ms - self._allowed)
            marks, origins = repeat(NEVER_MS, len(over)), repeat(0, len(over))
            self._say(self._slots, over, (marks, origins), out)
            self._slots.end(over)
            self._slots.compact()
            self._to_objects(self._slots, self._slots.due(watermark_ms))
        self._fire_all(watermark_ms, out)
        self._settle_if_asked()
        return out.rows(in_order=True)

    def due_by(self, watermark_ms: int) -> int:
        """See ``Operator.due_by``."""
        return 0 if self._slots is None else len(self._slots.due(watermark_ms))

    def _say(
        self,
        slots: SessionSlots,
        some: IntArray,
        when: tuple[Iterable[int], Iterable[int]],
        out: Emitted,
    ) -> None:
        """Emit sessions that close; ``when`` are the marks and the origins of the rows."""
        if not len(some):
            return
        keys, row_keys = slots.names(some)
        firsts, lasts = slots.first[some].tolist(), slots.last[some].tolist()
        ends = (slots.last[some] + self._gap).tolist()
        results = slots.results(some)
        made = map(self._row, keys, firsts, ends, repeat(FINAL), firsts, lasts, *results)
        out.extend((ends, [row_key[1:] for row_key in row_keys]), made, *when)

    def _held_of(self, raw: bytes) -> Sessions | None:
        """Return whose timer is due; ``None`` for one of a slot: they look after themselves."""
        key = key_of(raw)
        return None if self._slots is not None and key in self._slots else self._kept[key]

    def _settle_if_asked(self) -> None:
        super()._settle_if_asked()
        if self._slots is not None:
            first = self._timers.first()
            due_ms = FOREVER_MS if first is None else first[0]
            self.next_due_ms = min(due_ms, self._slots.next_due_ms)

    # State.

    def drain(self) -> Mapping[bytes, bytes | None]:
        """See ``Operator.drain``."""
        if self._slots is None:
            return super().drain()
        self._dirty = [held for held in self._dirty if held.is_dirty]
        return {**self._slots.drain(self._watermark), **super().drain()}

    def _forget(self, count: int) -> None:
        objects = len(self._kept)
        super()._forget(count)
        count -= objects - len(self._kept)
        if count > 0 and self._slots is not None:
            for timer_ms, raw in self._slots.forget(count):
                self._timers.push(timer_ms, raw)

    @property
    def size(self) -> int:
        """See ``Operator.size``."""
        return super().size + (0 if self._slots is None else len(self._slots))

    @property
    def changed(self) -> int:
        """See ``Operator.changed``."""
        return super().changed + (0 if self._slots is None else self._slots.changed)


def fits(held: Sessions) -> bool:
    """Tell whether a key has one session, which is open and was never emitted."""
    one = held.only
    return (
        one is not None
        and one.stage is Stage.OPEN
        and one.tick_ms == FOREVER_MS
        and not one.is_current
        and not one.shown
        and -COLUMN_LIMIT_MS <= one.first <= one.last <= COLUMN_LIMIT_MS
    )
