"""The records on their way to one agent: queued batches, and how far each partition is done.

A feed belongs to one agent (all its instances) and is used on the event loop only. Its position in
a partition is the offset of the first record that is not done, which is what a commit may contain.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamapp.engine.policy import Verdict
from streamapp.engine.rejects import AgentStoppedError, Rejects
from streamapp.engine.work import Chunk, Slot, Window, open_slot
from streamapp.state.scope import EventScope, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamapp.core.batch import TP, RecordBatch
    from streamapp.engine.gate import Gate
    from streamapp.engine.outbox import Outbox

#: Conflicts of one event before it runs alone: each one costs its whole work again.
_CONFLICTS_ALLOWED = 3
#: Events of one partition that an agent with concurrency may have begun; bounds their memory.
_WINDOW = 1_000
#: Bytes that a buffered record costs beside its key and value: one bound then holds back both
#: large records and many small ones.
_RECORD_BYTES = 200


@dataclass(frozen=True, slots=True)
class FeedPlan:
    """What a feed is made of. ``decode`` turns a batch into one value (or ``Bad``) per record."""

    name: str
    topics: tuple[str, ...]
    decode: Callable[[RecordBatch], list[Any]]
    rejects: Rejects
    gate: Gate
    outbox: Outbox
    partitions_of: Callable[[str], int]
    on_room: Callable[[TP], None]


class Feed:
    """What both kinds of feed share: queue, start positions, waiting."""

    def __init__(self, plan: FeedPlan) -> None:
        self.plan = plan
        self.name = plan.name
        self.stats = plan.rejects.stats
        self.is_stopped = False
        self.tasks: set[asyncio.Task[Any]] = set()
        self._queue: deque[RecordBatch] = deque()
        #: Event time of each partition: the greatest timestamp of the batches that were opened.
        self.times: dict[TP, int] = {}
        self._next: dict[TP, int] = {}
        self._buffered: dict[TP, int] = {}
        self._arrived = asyncio.Event()
        self._interrupted: set[asyncio.Task[Any]] = set()

    # --- the engine's side -----------------------------------------------------------------------

    def start(self, tp: TP, offset: int, time_ms: int) -> None:
        """Begin a partition at this offset and event time; earlier records are done."""
        self._next[tp] = offset
        self._buffered[tp] = 0
        self.times[tp] = time_ms

    def put(self, batch: RecordBatch) -> int:
        """Queue what is not done of a batch; return the bytes now buffered of its partition."""
        tp = batch.tp
        if self.is_stopped or tp not in self._next:
            return 0
        rest = batch.since(self._next[tp])
        if rest is not batch:
            seen = len(batch) - (len(rest) if rest is not None else 0)
            self.times[tp] = max(self.times[tp], *batch.timestamps[:seen])
        if rest is None:
            if not self._buffered[tp]:
                self._skip_to(tp, batch.next_offset)
            return self._buffered[tp]
        self._buffered[tp] += _cost(rest)
        self._queue.append(rest)
        self._arrived.set()
        return self._buffered[tp]

    def hold(self, tps: Iterable[TP]) -> None:
        """Hand out no more records of these partitions; what is in hand may finish."""
        gone = set(tps)
        self._queue = deque(batch for batch in self._queue if batch.tp not in gone)

    def revoke(self, tps: Iterable[TP]) -> None:
        """Give the partitions up: what is in hand has no effect any more."""
        gone = set(tps)
        self.hold(gone)
        for tp in gone:
            self._next.pop(tp, None)
            self._buffered.pop(tp, None)

    def position(self, tp: TP) -> int:
        """Return the offset of the first record that is not done."""
        return self._next[tp]

    def time(self, tp: TP) -> int:
        """Return the event time of the partition at ``position``."""
        return self.times[tp]

    def buffered(self, tp: TP) -> int:
        """Return the bytes of the partition that are queued or in hand."""
        return self._buffered.get(tp, 0)

    @property
    def queued(self) -> int:
        """Number of records that wait; for status pages."""
        return sum(len(batch) for batch in self._queue)

    def owns(self, tp: TP) -> bool:
        """Tell whether the partition was started and not revoked."""
        return tp in self._next

    def has_in_hand(self, tps: Iterable[TP]) -> bool:
        """Tell whether the agent is in the middle of an event of these partitions."""
        raise NotImplementedError

    def stop(self) -> None:
        """Take no more records: the agent has ended. Its position stays where it is."""
        self.is_stopped = True
        self._queue.clear()
        for tp in self._buffered:
            self._buffered[tp] = 0
            self.plan.on_room(tp)

    def interrupt(self) -> None:
        """Make the agent leave the event in hand at its next await, and begin anew."""
        for task in self.tasks:
            if task not in self._interrupted:
                self._interrupted.add(task)
                task.cancel()

    def was_interrupted(self, task: asyncio.Task[Any]) -> bool:
        """Tell (once) whether a task's cancellation came from ``interrupt``."""
        try:
            self._interrupted.remove(task)
        except KeyError:
            return False
        task.uncancel()
        return True

    # --- the agent's side ------------------------------------------------------------------------

    async def _take_batch(self) -> RecordBatch:
        while True:
            if self.plan.gate.closed:
                await self.plan.gate.wait(self)
            if self._queue:
                return self._queue.popleft()
            self._arrived.clear()
            await self._arrived.wait()

    def _chunk_of(self, batch: RecordBatch) -> Chunk:
        start_ms = self.times[batch.tp]
        self.times[batch.tp] = max(start_ms, *batch.timestamps)
        return Chunk(batch, self.plan.decode(batch), start_ms)

    def _done_with(self, batch: RecordBatch) -> None:
        tp = batch.tp
        if tp in self._buffered:
            self._buffered[tp] -= _cost(batch)
            self.stats.bytes += batch.size_bytes
            self.plan.on_room(tp)

    def _skip_to(self, tp: TP, offset: int) -> None:
        self._next[tp] = max(self._next[tp], offset)

    def _note_conflict(self, conflicts: int) -> None:
        self.stats.conflicts += 1
        if conflicts > _CONFLICTS_ALLOWED:
            self.plan.gate.close_for_one(self)

    async def _pause(self, failures: int) -> None:
        await asyncio.sleep(self.plan.rejects.policy.pause_ms(failures) / 1_000)


class ChunkFeed(Feed):
    """The feed of an agent without concurrency: one chunk at a time, in order."""

    def __init__(self, plan: FeedPlan) -> None:
        super().__init__(plan)
        self.scope = EventScope()
        self.chunk: Chunk | None = None
        self._conflicts = 0

    def start(self, tp: TP, offset: int, time_ms: int) -> None:
        """See ``Feed.start``."""
        super().start(tp, offset, time_ms)
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
                self.interrupt()
            self.scope.undo()
            self.scope.partition = -1
            self.chunk = None

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
        return chunk is not None and chunk.tp in set(tps) and chunk.is_held

    async def begin(self) -> Chunk:
        """Wait for the next chunk, with its values decoded and the scope set to its partition."""
        while True:
            batch = await self._take_batch()
            rest = batch.since(self._next[batch.tp])
            if rest is not None:
                break
        chunk = self.chunk = self._chunk_of(rest)
        self.scope.source = chunk
        self.scope.partition = batch.tp.partition
        self.scope.partitions = self.plan.partitions_of(batch.tp.topic)
        return chunk

    async def gather(self, chunk: Chunk, size: int, patience_s: float) -> None:
        """Wait until ``size`` records of the chunk's partition are there, at most so long.

        More records are appended to the chunk; it ends early when other partitions wait.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        while (
            chunk.end - chunk.at < size and chunk is self.chunk and chunk.end == len(chunk.values)
        ):
            more = next((batch for batch in self._queue if batch.tp == chunk.tp), None)
            if more is not None:
                self._queue.remove(more)
                chunk.extend(more, self.plan.decode(more))
                continue
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), deadline - loop.time())
            except TimeoutError:
                return

    def finish(self) -> bool:
        """Let the records in hand take effect; ``False`` if they must be handed out again."""
        scope = self.scope
        if scope.finish() is Outcome.CONFLICT:
            self._conflicts += 1
            self._note_conflict(self._conflicts)
            return False
        if self._conflicts:
            self._conflicts = 0
            self.plan.gate.open_for_all(self)
        if scope.outputs:
            self.plan.outbox.add(scope.outputs)
            scope.outputs.clear()
        return True

    def end(self, chunk: Chunk) -> None:
        """All records of the chunk are done, or it was cut short."""
        if self.chunk is not chunk:
            return
        self.stats.events += chunk.at
        if chunk.at < len(chunk.values):
            self.times[chunk.tp] = chunk.time_at(chunk.at - 1)
        self.chunk = None
        self._skip_to(chunk.tp, chunk.position)
        self.scope.partition = -1
        self._done_with(chunk.batch)

    async def fail(self, chunk: Chunk, exc: Exception) -> None:
        """Undo the records in hand and do with them what the policy says.

        Raises:
            AgentStoppedError: The policy is to stop.
        """
        self.scope.undo()
        failures = chunk.fail()
        rejects = self.plan.rejects
        verdict = rejects.judge(exc, _where(chunk.batch, chunk.at), failures)
        if verdict is Verdict.RETRY:
            await self._pause(failures)
            chunk.given = chunk.at
            return
        if chunk.given > chunk.at + 1:
            # One of several is bad: hand them out singly, each with its own tries.
            chunk.single_until, chunk.given = chunk.given, chunk.at
            return
        if verdict is Verdict.STOP:
            raise AgentStoppedError from exc
        if verdict is Verdict.DEAD_LETTER:
            self.stats.dead_letters += 1
            self.plan.outbox.add([rejects.letter(chunk.batch, chunk.at, exc, failures)])
        else:
            self.stats.skipped += 1
        chunk.advance()


class WindowFeed(Feed):
    """The feed of an agent with concurrency: events run at once and retire in offset order."""

    def __init__(self, plan: FeedPlan) -> None:
        super().__init__(plan)
        self._windows: dict[TP, Window] = {}
        self._chunk: Chunk | None = None
        self._again: deque[Slot] = deque()

    def start(self, tp: TP, offset: int, time_ms: int) -> None:
        """See ``Feed.start``."""
        super().start(tp, offset, time_ms)
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
            slot.scope.undo()
            slot.scope.partition = -1
        self._again = deque(slot for slot in self._again if not slot.is_revoked)
        if any(not slot.is_finished for slot in slots):
            self.interrupt()

    def position(self, tp: TP) -> int:
        """See ``Feed.position``."""
        window = self._windows[tp]
        return window.position if window.slots else max(window.position, self._opened(tp))

    def time(self, tp: TP) -> int:
        """See ``Feed.time``."""
        return self._windows[tp].time_ms

    def has_in_hand(self, tps: Iterable[TP]) -> bool:
        """See ``Feed.has_in_hand``."""
        return any(self._windows[tp].slots for tp in tps if tp in self._windows)

    async def begin(self, size: int = 1) -> Slot:
        """Wait for the next event (or up to ``size`` records), or one that must run again."""
        while True:
            if self.plan.gate.closed:
                await self.plan.gate.wait(self)
            if self._again:
                return self._again.popleft()
            chunk = self._chunk
            if chunk is None or chunk.at >= chunk.end:
                if self._queue:
                    self._open(self._queue.popleft())
                    continue
            elif len(self._windows[chunk.tp].slots) < _WINDOW:
                return self._slot(chunk, size)
            self._arrived.clear()
            await self._arrived.wait()

    def finish(self, slot: Slot) -> None:
        """The agent is done with a slot; everything at the head that is finished takes effect."""
        if slot.is_revoked:
            return
        slot.is_finished = True
        tp = slot.batch.tp
        retired, again = self._windows[tp].retire()
        for done in retired:
            self.stats.events += done.stop - done.start
            self.plan.outbox.add(done.scope.outputs)
            if done.conflicts:
                self.plan.gate.open_for_all(self)
            if done.stop == len(done.batch):
                self._skip_to(tp, done.batch.next_offset)
                self._done_with(done.batch)
        if again is not None:
            self._again.append(again)
            self._note_conflict(again.conflicts)
        self._arrived.set()

    async def fail(self, slot: Slot, exc: Exception) -> bool:
        """Undo a slot and do what the policy says; ``True`` if it is to be handed out again.

        Raises:
            AgentStoppedError: The policy is to stop.
        """
        slot.scope.undo()
        slot.failures += 1
        rejects = self.plan.rejects
        verdict = rejects.judge(exc, _where(slot.batch, slot.start), slot.failures)
        if verdict is Verdict.RETRY:
            await self._pause(slot.failures)
            return True
        if slot.stop > slot.start + 1:
            # One of several is bad: each gets its own tries.
            self._again.extend(self._windows[slot.batch.tp].split(slot))
            self._arrived.set()
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

    def _opened(self, tp: TP) -> int:
        chunk = self._chunk
        return chunk.position if chunk is not None and chunk.tp == tp else self._next[tp]

    def _open(self, batch: RecordBatch) -> None:
        rest = batch.since(self._next[batch.tp])
        self._chunk = self._chunk_of(rest) if rest is not None else None

    def _slot(self, chunk: Chunk, size: int) -> Slot:
        start, stop = chunk.at, chunk.run(size)
        place = EventScope()
        place.partition = chunk.tp.partition
        place.partitions = self.plan.partitions_of(chunk.tp.topic)
        values = chunk.values[start:stop]
        slot = open_slot(chunk.batch, start, values, chunk.time_at(stop - 1), like=place)
        chunk.at = chunk.given = stop
        self._windows[chunk.tp].slots.append(slot)
        return slot


def _cost(batch: RecordBatch) -> int:
    return batch.size_bytes + _RECORD_BYTES * len(batch)


def _where(batch: RecordBatch, index: int) -> str:
    return f"{batch.tp.topic}/{batch.tp.partition} offset {batch.offsets[index]}"
