"""Standing by: this worker's store follows changelogs of partitions that other workers own.

Which ones is told by ``core.placement``: those that this worker would get if others died. They are
followed into the worker's own store, under the marks that a restore goes by; so a takeover is a
restore that has little left to read. Nothing is followed while partitions come and go: the task is
ended by ``hold`` before anything else may write rows of a partition that was followed.

It must never hold up the agents: small batches, written on the commit's thread between two commits,
with at least as long a rest after each of them as it took.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from streamapp.core.placement import standbys
from streamapp.engine.restore import (
    RestoreProgress,
    Start,
    Target,
    find_starts,
    is_stale,
    prepare,
    renew,
)
from streamapp.errors import BrokerError, StateError
from streamapp.faults import crash_point

if TYPE_CHECKING:
    from streamapp.core.batch import TP
    from streamapp.engine.engine import Engine
    from streamapp.engine.restore import ShardPlan
    from streamapp.transport.broker import Reader

log = logging.getLogger(__name__)

#: Records of one write, which stalls agents and commits for some milliseconds.
_BATCH = 1_000
#: Seconds between two reads at the end of the logs: what a takeover has left to read.
_REST_S = 0.25
#: Seconds between two looks at the group and at the ends of the logs.
_LOOK_S = 15.0
#: Seconds after which a broker or a group that does not answer is asked again.
_RETRY_S = 1.0

Plans = Mapping["TP", "ShardPlan"]


class Standby:
    """Follows what this worker stands by for, from ``start`` to ``hold``. Used on the loop."""

    def __init__(self, engine: Engine) -> None:
        #: What is followed, by its log, and the next offset of each.
        self.plans: Plans = {}
        self.positions: dict[TP, int] = {}
        #: Records followed since the worker started.
        self.records = 0
        self._engine = engine
        self._task: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    def start(self) -> None:
        """Begin to follow, as soon as the group tells who has what."""
        if self._engine.app.options.standbys:
            self._ending.clear()
            self._task = asyncio.create_task(self._run())
            self._engine.watch(self._task)

    async def hold(self) -> None:
        """End: when it returns nothing is read or written any more. Safe to repeat."""
        task, self._task = self._task, None
        if task is not None:
            self._ending.set()
            await asyncio.wait({task})

    async def _run(self) -> None:
        while not self._ending.is_set():
            try:
                await self._follow(await self._choose())
            except BrokerError as exc:
                log.info("Standing by waits for the broker: %s", exc)
            except StateError as exc:
                self._engine.group.put(exc)
                return
            finally:
                self.plans, self.positions = {}, {}
            await self._rest(_RETRY_S)

    async def _choose(self) -> Plans:
        """Return what to follow, as the group is now."""
        engine = self._engine
        topics, member = engine.topics, engine.group.member
        everybody = await engine.call(engine.app.broker.members, engine.app.conf.id)
        read = engine.subscriptions.topics & topics.counts.keys()
        counts = {topic: topics.counts[topic] for topic in read}
        owned = {one.id: one.tps for one in everybody if one.is_alive}
        chosen = standbys(owned, counts, engine.app.options.standbys)
        mine = chosen.get(member.id, ()) if member is not None else ()
        own = {plan.log for plan in engine.keeper.plans(topics.counts, engine.owned)}
        plans = engine.keeper.plans(topics.counts, mine)
        return {plan.log: plan for plan in plans if plan.log not in own}

    async def _follow(self, plans: Plans) -> None:
        """Follow until ``hold``, or until others are to be followed."""
        if not plans:
            await self._rest(_LOOK_S)
            return
        engine = self._engine
        store = engine.keeper.store
        starts = await engine.call(find_starts, engine.app.broker, store, plans)
        await engine.committer.call(prepare, store, plans, starts)
        reader = await engine.call(engine.app.broker.reader)
        try:
            await engine.call(reader.assign, {tp: one.offset for tp, one in starts.items()})
            self.plans, self.positions = plans, reader.positions()
            target = Target(store, plans, RestoreProgress())
            while await self._may_go_on(plans):
                until = time.monotonic() + _LOOK_S
                while time.monotonic() < until and not self._ending.is_set():
                    await self._step(reader, target, starts)
        finally:
            await engine.call(reader.close)

    async def _step(self, reader: Reader, target: Target, starts: Mapping[TP, Start]) -> None:
        begun = time.monotonic()
        if self._engine.gate.closed:
            await self._rest(_REST_S)
            return
        batches = await self._engine.call(reader.poll, 0.0, _BATCH)
        count = sum(map(len, batches))
        if batches:
            crash_point("standby.read")
            await self._engine.committer.call(target.apply, batches, starts)
            crash_point("standby.written")
            self.records += count
        self.positions = reader.positions()
        took = time.monotonic() - begun
        await self._rest(took if count == _BATCH else max(took, _REST_S))

    async def _may_go_on(self, plans: Plans) -> bool:
        """Tell whether these are still the ones to follow, and note the time of those at the end.

        Who is behind for so long that deletions may be gone from the log must begin anew.
        """
        if self._ending.is_set() or await self._choose() != plans:
            return False
        engine = self._engine
        ends = await engine.call(engine.app.broker.offsets, plans)
        at_end = [plan for tp, plan in plans.items() if self.positions.get(tp, 0) >= ends[tp].end]
        store = engine.keeper.store
        await engine.committer.call(renew, store, at_end)
        return not await engine.call(
            is_stale, store, [p for p in plans.values() if p not in at_end]
        )

    async def _rest(self, seconds: float) -> None:
        """Wait, or return at once when it is to end."""
        try:
            await asyncio.wait_for(self._ending.wait(), seconds)
        except TimeoutError:
            return
