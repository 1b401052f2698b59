"""Follows the group: takes partitions over, restores them, drains them, and rebuilds lost state.

Events are handled one after the other by one task. What is uncommitted when partitions are lost is
dropped, never written: the next owner begins at the committed position.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamapp.core.batch import TP
from streamapp.core.times import NEVER_MS
from streamapp.engine.commit import Cut, StoreWriter
from streamapp.engine.event_clock import EventClock
from streamapp.engine.intake import Intake
from streamapp.engine.progress import describe_end, show
from streamapp.engine.restore import RestoreProgress, RestoreStoppedError
from streamapp.engine.signals import GroupSignals
from streamapp.engine.starts import in_log
from streamapp.engine.states import EngineState
from streamapp.errors import StateCorruptError, StateError, StreamappError
from streamapp.faults import crash_point
from streamapp.state.changelog import changelog_topic
from streamapp.transport.broker import Assigned, Lost, Position, Revoking, SendsEarly

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamapp.engine.engine import Engine
    from streamapp.engine.restore import ShardPlan
    from streamapp.state.table import Table
    from streamapp.transport.broker import Member

log = logging.getLogger(__name__)

#: Seconds that an event in hand may take to finish when its partition is given up; others wait.
_DRAIN_S = 2.0
#: The same at the end of the worker, where only its operator waits.
_LAST_DRAIN_S = 10.0
#: Seconds between two looks at whether the agents are done; draining is rare.
_DRAIN_LOOK_S = 0.005
#: Seconds between two tries to open a state that has no room.
_REOPEN_S = 1.0
#: A failure so many seconds after the one before waits: its cause is still there.
_CALM_S = 5.0
#: Seconds in which new subscriptions gather before the worker joins the group anew.
_REJOIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Fenced:
    """A commit of this generation was refused: somebody else owns the partitions."""

    generation: int
    reason: str


_Event = Assigned | Revoking | Lost | Fenced | StreamappError | str


def _ends_restore(event: _Event) -> bool:
    return not isinstance(event, Assigned | Fenced)


class GroupFollower:
    """The task behind the engine's states; see the module. ``engine`` is its only collaborator."""

    def __init__(self, engine: Engine) -> None:
        self.member: Member | None = None
        self.generation = 0
        self.committed: dict[TP, Position] = {}
        self.rebalances = 0
        #: The generation whose shards are still right: nobody else can have written to them if the
        #: next assignment is that of the generation that follows.
        self._kept: int | None = None
        self._engine = engine
        self._failed_at = -_CALM_S
        self._is_failing = False
        #: Queued events that make a restore pointless.
        self._pressing = 0
        self._events: asyncio.Queue[_Event] = asyncio.Queue()
        self._rejoin: asyncio.TimerHandle | None = None
        self._clock = EventClock(engine)
        self._signals = GroupSignals(engine)

    def put(self, event: Any) -> None:
        """Queue an event. What makes a running restore pointless ends it."""
        if isinstance(event, StreamappError):
            # Several agents meet the same broken store: one rebuild is enough.
            if self._is_failing:
                return
            self._is_failing = True
        if _ends_restore(event):
            self._pressing += 1
            self._engine.keeper.interrupt()
        self._events.put_nowait(event)

    async def follow(self) -> None:
        """Handle events until the engine stops."""
        while not self._engine.should_stop:
            event = await self._events.get()
            self._pressing -= _ends_restore(event)
            if isinstance(event, Assigned):
                await self._on_assigned(event)
            elif isinstance(event, Revoking):
                await self._signals.revoked(event.tps)
                await self._on_revoking(event)
            elif isinstance(event, Lost):
                await self._on_lost(event)
            elif isinstance(event, Fenced):
                await self._on_fenced(event)
            elif isinstance(event, str):
                await self._on_rejoin()
            else:
                await self._on_failure(event)
            await self._signals.assigned()

    # --- membership ------------------------------------------------------------------------------

    async def join(self) -> None:
        """Join the group for all topics that agents read."""
        engine = self._engine
        engine.become(EngineState.JOINING)
        app = engine.app
        topics = sorted(engine.subscriptions.topics)
        self.member = await engine.call(
            app.broker.join, app.conf.id, topics, str(app.conf.canonical_url)
        )
        engine.committer.member = self.member
        engine.outbox.send = self.member.send if isinstance(self.member, SendsEarly) else None
        engine.intake = Intake(
            self.member,
            app.options.batch_max,
            engine.deliver,
            engine.on_intake_error,
            lambda: any(feed.has_queued for feed in engine.subscriptions),
        )

    async def leave(self) -> None:
        """Finish the events in hand, commit, and leave the group."""
        engine = self._engine
        if self.member is None:
            return
        if engine.phase is EngineState.RUNNING:
            engine.become(EngineState.DRAINING)
        await self._drain(engine.owned, _LAST_DRAIN_S)
        if await engine.commit():
            await self._flush()
        self._let_go(engine.owned)
        await self._forget()
        if engine.intake is not None:
            await engine.call(engine.intake.stop)
        self._drop_stale()
        member, self.member = self.member, None
        engine.committer.member = engine.outbox.send = None
        await engine.call(member.leave)

    def _drop_stale(self) -> None:
        """Forget what the member that leaves has still told: it is not true of the next one."""
        events = [self._events.get_nowait() for _ in range(self._events.qsize())]
        for event in events:
            if isinstance(event, StreamappError | str):
                self._events.put_nowait(event)
            else:
                self._pressing -= _ends_restore(event)

    def rejoin_soon(self) -> None:
        """Join again with the topics that agents read by now."""
        if self._rejoin is None:
            self._rejoin = asyncio.get_running_loop().call_later(_REJOIN_S, self.put, "rejoin")

    async def _on_rejoin(self) -> None:
        self._rejoin = None
        await self._signals.revoked(self._engine.owned)
        await self._engine.topics.declare(self._engine.subscriptions)
        await self.leave()
        await self.join()

    # --- partitions come and go ------------------------------------------------------------------

    async def _on_assigned(self, event: Assigned) -> None:
        engine, keeper = self._engine, self._engine.keeper
        if self._kept is None or event.generation != self._kept + 1:
            keeper.detach()
        self._kept, self.generation = None, event.generation
        self.rebalances += 1
        engine.become(EngineState.RESTORING)
        await engine.standby.hold()
        plans = keeper.plans(engine.topics.counts, event.tps)
        keeper.detach({(plan.table, plan.partition) for plan in plans})
        if not self._pressing:
            keeper.allow()
        try:
            await self._restore(plans)
            await self._begin(event.tps)
        except RestoreStoppedError:
            engine.owned = event.tps
            return
        except StreamappError as exc:
            self.put(exc)
            engine.owned = event.tps
            return
        engine.become(EngineState.RUNNING)
        engine.timers.start()
        engine.gate.open("the state is rebuilt")
        engine.problem = ""
        engine.is_ready.set()
        engine.standby.start()

    async def _restore(self, plans: list[ShardPlan]) -> None:
        engine, keeper = self._engine, self._engine.keeper
        new = [p for p in plans if p.partition not in engine.app.tables[p.table].shards]
        if new:
            keeper.progress = RestoreProgress()
            showing = asyncio.create_task(show(keeper.progress))
            try:
                await engine.call(keeper.restore, new)
            finally:
                showing.cancel()
            if keeper.progress.total or keeper.progress.at_hand:
                log.info("%s", describe_end(new, keeper.progress))
        keeper.attach(plans)
        if engine.committer.writer is None:
            engine.committer.writer = StoreWriter(
                keeper.store, keeper.uids, engine.app.options.store_interval_ms / 1_000
            )

    async def _begin(self, tps: frozenset[TP]) -> None:
        engine = self._engine
        broker = engine.app.broker
        committed = await engine.call(broker.committed, engine.app.conf.id, tps)
        ranges = await engine.call(broker.offsets, tps)
        starts: dict[TP, int] = {}
        for tp in tps:
            first = ranges[tp].earliest if self._from_earliest() else ranges[tp].end
            progress = in_log(tp, committed.get(tp, Position(first)), ranges[tp])
            for feed in engine.subscriptions.readers(tp.topic, also_ended=True):
                place = progress.place_of(feed.name)
                feed.start(tp, place.offset, place.time_ms, place.note)
            starts[tp] = progress.offset
        self.committed = {tp: committed[tp] for tp in tps if tp in committed}
        engine.owned = tps
        if self.member is not None:
            self.member.seek(starts)
            # After a rebuild the member still has its pauses.
            self.member.resume(engine.paused)
        engine.paused.clear()
        if engine.intake is not None:
            engine.intake.listen()

    async def _on_revoking(self, event: Revoking) -> None:
        engine = self._engine
        engine.become(EngineState.DRAINING)
        await self._drain(event.tps, _DRAIN_S)
        crash_point("rebalance.drained")
        committed = await engine.commit() and await self._flush()
        self._let_go(event.tps)
        if committed and not self._has_leftovers():
            self._kept = self.generation
        else:
            await self._forget()
        crash_point("rebalance.committed")
        if self.member is not None:
            self.member.release()
        engine.become(EngineState.JOINING)

    async def _on_lost(self, event: Lost) -> None:
        engine = self._engine
        log.warning("The group went on without this worker (%s): it starts anew", event.reason)
        engine.problem = engine.problem or f"The group went on without us: {event.reason}"
        lost = engine.owned | event.tps
        self._let_go(lost)
        await self._forget()
        engine.become(EngineState.JOINING)
        await self._signals.revoked(lost)

    async def _on_fenced(self, event: Fenced) -> None:
        # The member may have told before, and may have partitions again: nobody would assign them
        # a second time.
        if event.generation == self.generation:
            await self._on_lost(Lost(self._engine.owned, event.reason))

    async def _on_failure(self, exc: StreamappError) -> None:
        """Rebuild: drop what is in memory, open the store again, follow the changelogs."""
        engine = self._engine
        owned, is_out = engine.owned, engine.phase is EngineState.JOINING
        log.warning("%s. The state is rebuilt", exc)
        if time.monotonic() - self._failed_at < _CALM_S:
            await asyncio.sleep(_REOPEN_S)
        self._failed_at = time.monotonic()
        engine.become(EngineState.REBUILDING)
        engine.problem = str(exc)
        engine.gate.close("the state is rebuilt")
        self._let_go(owned)
        await self._forget()
        await engine.standby.hold()
        if engine.intake is not None:
            # A batch that was read before the seek and came after it would look like the next one.
            await engine.intake.hush()
        is_corrupt = isinstance(exc, StateCorruptError)
        while not engine.should_stop:
            try:
                await engine.call(engine.keeper.close, is_corrupt)
                await engine.call(engine.keeper.open, engine.app.options.state_folder)
                break
            except StateError as again:
                engine.problem = str(again)
                is_corrupt = isinstance(again, StateCorruptError)
                await asyncio.sleep(_REOPEN_S)
        self._is_failing = False
        if is_out:
            engine.become(EngineState.JOINING)  # it has no partitions before the group assigns some
        else:
            await self._on_assigned(Assigned(self.generation, owned))

    async def _drain(self, tps: Iterable[TP], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        feeds = [*self._engine.subscriptions, self._engine.timers]
        for feed in feeds:
            feed.hold(tps)
        while any(feed.has_in_hand(tps) for feed in feeds) and time.monotonic() < deadline:  # noqa: ASYNC110 - of all feeds at once, seldom
            await asyncio.sleep(_DRAIN_LOOK_S)

    async def _flush(self) -> bool:
        """Write to the store what waits: rows of partitions that come back must not be older."""
        try:
            await self._engine.committer.flush()
        except StateError as exc:
            self.put(exc)
            return False
        return True

    def _has_leftovers(self) -> bool:
        """Tell whether events were finished after the last cut: they will be processed again."""
        engine = self._engine
        shards = (shard for table in engine.app.tables.values() for shard in table.shards.values())
        return bool(len(engine.outbox)) or any(shard.is_changed for shard in shards)

    async def _forget(self) -> None:
        """Drop what is not committed, and what waits for the store: it is in the changelog."""
        await self._engine.committer.reset()
        self._engine.keeper.detach()
        self._clock.forget()

    def _let_go(self, tps: Iterable[TP]) -> None:
        subscriptions = self._engine.subscriptions
        for feed in (*subscriptions, *subscriptions.ended, self._engine.timers):
            feed.revoke(tps)
        self._engine.owned = self._engine.owned - frozenset(tps)

    # --- commits ---------------------------------------------------------------------------------

    def take_cut(self) -> Cut:
        """Take what is finished: outputs, rows, and the positions that have moved."""
        engine = self._engine
        engine.pipelines.tick()
        rows = []
        for table in engine.app.tables.values():
            topic = changelog_topic(engine.app.conf.id, table.name, table.partitions).name
            for number, shard in table.shards.items():
                if shard.is_changed and (changes := shard.take()):
                    rows.append((shard, TP(topic, number), changes))
        positions = {}
        for tp in engine.owned:
            progress = engine.subscriptions.progress(tp)
            if progress is not None:
                position = Position(progress.offset, progress.metadata())
                if position != self.committed.get(tp):
                    positions[tp] = position
        return Cut(engine.outbox.take(), rows, positions)

    def on_committed(self, cut: Cut) -> None:
        """Remember what the broker has."""
        self.committed.update(cut.positions)

    def now_ms(self, table: Table, partition: int) -> int:
        """Return the event time of a table's partition: the least that its events may still have.

        A row whose life is over by then is expired for all of them.
        """
        watermark = self.watermark_ms(table.partitions, partition)
        if watermark == NEVER_MS:
            return watermark
        first_ms = self._engine.timers.first_ms(table.partitions, partition, watermark)
        return min(watermark + 1, first_ms)

    def watermark_ms(self, partitions: int, partition: int) -> int:
        """See ``EventClock.watermark_ms``."""
        return self._clock.watermark_ms(partitions, partition)

    def _from_earliest(self) -> bool:
        return bool(self._engine.app.conf.consumer_auto_offset_reset == "earliest")
