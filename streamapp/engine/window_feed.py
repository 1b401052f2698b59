"""The feed of an agent with concurrency: events run at once and take effect in offset order."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from streamapp.engine.feed import Feed, FeedPlan, place_of
from streamapp.engine.policy import Verdict
from streamapp.engine.rejects import AgentStoppedError
from streamapp.engine.work import Chunk, Slot, Window, open_slot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamapp.core.batch import TP, RecordBatch

#: Events of one partition that an agent with concurrency may have begun; bounds their memory.
_WINDOW = 1_000


class WindowFeed(Feed):
    """The feed of an agent with concurrency: events run at once and retire in offset order."""

    def __init__(self, plan: FeedPlan) -> None:
        super().__init__(plan)
        self._windows: dict[TP, Window] = {}
        self._chunk: Chunk | None = None
        self._again: deque[Slot] = deque()
        #: By the loop's clock: when a list that waits for more records goes without them.
        self._goes_at: float | None = None

    def start(self, tp: TP, offset: int, time_ms: int, note: str = "") -> None:
        """See ``Feed.start``."""
        super().start(tp, offset, time_ms, note)
        self._windows[tp] = Window(offset, time_ms)
        if self._chunk is not None and self._chunk.tp == tp:
            self._chunk = None

    def hold(self, tps: Iterable[TP]) -> None:
        """See ``Feed.hold``."""
        gone = set(tps)
        super().hold(gone)
        if self._chunk is not None and self._chunk.tp in gone:
            self._chunk.cut_short()

    def revoke(self, tps: Iterable[TP]) -> None:
        """See ``Feed.revoke``."""
        gone = set(tps)
        super().revoke(gone)
        if self._chunk is not None and self._chunk.tp in gone:
            self._chunk = None
        slots = [slot for tp in gone if tp in self._windows for slot in self._windows.pop(tp).slots]
        for slot in slots:
            slot.is_revoked = True
            slot.scope.lose()
        self._again = deque(slot for slot in self._again if not slot.is_revoked)
        self.interrupt(slot.task for slot in slots if slot.task is not None)

    def position(self, tp: TP) -> int:
        """See ``Feed.position``."""
        window = self._windows[tp]
        return window.position if window.slots else max(window.position, self._opened(tp))

    def time(self, tp: TP) -> int:
        """See ``Feed.time``."""
        window = self._windows[tp]
        if window.slots:
            return window.time_ms
        chunk = self._chunk
        if chunk is None or chunk.tp != tp:
            return self.times[tp]
        return chunk.time_at(chunk.at - 1)

    def has_in_hand(self, tps: Iterable[TP]) -> bool:
        """See ``Feed.has_in_hand``."""
        if self.is_stopped:
            return False
        return any(self._windows[tp].slots for tp in tps if tp in self._windows)

    async def begin(self, size: int = 1, patience_s: float = 0) -> Slot:
        """Wait for the next event (or up to ``size`` records), or one that must run again.

        Fewer records wait so long for more, unless other partitions wait.
        """
        while True:
            if self.plan.gate.closed:
                await self.plan.gate.wait(self)
            slot = self._again.popleft() if self._again else self._open_slot(size, patience_s)
            if slot is not None:
                slot.task = asyncio.current_task()
                return slot
            self._arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._goes_at):
                    await self._arrived.wait()

    def finish(self, slot: Slot) -> None:
        """The agent is done with a slot; everything at the head that is finished takes effect."""
        if slot.is_revoked or slot.is_finished:
            return
        slot.is_finished, slot.task = True, None
        tp = slot.batch.tp
        retired, again = self._windows[tp].retire()
        for done in retired:
            self.stats.events += done.stop - done.start
            self.plan.outbox.add(done.scope.outputs)
            done.scope.leave()
            if done.conflicts:
                self.plan.gate.open_for_all(self)
            if done.stop == len(done.batch):
                self._skip_to(tp, done.batch.next_offset)
                self._done_with(done.batch)
        if again is not None:
            self._renew_slot(again)
            self._again.append(again)
            self._note_conflict(again.conflicts)
        self._arrived.set()

    async def fail(self, slot: Slot, exc: Exception) -> bool:
        """Undo a slot and do what the policy says; ``True`` if it is to be handed out again.

        Raises:
            AgentStoppedError: The policy is to stop.
        """
        slot.scope.undo()
        self._renew_slot(slot)
        several = slot.stop - slot.start
        if self.halves and several > 1:
            self.stats.retries += 1
            self._hand_out_parts(slot, (several + 1) // 2)
            return False
        slot.failures += 1
        rejects = self.plan.rejects
        verdict = rejects.judge(exc, place_of(slot.batch, slot.start), slot.failures)
        if verdict is Verdict.RETRY:
            await self._pause(slot.failures)
            return not slot.is_revoked
        if several > 1:
            # One of several is bad: each gets its own tries.
            self._hand_out_parts(slot, 1)
            return False
        if verdict is Verdict.STOP:
            raise AgentStoppedError from exc
        if verdict is Verdict.DEAD_LETTER:
            letter = rejects.letter(slot.batch, slot.start, exc, slot.failures)
            slot.scope.outputs.append(letter)
            self.stats.dead_letters += 1
        else:
            self.stats.skipped += 1
        self.finish(slot)
        return False

    def hand_back(self, slot: Slot) -> None:
        """Undo a slot that is not finished; it is handed out again."""
        if not slot.is_revoked and not slot.is_finished:
            slot.scope.undo()
            slot.task = None
            self._renew_slot(slot)
            self._again.append(slot)
            self._arrived.set()

    def _renew_slot(self, slot: Slot) -> None:
        slot.chunk.renew(self.plan.decode, slot.start, slot.stop)

    def _hand_out_parts(self, slot: Slot, size: int) -> None:
        self._again.extend(self._windows[slot.batch.tp].split(slot, size))
        self._arrived.set()

    def _opened(self, tp: TP) -> int:
        chunk = self._chunk
        opened = chunk.position if chunk is not None and chunk.tp == tp else 0
        return max(opened, self._next[tp])

    def _open_slot(self, size: int, patience_s: float) -> Slot | None:
        """Return the next records as a slot; ``None`` if there are not, or too many in hand."""
        if self.is_stopped:
            return None
        while (self._chunk is None or self._chunk.at >= self._chunk.end) and self._queue:
            self._open(self._queue.popleft())
        chunk = self._chunk
        if chunk is None or chunk.at >= chunk.end:
            return None
        window = self._windows[chunk.tp]
        if len(window.slots) >= _WINDOW:
            return None
        if size > 1:
            chunk = self._chunk = self._filled(chunk, size)
            if not self._may_go(chunk, size, patience_s):
                return None
        start, stop = chunk.at, chunk.run(size)
        slot = open_slot(chunk, start, stop, self.plan.partitions_of(chunk.tp.topic))
        if not window.slots:
            # Records before this one may have been done by others, or skipped.
            window.time_ms = chunk.time_at(start - 1)
        chunk.at = chunk.given = stop
        window.slots.append(slot)
        return slot

    def _filled(self, chunk: Chunk, size: int) -> Chunk:
        """Return what waits of a chunk with the records behind it, if it has less than ``size``."""
        more = self._queued_after(chunk, size)
        if not more:
            return chunk
        rest = chunk.cut_off()
        rest.extend(more)
        if rest is not chunk and all(s.chunk is not chunk for s in self._windows[chunk.tp].slots):
            self._skip_to(chunk.tp, chunk.batch.next_offset)
            self._done_with(chunk.batch)
        return rest

    def _may_go(self, chunk: Chunk, size: int, patience_s: float) -> bool:
        """Tell whether a list is full, or has waited long enough for its records."""
        now = asyncio.get_running_loop().time()
        if self._goes_at is None:
            self._goes_at = now + patience_s
        if chunk.end - chunk.at < size and not self._queue and now < self._goes_at:
            return False
        self._goes_at = None
        return True

    def _open(self, batch: RecordBatch) -> None:
        self._goes_at = None
        rest = batch.since(self._next[batch.tp])
        if rest is None:
            self._done_with(batch)
        self._chunk = self._chunk_of(rest) if rest is not None else None
