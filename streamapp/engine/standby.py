"""Standing by: this worker's store follows changelogs of partitions that other workers own.

Which ones is told by ``core.placement``: those that this worker would get if others died. They are
followed into the worker's own store, under the marks that a restore goes by; so a takeover is a
restore that has little left to read. Nothing is followed while partitions come and go: the task is
ended by ``hold`` before anything else may write rows of a partition that was followed.

It must never hold up the agents: small batches, written on the commit's thread between two commits,
with at least as long a rest after some of them as their work took.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamapp.core.placement import standbys
from streamapp.engine.restore import (
    RestoreProgress,
    Start,
    Target,
    as_of,
    find_starts,
    prepare,
)
from streamapp.errors import BrokerError, StateError
from streamapp.faults import crash_point

if TYPE_CHECKING:
    from streamapp.core.batch import TP, RecordBatch
    from streamapp.engine.engine import Engine
    from streamapp.engine.restore import ShardPlan
    from streamapp.transport.broker import Reader

log = logging.getLogger(__name__)

#: Records of one write, which stalls the agents for some milliseconds, and writes between two
#: commits: they wait meanwhile.
_BATCH = 1_000
_READS = 4
#: Seconds between two reads at the end of the logs: what a takeover has left to read.
_REST_S = 0.25
#: Seconds between two looks at the group and at the ends of the logs.
_LOOK_S = 15.0
#: Seconds after which a broker or a group that does not answer is asked again.
_RETRY_S = 1.0

Plans = Mapping["TP", "ShardPlan"]


@dataclass(slots=True)
class _Found:
    """What a step has read, one list for each write, and the CPU seconds of its threads."""

    reads: list[list[RecordBatch]] = field(default_factory=list)
    records: int = 0
    cpu_s: float = 0.0

    def write(self, target: Target, starts: Mapping[TP, Start]) -> None:
        begun = time.thread_time()
        for batches in self.reads:
            target.apply(batches, starts)
        self.cpu_s += time.thread_time() - begun


def _read(reader: Reader) -> _Found:
    found, begun = _Found(), time.thread_time()
    while len(found.reads) < _READS and (batches := reader.poll(0.0, _BATCH)):
        found.reads.append(batches)
        found.records += sum(map(len, batches))
    found.cpu_s = time.thread_time() - begun
    return found


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
        #: Held while a thread writes to the store: it would go on if the task ended then.
        self._writing = asyncio.Lock()

    def start(self) -> None:
        """Begin to follow, as soon as the group tells who has what."""
        if self._engine.app.options.standbys:
            self._task = asyncio.create_task(self._run())
            self._engine.watch(self._task)

    async def hold(self) -> None:
        """End: when it returns nothing is written any more. Safe to repeat.

        It does not wait for a broker that does not answer.
        """
        task, self._task = self._task, None
        if task is not None:
            async with self._writing:
                task.cancel()
            await asyncio.wait({task})

    async def _run(self) -> None:
        while True:
            try:
                await self._follow(await self._choose())
            except BrokerError as exc:
                log.info("Standing by waits for the broker: %s", exc)
            except StateError as exc:
                self._engine.group.put(exc)
                return
            finally:
                self.plans, self.positions = {}, {}
            await asyncio.sleep(_RETRY_S)

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
        """Follow until others are to be followed."""
        if not plans:
            await asyncio.sleep(_LOOK_S)
            return
        engine = self._engine
        store = engine.keeper.store
        starts = await engine.call(find_starts, engine.app.broker, store, plans)
        await self._write(prepare, store, plans, starts)
        reader = await engine.call(engine.app.broker.reader)
        try:
            await engine.call(reader.assign, {tp: one.offset for tp, one in starts.items()})
            self.plans, self.positions = plans, reader.positions()
            target = Target(store, plans, RestoreProgress(), as_of(starts))
            is_right = True
            while is_right:
                until = time.monotonic() + _LOOK_S
                while time.monotonic() < until:
                    await self._step(reader, target, starts)
                is_right = await self._may_go_on(target)
        finally:
            await engine.call(reader.close)

    async def _step(self, reader: Reader, target: Target, starts: Mapping[TP, Start]) -> None:
        if self._engine.gate.closed:
            await asyncio.sleep(_REST_S)
            return
        found = await self._engine.call(_read, reader)
        if found.reads:
            crash_point("standby.read")
            await self._write(found.write, target, starts)
            crash_point("standby.written")
            self.records += found.records
        self.positions = reader.positions()
        is_behind = len(found.reads) == _READS
        await asyncio.sleep(found.cpu_s if is_behind else max(found.cpu_s, _REST_S))

    async def _may_go_on(self, target: Target) -> bool:
        """Tell whether these are still the ones to follow, and note the time of those at the end.

        Who is behind for so long that deletions may be gone from the log must begin anew.
        """
        if await self._choose() != target.plans:
            return False
        ends = await self._engine.call(self._engine.app.broker.offsets, target.plans)
        at_end = [tp for tp, at in self.positions.items() if at >= ends[tp].end]
        await self._write(target.renew, at_end)
        return not target.is_stale

    async def _write(self, function: Callable[..., None], *args: object) -> None:
        """Run what writes to the store on the commit's thread, between two commits."""
        async with self._writing:
            await self._engine.committer.call(function, *args)
