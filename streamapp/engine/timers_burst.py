"""Fires timers: each one is an event of its own, in the partition of the event that set it.

A burst fires what is due in one partition, one timer after the other in the order of (due, key),
until nothing more is due. The removal of a timer is an effect of its handler's event, so no crash,
conflict or lost partition can make it count twice or not at all.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from streamapp.core.batch import TP, RecordBatch
from streamapp.engine.policy import Verdict
from streamapp.engine.rejects import AgentStoppedError, Rejects
from streamapp.errors import StateError
from streamapp.serde.ordered_keys import decode_key
from streamapp.state.rows import ABSENT
from streamapp.state.scope import EventScope, Outcome, current_scope

if TYPE_CHECKING:
    from streamapp.core.timers import Due
    from streamapp.engine.engine import Engine
    from streamapp.engine.timers import Timers

log = logging.getLogger(__name__)

#: Longest run of timers, in seconds, before agents get their turn. Shorter than theirs: there is a
#: burst for each partition, and they begin all at once when event time jumps.
_TURN_S = 0.002
#: Conflicts of one timer before it runs alone: each one costs its whole work again.
_CONFLICTS_ALLOWED = 3


class Burst:
    """Fires the due timers of one name and partition; one task, one timer in hand at a time."""

    def __init__(self, engine: Engine, timers: Timers, partition: int, rejects: Rejects) -> None:
        self.timers = timers
        self.partition = partition
        self.is_held = False
        self.is_in_hand = False
        self.task: asyncio.Task[None] | None = None
        self._engine = engine
        self._waiting = timers.waiting(partition)
        self._rejects = rejects
        self._scope = EventScope()
        self._conflicts = 0
        self._failures = 0
        self._failed: Due | None = None

    def lose(self) -> None:
        """Take the timer in hand back, and end at the next await."""
        self._scope.lose()
        self._engine.gate.open_for_all(self)
        if self.task is not None:
            self.task.cancel()

    async def run(self) -> None:
        """Fire until nothing is due, or the partition is about to be given up.

        Raises:
            AgentStoppedError: A timer failed, and the policy is to stop.
            StateError: The store failed.
        """
        current_scope.set(self._scope)
        try:
            await self._fire_all()
        finally:
            self._scope.leave()
            self._engine.gate.open_for_all(self)

    async def _fire_all(self) -> None:
        engine, gate = self._engine, self._engine.gate
        turn = perf_counter() + _TURN_S
        while True:
            if gate.closed:
                await gate.wait(self)
            if self.is_held:
                return
            due = self._waiting.first(engine.timers.now_ms(self.timers, self.partition))
            if due is None:
                return
            await self._fire(due)
            if perf_counter() > turn:
                await asyncio.sleep(0)
                turn = perf_counter() + _TURN_S

    async def _fire(self, due: Due) -> None:
        self._enter(due)
        self.is_in_hand = True
        try:
            await self._handle(due)
        except asyncio.CancelledError:
            self._scope.undo()
            raise
        except Exception as exc:  # noqa: BLE001 - the handler's: its policy decides
            self._scope.undo()
            self.is_in_hand = False
            if not self._scope.is_lost:
                await self._fail(due, exc)
        else:
            self._finish()
        finally:
            self.is_in_hand = False

    async def _handle(self, due: Due) -> None:
        value = self.timers.remove(due)
        if value is ABSENT:
            return
        try:
            await self.timers.spec.handler(self.timers.timer(due, value))
        except asyncio.CancelledError as exc:
            if self.task is None or self.task.cancelling():
                raise
            # Nobody has cancelled this task: what the handler has waited for was.
            msg = "Something that the timer waited for was cancelled"
            raise RuntimeError(msg) from exc

    def _enter(self, due: Due) -> None:
        source = self._engine.timers.source(self.timers, self.partition, due)
        self._scope.enter(source, self.partition, self.timers.table.partitions)

    def _finish(self) -> None:
        scope, engine = self._scope, self._engine
        if scope.is_lost:
            return
        if scope.finish() is Outcome.CONFLICT:
            self._rejects.stats.conflicts += 1
            self._conflicts += 1
            if self._conflicts > _CONFLICTS_ALLOWED:
                engine.gate.close_for_one(self)
            return
        if self._conflicts:
            self._conflicts = 0
            engine.gate.open_for_all(self)
        engine.outbox.add(scope.outputs)
        scope.outputs.clear()
        self._rejects.stats.events += 1

    async def _fail(self, due: Due, exc: Exception) -> None:
        if isinstance(exc, StateError):
            await self._engine.on_state_error(exc)
            return
        await self._tell(exc)
        self._failures = self._failures + 1 if self._failed == due else 1
        self._failed = due
        name = f"key {decode_key(due.key)!r:.80} due at {due.at_ms}"
        verdict = self._rejects.judge(exc, name, self._failures)
        if verdict is Verdict.RETRY:
            await asyncio.sleep(self._rejects.policy.pause_ms(self._failures) / 1_000)
            return
        if verdict is Verdict.STOP:
            raise AgentStoppedError from exc
        self._give_up(due, exc, verdict)

    def _give_up(self, due: Due, exc: Exception, verdict: Verdict) -> None:
        """Remove a timer that failed for good, and write its letter in the same step."""
        if self.is_held or self._scope.is_lost:
            return
        stats = self._rejects.stats
        self._enter(due)
        value = self.timers.remove(due)
        if value is not ABSENT and verdict is Verdict.DEAD_LETTER:
            stats.dead_letters += 1
            batch = _as_record(self.timers, self.partition, due, value)
            self._scope.outputs.append(self._rejects.letter(batch, 0, exc, self._failures))
        elif value is not ABSENT:
            stats.skipped += 1
        self._finish()

    async def _tell(self, exc: Exception) -> None:
        """Tell the declared handler of a failure; what it sends does not share the timer's fate."""
        if self.timers.spec.on_failure is None:
            return
        token = current_scope.set(None)
        try:
            await self.timers.spec.on_failure(self.timers, exc)
        except Exception:
            log.exception("The error handler of timer %s failed", self.timers.name)
        finally:
            current_scope.reset(token)


def _as_record(timers: Timers, partition: int, due: Due, value: object) -> RecordBatch:
    """Return a timer as the record that a dead letter is made of; it has no offset."""
    key = decode_key(due.key)
    raw = key if isinstance(key, bytes) else key.encode() if isinstance(key, str) else None
    text = msgspec.json.encode(
        {"timer": timers.name, "key": key, "at_ms": due.at_ms, "value": value}
    )
    tp = TP(timers.table.name, partition)
    raw = msgspec.json.encode(key) if raw is None else raw
    return RecordBatch(tp, (-1,), (due.at_ms,), (raw,), (text,), None, 0, len(text))
