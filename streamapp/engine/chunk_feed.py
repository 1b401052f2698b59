"""The feed of an agent without concurrency: one run of records at a time, in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streamapp.engine.feed import Feed, FeedPlan, place_of
from streamapp.engine.policy import Verdict
from streamapp.engine.rejects import AgentStoppedError
from streamapp.state.scope import EventScope, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamapp.core.batch import TP, RecordBatch
    from streamapp.engine.work import Chunk

#: Records of small chunks that are worked on in one turn: what they send is then one commit.
_TURN_RECORDS = 64


class ChunkFeed(Feed):
    """The feed of an agent without concurrency: one chunk at a time, in order."""

    def __init__(self, plan: FeedPlan) -> None:
        super().__init__(plan)
        self.scope = EventScope()
        self.chunk: Chunk | None = None
        self._conflicts = 0
        #: Records of the chunks of this turn of the loop.
        self._in_turn = 0

    def start(self, tp: TP, offset: int, time_ms: int, note: str = "") -> None:
        """See ``Feed.start``."""
        super().start(tp, offset, time_ms, note)
        if self.chunk is not None and self.chunk.tp == tp:
            self.chunk = None

    def hold(self, tps: Iterable[TP]) -> None:
        """See ``Feed.hold``."""
        gone = set(tps)
        super().hold(gone)
        if self.chunk is not None and self.chunk.tp in gone:
            self.chunk.cut_short()

    def revoke(self, tps: Iterable[TP]) -> None:
        """See ``Feed.revoke``."""
        gone = set(tps)
        super().revoke(gone)
        if self.chunk is not None and self.chunk.tp in gone:
            if self.chunk.is_held:
                self.interrupt(self.tasks)
            # The code of the event may still run, and must not share the scope of a later one.
            self.scope.lose()
            self.scope = EventScope()
            self.chunk = None
            self._conflicts = 0

    def position(self, tp: TP) -> int:
        """See ``Feed.position``."""
        chunk = self.chunk
        return chunk.position if chunk is not None and chunk.tp == tp else self._next[tp]

    def time(self, tp: TP) -> int:
        """See ``Feed.time``."""
        chunk = self.chunk
        if chunk is None or chunk.tp != tp:
            return self.times[tp]
        return chunk.time_at(chunk.at - 1)

    def has_in_hand(self, tps: Iterable[TP]) -> bool:
        """See ``Feed.has_in_hand``."""
        chunk = self.chunk
        if chunk is None or self.is_stopped:
            return False
        return chunk.is_held and chunk.tp in set(tps)

    async def begin(self) -> Chunk:
        """Wait for the next chunk, with its values decoded and the scope set to its partition."""
        while True:
            chunk = self._open(await self._take_batch())
            if chunk is not None:
                return self._enter(chunk)

    def _open(self, batch: RecordBatch) -> Chunk | None:
        """Return what is not done of a batch, decoded; ``None`` if all of it is."""
        rest = batch.since(self._next[batch.tp])
        if rest is None:
            self._done_with(batch)
            return None
        return self._chunk_of(rest)

    def _enter(self, chunk: Chunk) -> Chunk:
        """Let a chunk be the one in hand."""
        self.chunk, tp = chunk, chunk.tp
        self.scope.enter(chunk, tp.partition, self.plan.partitions_of(tp.topic))
        return chunk

    async def gather(self, chunk: Chunk, size: int, patience_s: float) -> None:
        """Wait until ``size`` records of the chunk's partition are there, at most so long.

        More records are appended to the chunk. Ends early when other partitions wait, and when the
        partition is taken away: the chunk then has no more records, or is not the feed's any more.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        while 0 < chunk.end - chunk.at < size and chunk is self.chunk:
            more = self._queued_after(chunk, size)
            if more:
                self._forget_done(chunk)
                chunk.extend(more)
                continue
            if self._queue or patience_s <= 0:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), deadline - loop.time())
            except TimeoutError:
                return

    def _forget_done(self, chunk: Chunk) -> None:
        """Let go of records that are done: a chunk that always gets more would hold them all."""
        done = chunk.drop_done()
        if done is not None:
            self.stats.events += len(done)
            self._done_with(done)

    def finish(self) -> bool:
        """Let the records in hand take effect; ``False`` if they must be handed out again."""
        scope = self.scope
        if scope.finish() is Outcome.CONFLICT:
            self._conflicts += 1
            self._note_conflict(self._conflicts)
            if (chunk := self.chunk) is not None:
                chunk.renew(self.plan.decode, chunk.at, chunk.given)
            return False
        if self._conflicts:
            self._conflicts = 0
            self.plan.gate.open_for_all(self)
        if scope.outputs:
            self.plan.outbox.add(scope.outputs)
            scope.outputs.clear()
        return True

    def finish_left(self) -> bool:
        """Do as ``finish`` with what an agent has in hand that left its loop, if anything."""
        chunk = self.chunk
        if chunk is None or not chunk.is_held:
            return True
        is_done = self.finish()
        if is_done:
            chunk.at = chunk.given
        chunk.given = chunk.at
        return is_done

    def hand_back(self) -> None:
        """Undo the records in hand; they are handed out again."""
        if (chunk := self.chunk) is not None:
            self.scope.undo()
            chunk.renew(self.plan.decode, chunk.at, chunk.given)
            chunk.given = chunk.at

    def end(self, chunk: Chunk) -> bool:
        """All records of the chunk are done, or it was cut short.

        Returns:
            Whether other tasks are to have their turn before the next chunk.
        """
        self._in_turn += len(chunk.values)
        is_over = self._in_turn >= _TURN_RECORDS or not self.has_queued
        if is_over:
            self._in_turn = 0
        if self.chunk is not chunk:
            return is_over
        self.stats.events += chunk.at
        if chunk.at < len(chunk.values):
            self.times[chunk.tp] = chunk.time_at(chunk.at - 1)
        self.chunk = None
        self._skip_to(chunk.tp, chunk.position)
        self.scope.leave()
        self._done_with(chunk.batch)
        return is_over

    async def fail(self, chunk: Chunk, exc: Exception) -> None:
        """Undo the records in hand and do with them what the policy says.

        Raises:
            AgentStoppedError: The policy is to stop.
        """
        self.scope.undo()
        chunk.renew(self.plan.decode, chunk.at, chunk.given)
        several = chunk.given - chunk.at
        if self.halves and several > 1:
            self.stats.retries += 1
            chunk.split((several + 1) // 2)
            return
        failures = chunk.fail()
        rejects = self.plan.rejects
        verdict = rejects.judge(exc, place_of(chunk.batch, chunk.at), failures)
        if verdict is Verdict.RETRY:
            await self._wait_to_retry(chunk, failures)
            return
        if chunk.given > chunk.at + 1:
            chunk.split()
            return
        if verdict is Verdict.STOP:
            raise AgentStoppedError from exc
        if verdict is Verdict.DEAD_LETTER:
            self.stats.dead_letters += 1
            self.plan.outbox.add([rejects.letter(chunk.batch, chunk.at, exc, failures)])
        else:
            self.stats.skipped += 1
        chunk.advance()

    async def _wait_to_retry(self, chunk: Chunk, failures: int) -> None:
        """Wait until the records in hand are to be handed out again."""
        await self._pause(failures)
        chunk.given = chunk.at
