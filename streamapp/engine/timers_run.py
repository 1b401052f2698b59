"""Looks which timers are due, and begins a *burst* (``timers_burst``) in each of their partitions.

It is held while partitions are taken over or given up, like the feeds of agents.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamapp.core.times import FOREVER_MS
from streamapp.engine.rejects import AgentStoppedError, FeedStats, Rejects
from streamapp.engine.timers_burst import Burst
from streamapp.errors import StateError
from streamapp.state.scope import Instant

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamapp.core.batch import TP
    from streamapp.core.timers import Due
    from streamapp.engine.engine import Engine
    from streamapp.engine.timers import Timers
    from streamapp.state.scope import Source

log = logging.getLogger(__name__)

#: Seconds between two looks at what is due: how late a timer may be, at the cost of some
#: microseconds for each partition in which timers wait.
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Moment:
    """The source of a timer that goes by the clock: due by one time, in a partition of another."""

    timestamp_ms: int
    now_ms: int


class TimerRunner:
    """Looks for due timers in the partitions that the worker owns, while it is not held."""

    def __init__(self, engine: Engine) -> None:
        self.stats: dict[str, FeedStats] = {}
        self._engine = engine
        self._is_held = True
        self._stopped: set[str] = set()
        self._bursts: dict[tuple[str, int], Burst] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Look until the engine stops; returns at once if no timers are declared."""
        while self._engine.app.timers and not self._engine.should_stop:
            if not self._is_held:
                try:
                    self.look()
                except StateError as exc:
                    self._engine.group.put(exc)
            await asyncio.sleep(_LOOK_S)

    def start(self) -> None:
        """Fire what is due: partitions were taken over and restored."""
        self._is_held = False
        for timers in self._engine.app.timers.values():
            timers.forget()

    # Partitions of a worker come and go together, so these three are about all of them.

    def hold(self, _tps: Iterable[TP]) -> None:
        """Begin no more timers; those in hand may finish."""
        self._is_held = True
        for burst in self._bursts.values():
            burst.is_held = True

    def has_in_hand(self, _tps: Iterable[TP]) -> bool:
        """Tell whether a handler is in the middle of its timer."""
        return any(burst.is_in_hand for burst in self._bursts.values())

    def revoke(self, tps: Iterable[TP]) -> None:
        """Give the partitions up: what is in hand has no effect any more."""
        self.hold(tps)
        bursts, self._bursts = self._bursts, {}
        for burst in bursts.values():
            burst.lose()

    async def close(self) -> None:
        """Wait for the end of handlers that were interrupted."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def look(self) -> None:
        """Begin a burst in every partition in which a timer is due.

        Raises:
            StateError: The store failed.
        """
        for timers in self._engine.app.timers.values():
            for partition in timers.table.shards:
                place = (timers.name, partition)
                waiting = timers.waiting(partition)
                if place in self._bursts or waiting.is_idle:
                    continue
                due = waiting.first(self.now_ms(timers, partition))
                if due is not None and timers.name not in self._stopped:
                    self._begin(place, timers)

    def now_ms(self, timers: Timers, partition: int) -> int:
        """Return the time by which timers of a partition are due."""
        clock_ms = timers.spec.clock_ms
        if clock_ms is not None:
            return clock_ms()
        return self._engine.group.watermark_ms(timers.table.partitions, partition)

    def first_ms(self, partitions: int, partition: int, watermark_ms: int) -> int:
        """Return when the first timer by event time is due that has yet to fire at a watermark.

        ``FOREVER_MS`` if there is none; one that its policy has stopped holds nothing back.

        Raises:
            StateError: The store failed.
        """
        first_ms = FOREVER_MS
        for timers in self._engine.app.timers.values():
            table = timers.table
            fires = timers.spec.clock_ms is None and timers.name not in self._stopped
            if fires and table.partitions == partitions and partition in table.shards:
                due = timers.waiting(partition).first(watermark_ms)
                first_ms = first_ms if due is None else min(first_ms, due.at_ms)
        return first_ms

    def source(self, timers: Timers, partition: int, due: Due) -> Source:
        """Return where (in time) the event of a timer takes place."""
        if timers.spec.clock_ms is None:
            return Instant(due.at_ms)
        return Moment(due.at_ms, self._engine.group.now_ms(timers.table, partition))

    def _begin(self, place: tuple[str, int], timers: Timers) -> None:
        stats = self.stats.setdefault(timers.name, FeedStats())
        rejects = Rejects(
            f"timer {timers.name}",
            f"{self._engine.app.conf.id}-dead-letters",
            timers.spec.policy,
            stats,
            self._engine.topics.limits,
        )
        burst = Burst(self._engine, timers, place[1], rejects)
        self._bursts[place] = burst
        task = burst.task = asyncio.create_task(self._run(burst), name=f"timer-{place[0]}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._engine.watch(task)

    async def _run(self, burst: Burst) -> None:
        try:
            await burst.run()
        except AgentStoppedError as exc:
            name = burst.timers.name
            self._stopped.add(name)
            log.error("Timer %s stops, as its policy says: %s", name, exc.__cause__)  # noqa: TRY400
        except StateError as exc:
            self._engine.group.put(exc)
        finally:
            place = (burst.timers.name, burst.partition)
            if self._bursts.get(place) is burst:
                del self._bursts[place]
