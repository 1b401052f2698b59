"""The records on their way to one agent: queued batches, and how far each partition is done.

A feed belongs to one agent (all its instances) and is used on the event loop only. Its position in
a partition is the offset of the first record that is not done, which is what a commit may contain.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamapp.core.event_time import RECORD_TIME, EventTime
from streamapp.core.int_columns import greatest
from streamapp.core.positions import Place
from streamapp.core.times import NEVER_MS
from streamapp.core.watermarks import Headway
from streamapp.engine.rejects import Rejects
from streamapp.engine.work import Chunk
from streamapp.serde.codecs import Bad

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streamapp.core.batch import TP, RecordBatch
    from streamapp.engine.gate import Gate
    from streamapp.engine.outbox import Outbox
    from streamapp.errors import InputError
    from streamapp.serde.codecs import Decoded

#: Conflicts of one event before it runs alone: each one costs its whole work again.
_CONFLICTS_ALLOWED = 3
#: Bytes that a buffered record costs beside its key and value: one bound then holds back both
#: large records and many small ones.
_RECORD_BYTES = 200


@dataclass(frozen=True, slots=True)
class FeedPlan:
    """What a feed is made of.

    ``decode`` turns a batch into one value (or ``Bad``) per record. ``paused`` are partitions whose
    records wait in the broker.
    """

    name: str
    topics: tuple[str, ...]
    decode: Callable[[RecordBatch], Decoded]
    rejects: Rejects
    gate: Gate
    outbox: Outbox
    partitions_of: Callable[[str], int]
    on_room: Callable[[TP], None]
    event_time: EventTime = RECORD_TIME
    paused: Container[TP] = frozenset()


class Feed:
    """What both kinds of feed share: queue, start positions, waiting."""

    def __init__(self, plan: FeedPlan) -> None:
        self.plan = plan
        self.name = plan.name
        self.stats = plan.rejects.stats
        self.is_stopped = False
        #: Several records that fail are halved at once, not tried again: the agent reads batches.
        self.halves = False
        #: The tasks that read it themselves: these can be interrupted.
        self.tasks: set[asyncio.Task[Any]] = set()
        #: Those and the ones whose children read it: the instances of the agent.
        self.agents: set[asyncio.Task[Any]] = set()
        self._queue: deque[RecordBatch] = deque()
        #: Event time of each partition: the greatest of the records of batches that were opened.
        self.times: dict[TP, int] = {}
        #: What was told of each partition's watermark since its start: it never goes back.
        self._watermarks: dict[TP, int] = {}
        #: When each partition was last found with records, by the monotonic clock.
        self._busy_at: dict[TP, float] = {}
        self._next: dict[TP, int] = {}
        self._held: set[TP] = set()
        self._buffered: dict[TP, int] = {}
        self._arrived = asyncio.Event()
        self._interrupted: set[asyncio.Task[Any]] = set()

    # --- the engine's side -----------------------------------------------------------------------

    def start(self, tp: TP, offset: int, time_ms: int, note: str = "") -> None:
        """Begin a partition at this offset and event time; earlier records are done.

        ``note`` is what ``note`` returned when that was committed.
        """
        del note
        self._next[tp] = offset
        self._held.discard(tp)
        self._buffered[tp] = 0
        self.times[tp] = time_ms
        self._watermarks[tp] = NEVER_MS
        self._busy_at[tp] = time.monotonic()

    def put(self, batch: RecordBatch) -> int:
        """Queue what is not done of a batch; return the bytes now buffered of its partition."""
        tp = batch.tp
        if self.is_stopped or tp not in self._next or tp in self._held:
            return 0
        rest = batch.since(self._next[tp])
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
        # A batch that still comes would be taken for the next one: those before it are gone.
        self._held |= gone
        self._queue = deque(batch for batch in self._queue if batch.tp not in gone)
        self._arrived.set()

    def revoke(self, tps: Iterable[TP]) -> None:
        """Give the partitions up: what is in hand has no effect any more."""
        gone = set(tps)
        self.hold(gone)
        self.plan.gate.open_for_all(self)
        for tp in gone:
            self._next.pop(tp, None)
            self._buffered.pop(tp, None)

    def position(self, tp: TP) -> int:
        """Return the offset of the first record that is not done."""
        return self._next[tp]

    def time(self, tp: TP) -> int:
        """Return the event time of the partition at ``position``."""
        return self.times[tp]

    def note(self, tp: TP) -> str:  # noqa: ARG002 - for feeds that have something to note
        """Return what is to be committed beside ``position``, for the next ``start``."""
        return ""

    def place(self, tp: TP) -> Place:
        """Return how far the partition is done: what a commit may contain."""
        return Place(self.position(tp), self.time(tp), self.note(tp))

    def headway(self, tp: TP) -> Headway:
        """Return the watermark of the partition, and whether it is idle; it never goes back."""
        found = self._event_time_of(tp.topic).headway(self.time(tp), self.silent_ms(tp))
        watermark = self._watermarks[tp] = max(found.watermark_ms, self._watermarks[tp])
        return Headway(watermark, found.is_idle)

    def silent_ms(self, tp: TP) -> int:
        """Return for how long no record of the partition has come or waited, by the clock."""
        now = time.monotonic()
        if self._buffered[tp] or tp in self.plan.paused:
            self._busy_at[tp] = now
        return int((now - self._busy_at[tp]) * 1_000)

    def buffered(self, tp: TP) -> int:
        """Return the bytes of the partition that are queued or in hand."""
        return self._buffered.get(tp, 0)

    @property
    def queued(self) -> int:
        """Number of records that wait; for status pages."""
        return sum(len(batch) for batch in self._queue)

    @property
    def has_queued(self) -> bool:
        """Whether records wait; those in hand do not."""
        return bool(self._queue)

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

    def interrupt(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Make instances of the agent leave the event in hand at their next await, and begin anew.

        A task that is none of an agent's goes on, with an event in hand that has no effect.
        """
        for task in self.tasks.intersection(tasks):
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
        chunk = self._decoded(batch, start_ms)
        self.times[batch.tp] = max(start_ms, greatest(chunk.times))
        return chunk

    def _decoded(self, batch: RecordBatch, start_ms: int) -> Chunk:
        return decoded(batch, self.plan.decode, self._event_time_of(batch.tp.topic), start_ms)

    def _queued_after(self, chunk: Chunk, size: int) -> list[Chunk]:
        """Take what a chunk lacks to ``size`` records, and no more batches than that needs."""
        lacking = size - (chunk.end - chunk.at)
        more: list[Chunk] = []
        for batch in [batch for batch in self._queue if batch.tp == chunk.tp]:
            if lacking <= 0:
                break
            self._queue.remove(batch)
            more.append(self._chunk_of(batch))
            lacking -= len(batch)
        return more

    def _event_time_of(self, topic: str) -> EventTime:  # noqa: ARG002 - for feeds of several topics
        return self.plan.event_time

    def _done_with(self, batch: RecordBatch) -> None:
        tp = batch.tp
        if tp in self._buffered:
            self._busy_at[tp] = time.monotonic()
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


def decoded(
    batch: RecordBatch,
    decode: Callable[[RecordBatch], Decoded],
    how: EventTime,
    start_ms: int,
) -> Chunk:
    """Return a batch with its values and their times; a record with no time is ``Bad``."""
    found, has_bad = decode(batch)
    times, errors = how.times_of(found, batch.timestamps, time.time_ns() // 1_000_000)
    values = _with(found, errors) if errors else found
    chunk = Chunk(batch, values, start_ms, times, has_bad=has_bad or bool(errors))
    if chunk.has_bad and how.field is not None:
        # A function of the value takes whatever comes, also what could not be decoded.
        chunk.times = [
            NEVER_MS if value.__class__ is Bad else time_ms
            for value, time_ms in zip(values, times, strict=True)
        ]
    return chunk


def _with(values: Sequence[object], errors: Mapping[int, InputError]) -> list[object]:
    """Return the values with ``Bad`` where they have no time; what is bad stays as it is."""
    found = [*values]
    for index, error in errors.items():
        if found[index].__class__ is not Bad:
            found[index] = Bad(error)
    return found


def _cost(batch: RecordBatch) -> int:
    return batch.size_bytes + _RECORD_BYTES * len(batch)


def place_of(batch: RecordBatch, index: int) -> str:
    """Name a record for people."""
    return f"{batch.tp.topic}/{batch.tp.partition} offset {batch.offsets[index]}"
