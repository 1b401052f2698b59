"""The engine: reads what the agents want, brings it to them, and commits what they did.

It owns the only tasks that matter for correctness: one that follows the group (assign, restore,
drain), one that commits. Everything that the two share lives on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from mode import Service

from streamapp.core.batch import TP, RecordBatch
from streamapp.engine.checkpoints import CheckpointMaker
from streamapp.engine.committer import Committer
from streamapp.engine.declared import claim
from streamapp.engine.gate import Gate
from streamapp.engine.group import Fenced, GroupFollower
from streamapp.engine.intake import Intake
from streamapp.engine.keeper import Keeper
from streamapp.engine.outbox import Outbox
from streamapp.engine.pipelines import Pipelines
from streamapp.engine.rejects import AgentStoppedError
from streamapp.engine.standby import Standby
from streamapp.engine.states import EngineState, follow
from streamapp.engine.subscriptions import Subscriptions, fail_in_hand, goes_on, run_with_policy
from streamapp.engine.sweep import Sweeper
from streamapp.engine.timers_run import TimerRunner
from streamapp.engine.topics import Topics
from streamapp.errors import (
    FencedError,
    InputError,
    NameTakenError,
    PartitionMismatchError,
    StateError,
    StreamappError,
)
from streamapp.transport.broker import Assigned, MemberEvent

if TYPE_CHECKING:
    from streamapp.app import App
    from streamapp.engine.feed import Feed
    from streamapp.engine.stream import Stream
    from streamapp.engine.topic import Topic

log = logging.getLogger(__name__)
_T = TypeVar("_T")

#: Bytes of one partition that may wait for its slowest agent before the partition is paused.
_BUFFER_BYTES = 8 << 20
#: Seconds that the end of the worker waits for a start under way.
_LAST_START_S = 5.0


@contextmanager
def ends_the_worker() -> Iterator[None]:
    """Turn a mistake of the user into one clear line and an exit status, without a traceback."""
    try:
        yield
    except StreamappError as exc:
        log.critical("%s", exc)
        raise SystemExit(exc.exit_code) from None


class Engine(Service):
    """One worker's engine; a service of the application."""

    def __init__(self, app: App, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.app = app
        self.gate = Gate()
        self.outbox = Outbox()
        self.phase = EngineState.STARTING
        self.is_ready = asyncio.Event()
        self.owned: frozenset[TP] = frozenset()
        self.problem = ""
        self.subscriptions = Subscriptions(
            self.gate, self.outbox, f"{app.conf.id}-dead-letters", self._on_room
        )
        self.paused = self.subscriptions.paused
        self.topics = Topics(app)
        #: Who has which name of those that are made of several: see ``declared.claim``.
        self.owners: dict[str, str] = {}
        self.timers = TimerRunner(self)
        self.pipelines = Pipelines(self)
        self.standby = Standby(self)
        self.subscriptions.counts = self.topics.counts
        self.subscriptions.limits = self.topics.limits
        self.keeper: Keeper
        self.committer: Committer
        self.group: GroupFollower
        self.intake: Intake | None = None
        self.checkpoints: CheckpointMaker | None = None
        self._following: asyncio.Task[None] | None = None
        #: Set while no start is under way.
        self._is_settled = asyncio.Event()
        self._is_settled.set()

    # --- life ------------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Create topics, open the state, join the group.

        A mistake of the user ends the worker with one clear line instead of a traceback.
        """
        self._is_settled.clear()
        try:
            with ends_the_worker():
                await self._start()
        finally:
            self._is_settled.set()

    async def _start(self) -> None:
        conf, options = self.app.conf, self.app.options
        await self.app.transport.hold()
        # The agents have been started; each makes its subscription in its first step.
        await asyncio.sleep(0.05)
        self.keeper = Keeper(conf.id, self.app.tables, self.app.broker, options.cache_bytes)
        self.keeper.budget.on_crowded = self.outbox.wanted.set
        self.group = GroupFollower(self)
        self.committer = Committer(
            take=self.group.take_cut,
            on_committed=self.group.on_committed,
            gate=self.gate,
            outbox=self.outbox,
            budget=self.keeper.budget,
            interval_s=options.commit_interval_ms / 1_000,
        )
        for table in self.app.tables.values():
            table.now_ms = partial(self.group.now_ms, table)
        await self.pipelines.declare()  # their tables have the time of their stage
        await self.topics.declare(self.subscriptions)
        await self.call(self.keeper.declare, conf.topic_partitions)
        self.topics.check_tables(self.app)
        await self.call(self.keeper.open, options.state_folder)
        await self.group.join()
        self.subscriptions.on_change = self.group.rejoin_soon
        self.subscriptions.on_reader_done = self._on_reader_done
        self.checkpoints = self.keeper.checkpoint_maker(options.checkpoints_kept)
        self.add_future(self._commit_forever())
        self.add_future(self.timers.run())
        self.add_future(self._checkpoint_forever(options.checkpoint_interval_ms / 1_000))
        self.pipelines.start()
        self._following = asyncio.create_task(self.group.follow())
        self.watch(self._following)

    def watch(self, task: asyncio.Task[None]) -> None:
        """Let the worker crash if the task fails: it would look alive and do nothing."""
        task.add_done_callback(self._on_ended)

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, StreamappError):
            log.critical("%s", error)
        else:
            log.critical("The engine failed", exc_info=error)
        self.add_future(self.crash(error))

    async def on_stop(self) -> None:
        """Drain: finish the events in hand, commit, leave the group, close the state.

        A start under way comes to its end first: it would join a group that nobody leaves.
        """
        try:
            await asyncio.wait_for(self._is_settled.wait(), _LAST_START_S)
        except TimeoutError:
            log.warning("The worker ends while it waits for the broker")
        if self._following is not None:
            self.keeper.interrupt()
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
            await self.group.leave()
            await self.standby.hold()
            await self.timers.close()
            self.become(EngineState.STOPPED)
            await self.call(self.committer.close)
            await self.call(self.keeper.release)
        await self.app.transport.drop()

    def become(self, state: EngineState) -> None:
        """Go to another state."""
        if state is not self.phase:
            log.info("%s -> %s", self.phase, state)
        self.phase = follow(self.phase, state)

    @property
    def is_leader(self) -> bool:
        """Whether this worker owns the first partition of the first topic that agents read."""
        first = min(self.subscriptions.topics, default="")
        return TP(first, 0) in self.owned

    def choose_partition(self, topic: str, key: bytes | None, partitions: int) -> int:
        """Return the partition of an output."""
        return self.topics.choose(topic, key, partitions)

    def repartition_topic(
        self, source: Topic, agent: str, name: str, partitions: int | None
    ) -> Topic:
        """Return the topic through which ``group_by`` sends the records of a stream."""
        count = partitions or self.topics.counts.get(source.topics[0]) or source.partitions
        topic_name = f"{self.app.conf.id}-{agent}-{name}-repartition"
        claim(self.owners, f"topic {topic_name}", f"Agent {agent}")
        topic: Topic = self.app.topic(
            topic_name,
            key_type=source.key_type,
            value_type=source.value_type,
            partitions=count,
            internal=True,
        )
        # Records come to it with the time of the event that sends them.
        topic.event_time = replace(source.event_time, field=None)
        return topic

    async def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Run a blocking function in a thread."""
        return await asyncio.get_running_loop().run_in_executor(None, partial(function, *args))

    async def _commit_forever(self) -> None:
        tables = list(self.app.tables.values())
        sweeper = Sweeper(tables, lambda table, partition: table.now_ms(partition))
        while not self.should_stop:
            await self.committer.wait_until_due()
            if self.phase is EngineState.RUNNING:
                try:
                    sweeper.step()
                except StateError as exc:
                    self.group.put(exc)
                await self.commit()

    async def _checkpoint_forever(self, interval_s: float) -> None:
        maker = self.checkpoints
        while maker is not None and interval_s > 0:
            await asyncio.sleep(interval_s)
            if self.phase is EngineState.RUNNING:
                try:
                    await self.committer.checkpoint(maker)
                except StateError as exc:
                    # A checkpoint is a second copy: without it the worker is as correct as before.
                    log.error("No checkpoint was made: %s", exc)  # noqa: TRY400

    async def commit(self) -> bool:
        """Commit what is finished; ``False`` if it could not be and the state is being rebuilt."""
        generation = self.group.generation
        try:
            return await self.committer.commit(
                give_up=lambda: self.phase is not EngineState.RUNNING
            )
        except FencedError as exc:
            self.group.put(Fenced(generation, str(exc)))
        except StreamappError as exc:
            await self._learn_of(exc)
            self.group.put(exc)
        return False

    async def _learn_of(self, exc: StreamappError) -> None:
        """Look what topics take after a refusal: its events run again, and are told in time."""
        if isinstance(exc, InputError):
            try:
                await self.topics.look_again()
            except StreamappError as again:
                log.info("What topics take is not known: %s", again)

    # --- records in ------------------------------------------------------------------------------

    def deliver(self, events: list[MemberEvent]) -> None:
        """Take what the intake thread brings."""
        for event in events:
            if isinstance(event, RecordBatch):
                self._deliver(event)
            elif self._may_take(event):
                self.group.put(event)

    def _may_take(self, event: MemberEvent) -> bool:
        """Tell whether the worker can go on; it ends where topics do not fit any more."""
        try:
            if isinstance(event, Assigned):
                self.topics.note_counts(event.counts)
        except PartitionMismatchError as exc:
            self._fail(exc)
            return False
        return True

    def _deliver(self, batch: RecordBatch) -> None:
        tp = batch.tp
        buffered = max(
            (feed.put(batch) for feed in self.subscriptions.readers(tp.topic)), default=0
        )
        if buffered > _BUFFER_BYTES and tp not in self.paused and self.group.member is not None:
            self.paused.add(tp)
            self.group.member.pause([tp])

    def _on_room(self, tp: TP) -> None:
        if tp in self.paused and self.group.member is not None:
            readers = self.subscriptions.readers(tp.topic)
            if all(feed.buffered(tp) < _BUFFER_BYTES // 2 for feed in readers):
                self.paused.discard(tp)
                self.group.member.resume([tp])

    # --- what streams and agents ask for ---------------------------------------------------------

    def subscribe(self, stream: Stream) -> Feed:
        """Return the feed of a stream; a new topic makes the worker join the group again."""
        return self.subscriptions.feed_of(stream)

    def run_beside(self, source: Stream, work: Callable[[Stream], Awaitable[None]]) -> None:
        """Run work over a stream beside the agent that made it, under the agent's policy."""
        self.add_future(self._beside(source, work))

    async def _beside(self, source: Stream, work: Callable[[Stream], Awaitable[None]]) -> None:
        task = asyncio.current_task()

        def streams() -> list[Stream]:
            return self.subscriptions.streams_of(task)

        async def on_error(exc: Exception) -> None:
            if isinstance(exc, StateError):
                await self.on_state_error(exc)
            elif not await fail_in_hand(streams(), exc):
                raise exc

        try:
            await run_with_policy(lambda: work(source), streams, on_error)
        except AgentStoppedError as exc:
            log.error("%s stops, as its policy says: %s", source.prefix, exc.__cause__)  # noqa: TRY400
            self.stop_feeds(task)

    async def on_state_error(self, exc: StateError) -> None:
        """Rebuild the state; returns when agents may go on."""
        self.gate.close("the state is rebuilt")
        self.group.put(exc)
        await self.gate.wait(self)

    def stop_feeds(self, task: asyncio.Task[Any] | None) -> None:
        """Take no more records for an agent that its policy has stopped; its position stays."""
        for stream in self.subscriptions.streams_of(task):
            if stream.feed is not None:
                stream.feed.stop()

    async def end_feeds(self, task: asyncio.Task[Any] | None) -> None:
        """Forget the feeds of an agent whose last instance has returned; its last event counts."""
        # A child task that the agent has left behind goes on.
        streams = [s for s in self.subscriptions.streams_of(task) if not goes_on(s)]
        if self._following is not None:
            # While they have positions: what the agent did must not be committed without them.
            await self.commit()
        for stream in streams:
            feed = stream.feed
            if feed is not None and feed.agents <= {task}:
                feed.stop()
                self.subscriptions.discard(feed)

    def _on_reader_done(self, task: asyncio.Task[Any]) -> None:
        if not self.should_stop:
            self.add_future(self._forget_streams(task))

    async def _forget_streams(self, task: asyncio.Task[Any]) -> None:
        """Forget what a task outside of agents has read: it would hold back all who read that.

        The event in hand counts if the task has come to its end.
        """
        streams = [
            stream for stream in self.subscriptions.streams_of(task) if stream.reader is task
        ]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # To ask for it has taken it from who would tell of it.
            log.error("A task that reads a stream has failed", exc_info=error)
        for stream in streams:
            if task.cancelled() or error is not None:
                stream.hand_back()
            else:
                stream.finish_in_hand()
        await self.commit()
        for stream in streams:
            feed, stream.feed = stream.feed, None
            if feed is not None:
                feed.stop()
                self.subscriptions.forget(feed)

    async def partitions_for(self, topic: Topic) -> int:
        """Return the partitions of a topic that is sent to; creates it if that is allowed."""
        return await self.topics.ensure(topic)

    def on_intake_error(self, exc: Exception) -> None:
        """Note that the broker fails: it is tried again. What cannot end well ends the worker."""
        if not isinstance(exc, StreamappError) or isinstance(exc, NameTakenError):
            self._fail(exc)
        elif str(exc) != self.problem:
            self.problem = str(exc)
            log.error("%s. Trying again", exc)
