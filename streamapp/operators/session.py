"""Session windows: records of a key that are at most a gap apart.

Every record opens ``[ts, ts + gap)``; windows that overlap or touch become one. A row's ``start``
and ``first`` are the first time, ``last`` is the last one, ``end`` is ``last + gap``.

A record at the very end of a session still belongs to it. So a session closes when the watermark
has reached its end, not the instant before as other windows do, and its row has happened then: else
it would depend on the order of records that are in time whether one at the end finds it open.

A consumer knows a session by its key and start. A row replaces the one before it with that name;
what a session absorbed under other names is taken back by ``retract`` rows, with the values that
had been emitted, right before the next row of the session, whatever the emission.

Inside of a session, records are added in the order of arrival. When a record closes the gap
between two, the later one is merged into the earlier one, and then the record is added. So results
do not depend on how records were cut into batches, to the last bit.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

from streamapp.core.aggregates import Acc, AggregateSet
from streamapp.core.rows import Rows
from streamapp.core.times import FOREVER_MS, plus
from streamapp.core.windows import Emission, Session
from streamapp.operators.keyed import Adds, Emitted
from streamapp.operators.keyed_state import DATA, key_of, read_body
from streamapp.operators.operator import AT_ONCE, StateView
from streamapp.operators.results import CORRECTION, FINAL, LATE, RETRACT, UPDATE, WindowRow
from streamapp.operators.session_columns import SlottedSessions
from streamapp.operators.session_held import OneSession, Sessions, Stage

#: Fields of a session's row before those of the aggregates.
SESSION_FIELDS: Final = ("first", "last")


#: What a stage becomes when records come in.
_CHANGED: Final = {
    Stage.OPEN: Stage.OPEN,
    Stage.CLOSED: Stage.REOPENED,
    Stage.REOPENED: Stage.REOPENED,
}
#: What a session is emitted as when it closes.
_CLOSING: Final = {Stage.OPEN: FINAL, Stage.REOPENED: LATE}


class SessionWindows(SlottedSessions):
    """See the module. A session is kept until ``W >= end + allowed lateness``.

    A record is late when, joined with the sessions that are kept, its window's time is over. A
    session that closed and changed again is emitted again as ``late``, once it is over.
    """

    _before_end_ms = 0

    def __init__(
        self,
        spec: Session,
        aggregates: AggregateSet,
        row: type[WindowRow],
        emission: Emission,
        state: StateView,
    ) -> None:
        super().__init__(spec, aggregates, row, emission, state)
        # Sessions close one by one: cutting a batch at each of them would cost more than the rows.
        # Not with periodic updates: among final rows, their order would tell of the cuts.
        self.can_advance_itself = not self._may_fail and emission.kind != "every"
        self._every = emission.every_ms if emission.kind == "every" else 0
        self._on_update = emission.kind == "update"
        self._unsent: dict[Hashable, None] = {}

    def restore(self, watermark_ms: int) -> None:
        """See ``Operator.restore``."""
        super().restore(watermark_ms)
        for held in self._stored() if self._on_update else ():
            if not all(one.is_current for one in held.sessions):
                self._unsent[held.key] = None

    def _new(self, key: Hashable) -> Sessions:
        return Sessions(key)

    # Rows in.

    def dues(self, rows: Rows, side: int = 0, last_ms: int = FOREVER_MS) -> Sequence[int]:
        """See ``Operator.dues``: no record closes before its own window does."""
        del side, last_ms
        over = self._gap
        # Past its own end, a record joins a session that is due by itself, or is too late; if
        # lateness is allowed, it may also have one emitted again.
        past = AT_ONCE if self._allowed else FOREVER_MS
        top = FOREVER_MS - over
        dues = [
            past if time + over <= mark else time + over if time < top else FOREVER_MS
            for time, mark in zip(rows.times, rows.marks, strict=True)
        ]
        if self._every:
            return [min(d, self._tick(mark)) for d, mark in zip(dues, rows.marks, strict=True)]
        return dues

    def _tick(self, mark: int) -> int:
        return mark - mark % self._every + self._every

    def _take(self, adds: Adds, stop: int, out: Emitted) -> None:
        kept, gap, alone, note = self._kept, self._gap, self.advances_itself, adds.accs.append
        rows = adds.rows.part(adds.at, stop)
        for key, time, mark in zip(rows.keys, rows.times, rows.marks, strict=True):
            if alone and mark >= self.next_due_ms:
                self._advance_before(adds, out)
            held = kept[key]
            one = held.only
            if one is None or not one.first - gap <= time <= one.last + gap:
                one = self._place(held, time, mark, adds)
                if one is None:
                    self._too_late(adds, out)
                    continue
            if one.is_calm:
                self._stir(held, one, mark)
            if time > one.last:
                one.last = time
            elif time < one.first:
                one.first = time
            note(one.acc)

    def _place(self, held: Sessions, time: int, mark: int, adds: Adds) -> OneSession | None:
        """Return the session of a record: one that it touches, two made one, or a new one."""
        gap = self._gap
        if not held.sessions:
            return self._begin(held, time, mark)
        near = [one for one in held.sessions if one.first - gap <= time <= one.last + gap]
        if near:
            return near[0] if len(near) == 1 else self._merge(held, near[0], near[1], adds)
        return self._begin(held, time, mark)

    def _begin(self, held: Sessions, time: int, mark: int) -> OneSession | None:
        """Return a new session, unless its time is over."""
        if time + self._gap + self._allowed <= mark:
            return None
        made = OneSession(time, time, self._aggregates.new())
        held.put(sorted([*held.sessions, made], key=_by_time) if held.sessions else [made])
        self._stir(held, made, mark)
        return made

    def _merge(self, held: Sessions, one: OneSession, other: OneSession, adds: Adds) -> OneSession:
        adds.flush()
        for each in (one, other):
            if each.is_current:
                self._stir(held, each, FOREVER_MS)
        self._aggregates.merge(one.acc, other.acc)
        one.last = other.last
        one.shown += other.shown
        one.tick_ms = min(one.tick_ms, other.tick_ms)
        one.stage = max(one.stage, other.stage)
        one.is_calm = True  # the record that joins them changes it, at its own watermark
        held.put([each for each in held.sessions if each is not other])
        return one

    def _stir(self, held: Sessions, one: OneSession, mark: int) -> None:
        """Note that a session is about to change."""
        one.is_calm = False
        self._touch(held)
        if one.is_current:
            one.is_current = False
            one.shown += ((one.first, one.last, self._aggregates.pack(one.acc)),)
            one.stage = _CHANGED[one.stage]
        if self._on_update:
            self._unsent[held.key] = None
        elif self._every and mark < FOREVER_MS:
            one.tick_ms = min(one.tick_ms, self._tick(mark))
        due_ms = self._due(one)
        if due_ms < held.due_ms:
            self._wake(held, due_ms)

    # Work at a watermark.

    def _due(self, one: OneSession) -> int:
        if one.stage is Stage.CLOSED:
            return plus(one.last, self._gap + self._allowed)
        due_ms = one.last + self._gap
        return due_ms if due_ms < one.tick_ms else one.tick_ms  # noqa: FURB136 - asked often: min takes three times as long

    def _due_of(self, held: Sessions) -> int:
        if held.only is not None:
            return self._due(held.only)
        return min(map(self._due, held.sessions), default=FOREVER_MS)

    def _fire(self, held: Sessions, watermark_ms: int, out: Emitted) -> None:
        for one in held.sessions:
            if one.stage is not Stage.CLOSED and plus(one.last, self._gap) <= watermark_ms:
                self._emit(held, one, _CLOSING[one.stage], out)
                one.stage = Stage.CLOSED
                one.tick_ms = FOREVER_MS
            elif one.tick_ms <= watermark_ms:
                one.tick_ms = FOREVER_MS
                self._emit(held, one, UPDATE, out)
        closed = [one for one in held.sessions if one.stage is Stage.CLOSED]
        over = [one for one in closed if self._due(one) <= watermark_ms]
        if over:
            held.put([one for one in held.sessions if one not in over])

    def on_commit(self) -> Rows:
        """See ``Operator.on_commit``; rows are ordered as those of ``advance``."""
        out = self._emitted()
        for held in map(self._kept.__getitem__, self._unsent):
            self._touch(held)
            for one in held.sessions:
                if not one.is_current:
                    self._emit(held, one, UPDATE, out)
        self._unsent.clear()
        return out.rows(in_order=True)

    def _emit(self, held: Sessions, one: OneSession, kind: str, out: Emitted) -> None:
        """Emit a session, and before it what it makes void."""
        order = (plus(one.last, self._gap), held.raw)
        if one.shown:
            for first, last, packed in sorted(one.shown, key=lambda shown: shown[0]):
                if first != one.first:
                    acc = self._aggregates.unpack(packed)
                    out.add(order, self._made(held.key, (first, last), RETRACT, acc))
            one.shown = ()
        out.add(order, self._made(held.key, (one.first, one.last), kind, one.acc))
        one.is_current = one.is_calm = True

    def _made(self, key: Hashable, span: tuple[int, int], kind: str, acc: Acc) -> WindowRow | None:
        return self._result(WindowRow(key, span[0], plus(span[1], self._gap), kind), acc, span)

    def _correction(self, key: Hashable, time: int, acc: Acc) -> WindowRow | None:
        return self._made(key, (time, time), CORRECTION, acc)

    # State.

    def _pack(self, held: Sessions) -> list[Any]:
        pack = self._aggregates.pack
        packed = []
        for one in held.sessions:
            one.is_calm = True
            packed.append(
                [
                    one.first,
                    one.last,
                    one.stage,
                    one.tick_ms,
                    one.is_current,
                    one.shown,
                    pack(one.acc),
                ]
            )
        return packed

    def _unpack(self, held: Sessions, body: Sequence[Any]) -> None:
        sessions = []
        for first, last, stage, tick_ms, is_current, shown, acc in body:
            one = OneSession(first, last, self._aggregates.unpack(acc))
            one.stage = Stage(stage)
            one.tick_ms = tick_ms
            one.is_current = is_current
            one.is_calm = True
            one.shown = tuple(map(tuple, shown))
            sessions.append(one)
        held.put(sessions)

    def view(self, raw: bytes, data: bytes) -> tuple[Hashable, dict[str, object]] | None:
        """Return a key's sessions as table views show them; ``None`` for rows that are timers."""
        if not raw.startswith(DATA):
            return None
        held = self._new(key_of(raw[1:]))
        self._unpack(held, read_body(data)[1:])
        sessions = [
            {
                "start": one.first,
                "end": plus(one.last, self._gap),
                "is_final": one.stage is Stage.CLOSED,
                "first": one.first,
                "last": one.last,
                **dict(zip(self._aggregates.names, self._aggregates.results(one.acc), strict=True)),
            }
            for one in held.sessions
        ]
        return held.key, {"sessions": sessions}


def _by_time(one: OneSession) -> int:
    return one.first
