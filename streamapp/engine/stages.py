"""A stage of a pipeline in a worker: its feed, and a ``StageWork`` for each partition it owns."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from time import perf_counter
from typing import TYPE_CHECKING, Any

from streamapp.core.batch import TP
from streamapp.core.times import NEVER_MS
from streamapp.core.watermarks import Headway
from streamapp.engine.rejects import AgentStoppedError
from streamapp.engine.stage_build import BadRows
from streamapp.engine.stage_feed import StageFeed
from streamapp.errors import StateError
from streamapp.operators.limit import Wait

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamapp.core.batch import RecordBatch
    from streamapp.engine.engine import Engine
    from streamapp.engine.feed import FeedPlan
    from streamapp.engine.policy import ErrorPolicy
    from streamapp.engine.stage_build import Builder
    from streamapp.engine.stage_work import StageWork
    from streamapp.engine.work import Chunk
    from streamapp.operators.operator import SetAside
    from streamapp.serde.codecs import Decoded

log = logging.getLogger(__name__)

#: Seconds of runs before other tasks get their turn.
_TURN_S = 0.01
#: Changed rows of state for which a commit is asked before its interval: bounds their memory.
_MANY_CHANGED = 100_000


class StageRunner:
    """Runs a stage."""

    def __init__(self, engine: Engine, builder: Builder, policy: ErrorPolicy) -> None:
        self.plan = builder.plan
        self.name = builder.plan.name
        self.works: dict[int, StageWork] = {}
        self.topics: dict[str, Any] = {
            name: of.topic for of in builder.plan.inputs for name in of.topic.topics
        }
        self._decoders = {name: topic.batch_decoder() for name, topic in self.topics.items()}
        self.feed: StageFeed = engine.subscriptions.add(
            self.name, tuple(self.topics), self._decode, policy, self._feed
        )
        self.bad_rows = BadRows(self.name, self.feed.plan.rejects)
        self._engine = engine
        self._builder = builder
        self._notes: dict[TP, str] = {}
        self._set_aside: Counter[tuple[str, SetAside, str]] = Counter()
        #: What works on what silences made due: the loop itself keeps no task alive.
        self._going: set[asyncio.Task[None]] = set()
        self._emitted_at = time.monotonic()
        self._interval_s = engine.app.options.commit_interval_ms / 1_000

    # --- partitions ------------------------------------------------------------------------------

    def begin(self, tp: TP, note: str) -> None:
        """A partition begins where ``note`` was made; earlier work on it is void."""
        self._notes[tp] = note
        self._let_go(tp.partition)

    def forget(self, tps: Iterable[TP]) -> None:
        """Partitions are given up, with what was not committed."""
        for tp in tps:
            self._notes.pop(tp, None)
            self._let_go(tp.partition)

    def _let_go(self, partition: int) -> None:
        work = self.works.pop(partition, None)
        if work is not None:
            self._set_aside.update(work.set_aside)

    def note(self, tp: TP) -> str:
        """Return what is to be found again with the position of a partition."""
        work = self.works.get(tp.partition)
        return self._notes.get(tp, "") if work is None else work.note(tp)

    def headway(self, tp: TP) -> Headway:
        """Return how far an input is; what was committed, until all inputs have begun."""
        work = self.works.get(tp.partition)
        if work is None:
            return Headway(self._builder.watermark_ms(tp.topic, self._notes.get(tp, "")))
        return work.clock.inputs[work.inputs[tp.topic][0]].headway

    def watermark_ms(self, partition: int) -> int:
        """Return how far event time is in a partition, for views."""
        work = self.works.get(partition)
        return NEVER_MS if work is None else work.task.watermark_ms

    @property
    def set_aside(self) -> Counter[tuple[str, SetAside, str]]:
        """Rows that did not go on as usual since the worker began, by step, what and why."""
        found = Counter(self._set_aside)
        for work in self.works.values():
            found.update(work.set_aside)
        return found

    @property
    def states(self) -> int:
        """Number of operators with state, in all partitions."""
        return sum(len(work.states) for work in self.works.values())

    def tick(self, kept_rows: int) -> None:
        """Bring all partitions to where a commit may be made; operators keep so many rows."""
        now = time.monotonic()
        may_emit = now - self._emitted_at >= self._interval_s
        if may_emit:
            self._emitted_at = now
        for partition in {tp.partition for tp in self._notes}:
            work = self._work(partition)
            if work is not None:
                work.kept_rows = kept_rows
                self._tick(work, may_emit=may_emit)
                self._engine.outbox.add(work.outputs.take())
        if self.bad_rows.stopped_by is not None:
            self._stop(self.bad_rows.stopped_by)

    def _tick(self, work: StageWork, *, may_emit: bool) -> None:
        if self.bad_rows.stopped_by is not None or self.feed.is_stopped:
            work.rest()
            return
        silences = {topic: self.feed.silent_ms(TP(topic, work.partition)) for topic in self.topics}
        was_in_hand = work.is_in_hand
        work.tick(silences, may_emit=may_emit, in_pieces=True)
        if work.is_in_hand and not was_in_hand:
            self._go_on_beside(work)

    def _stop(self, cause: BaseException | None) -> None:
        """Work on no more records, as the policy says; positions and state stay where they are."""
        if not self.feed.is_stopped:
            log.error("Pipeline %s stops, as its policy says: %s", self.name, cause)
            self.feed.stop()

    def _work(self, partition: int) -> StageWork | None:
        """Return what works on a partition; ``None`` while not all of its inputs have begun."""
        work = self.works.get(partition)
        if work is None:
            tps = [TP(topic, partition) for topic in self.topics]
            if not all(tp in self._notes for tp in tps):
                return None
            notes = {tp.topic: self._notes[tp] for tp in tps}
            work = self.works[partition] = self._builder.build(partition, notes, self.bad_rows)
        return work

    def _feed(self, plan: FeedPlan) -> StageFeed:
        return StageFeed(plan, self)

    def _decode(self, batch: RecordBatch) -> Decoded:
        return self._decoders[batch.tp.topic](batch)

    # --- records ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work on records until the worker stops."""
        task = asyncio.current_task()
        if task is None:
            return
        self.feed.tasks.add(task)
        while True:
            try:
                await self._follow()
            except AgentStoppedError as exc:
                self._stop(exc.__cause__)
                return
            except StateError as exc:
                await self._engine.on_state_error(exc)
            except asyncio.CancelledError:
                if not self.feed.was_interrupted(task) or task.cancelling():
                    raise

    async def _follow(self) -> None:
        feed = self.feed
        while True:
            turn = perf_counter() + _TURN_S
            chunk = feed.chunk or await feed.begin()
            while chunk.at < chunk.end and chunk is feed.chunk:
                await self._step(chunk)
                if perf_counter() > turn:
                    await asyncio.sleep(0)
                    turn = perf_counter() + _TURN_S
                if feed.plan.gate.closed:
                    await feed.plan.gate.wait(feed)
            feed.end(chunk)
            await asyncio.sleep(0)

    async def _step(self, chunk: Chunk) -> None:
        """Work on the next run of a chunk, or on the one record that cannot be used."""
        self._check_stopped()
        bad = chunk.bad
        work = self._work(chunk.tp.partition)
        if work is None or work.is_in_hand:
            # The other inputs of this partition are on their way, or what a silence made due is
            # on its way out; nothing is lost meanwhile.
            await asyncio.sleep(_TURN_S)
            return
        if bad is not None:
            failure: Exception | None = bad.error
        else:
            failure = await self._run(work, chunk)
        if isinstance(failure, Wait):
            self.feed.set_aside(chunk, failure.ms / 1_000)
        elif failure is not None:
            chunk.given = chunk.at + 1
            await self.feed.fail(chunk, failure)
        self._check_stopped()

    def _check_stopped(self) -> None:
        """Let a row that belongs to no record end the work, if the policy is to stop."""
        if self.bad_rows.stopped_by is not None:
            raise AgentStoppedError from self.bad_rows.stopped_by

    async def _run(self, work: StageWork, chunk: Chunk) -> Exception | None:
        """Work on the next run of a chunk; return why its next record cannot be used."""
        stop = chunk.run(work.most)
        failure = work.run(chunk, stop, in_pieces=True)
        if failure is not None:
            chunk.renew(self.feed.plan.decode, chunk.at, stop)
        if work.is_in_hand:
            await self._go_on(work)
            if self.works.get(work.partition) is not work:
                return None
            chunk.advance()
        self._engine.outbox.add(work.outputs.take())
        if work.changed > _MANY_CHANGED:
            self._engine.outbox.wanted.set()
        return failure

    async def _go_on(self, work: StageWork) -> None:
        """Do what is in hand, unless the partition is given up; others have turns in between."""
        while work.is_in_hand:
            await asyncio.sleep(0)
            if self.works.get(work.partition) is not work:
                return
            work.go_on()

    def _go_on_beside(self, work: StageWork) -> None:
        """Do the same while records of other partitions are worked on."""
        task = asyncio.create_task(self._go_on(work), name=f"pipeline-{self.name}-due")
        self._going.add(task)
        task.add_done_callback(self._going.discard)
        self._engine.watch(task)
