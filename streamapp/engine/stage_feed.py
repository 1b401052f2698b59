"""The feed of a stage: it keeps watermarks with its positions, and partitions wait by themselves.

A record that must wait (for its rate, or for its next try) is set aside with those behind it, and
with the other topics of its partition; the other partitions go on meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamapp.core.watermarks import Headway
from streamapp.engine.chunk_feed import ChunkFeed
from streamapp.engine.feed import FeedPlan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamapp.core.batch import TP, RecordBatch
    from streamapp.core.event_time import EventTime
    from streamapp.engine.stages import StageRunner
    from streamapp.engine.work import Chunk


@dataclass(frozen=True, slots=True)
class _Aside:
    """A chunk that waits, none of it in hand, and until when by the clock of the loop."""

    chunk: Chunk
    due: float


class StageFeed(ChunkFeed):
    """See the module."""

    def __init__(self, plan: FeedPlan, runner: StageRunner) -> None:
        super().__init__(plan)
        self._runner = runner
        #: By partition; of its topics one has the chunk, the others wait with it.
        self._aside: dict[int, _Aside] = {}
        #: Whether the chunk before came from there: then others have their turn first.
        self._was_aside = False
        #: By partition, batches that were met while it waited: looked at once, not at each turn.
        self._parked: dict[int, deque[RecordBatch]] = {}

    def start(self, tp: TP, offset: int, time_ms: int, note: str = "") -> None:
        """See ``Feed.start``."""
        super().start(tp, offset, time_ms, note)
        self._forget_aside({tp})
        self._runner.begin(tp, note)

    def hold(self, tps: Iterable[TP]) -> None:
        """See ``Feed.hold``."""
        gone = set(tps)
        super().hold(gone)
        for one in self._aside.values():
            if one.chunk.tp in gone:
                one.chunk.cut_short()
        kept = ((n, deque(b for b in of if b.tp not in gone)) for n, of in self._parked.items())
        self._parked = {n: batches for n, batches in kept if batches}

    def revoke(self, tps: Iterable[TP]) -> None:
        """See ``Feed.revoke``."""
        gone = set(tps)
        super().revoke(gone)
        self._forget_aside(gone)
        self._runner.forget(gone)

    def stop(self) -> None:
        """See ``Feed.stop``."""
        self._parked.clear()
        super().stop()

    @property
    def queued(self) -> int:
        """See ``Feed.queued``."""
        parked = sum(len(batch) for batches in self._parked.values() for batch in batches)
        return super().queued + parked

    def position(self, tp: TP) -> int:
        """See ``Feed.position``."""
        chunk = self._waiting(tp)
        return super().position(tp) if chunk is None else chunk.position

    def time(self, tp: TP) -> int:
        """See ``Feed.time``."""
        chunk = self._waiting(tp)
        return super().time(tp) if chunk is None else chunk.time_at(chunk.at - 1)

    def note(self, tp: TP) -> str:
        """See ``Feed.note``."""
        return self._runner.note(tp)

    def headway(self, tp: TP) -> Headway:
        """See ``Feed.headway``: behind a ``group_by`` watermarks come with the records.

        For one that its policy has stopped no other agent waits; what is behind it does.
        """
        found = self._runner.headway(tp)
        watermark = self._watermarks[tp] = max(found.watermark_ms, self._watermarks[tp])
        return Headway(watermark, found.is_idle or self.is_stopped)

    def silent_ms(self, tp: TP) -> int:
        """Return for how long no record of the partition has come or waited, by the clock.

        One that its policy has stopped is not silent: what it has not seen is to count later.
        """
        now = time.monotonic()
        if self.is_stopped or self.buffered(tp) or tp in self.plan.paused:
            self._busy_at[tp] = now
        return int((now - self._busy_at[tp]) * 1_000)

    def set_aside(self, chunk: Chunk, pause_s: float) -> None:
        """Let what is left of the chunk in hand wait for so long, and its partition with it."""
        due = asyncio.get_running_loop().time() + pause_s
        self._aside[chunk.tp.partition] = _Aside(chunk, due)
        chunk.given = chunk.at
        self.scope.leave()
        self.chunk = None

    async def begin(self) -> Chunk:
        """See ``ChunkFeed.begin``; a chunk that has waited long enough goes on."""
        while True:
            if self.plan.gate.closed:
                await self.plan.gate.wait(self)
            chunk = self._next_chunk()
            if chunk is not None:
                return self._enter(chunk)
            self._arrived.clear()
            due = min((one.due for one in self._aside.values()), default=None)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._arrived.wait()

    def _next_chunk(self) -> Chunk | None:
        """Return what is next, if anything is; what has waited takes turns with what is new."""
        ways = [self._waited, self._opened]
        for way in reversed(ways) if self._was_aside else ways:
            if (chunk := way()) is not None:
                self._was_aside = way == self._waited
                return chunk
        return None

    def _waited(self) -> Chunk | None:
        if not self._aside:
            return None
        partition, first = min(self._aside.items(), key=lambda item: item[1].due)
        if first.due > asyncio.get_running_loop().time():
            return None
        del self._aside[partition]
        return first.chunk

    def _opened(self) -> Chunk | None:
        while (batch := self._next_batch()) is not None:
            if (chunk := self._open(batch)) is not None:
                return chunk
        return None

    def _next_batch(self) -> RecordBatch | None:
        """Return the first batch of a partition that does not wait."""
        for partition, batches in self._parked.items():
            if partition not in self._aside:
                batch = batches.popleft()
                if not batches:
                    del self._parked[partition]
                return batch
        while self._queue:
            batch = self._queue.popleft()
            if (partition := batch.tp.partition) not in self._aside:
                return batch
            self._parked.setdefault(partition, deque()).append(batch)
        return None

    async def _wait_to_retry(self, chunk: Chunk, failures: int) -> None:
        """See ``ChunkFeed``: nobody has the record in hand meanwhile."""
        self.set_aside(chunk, self.plan.rejects.policy.pause_ms(failures) / 1_000)

    def _waiting(self, tp: TP) -> Chunk | None:
        one = self._aside.get(tp.partition)
        return one.chunk if one is not None and one.chunk.tp == tp else None

    def _forget_aside(self, tps: set[TP]) -> None:
        self._aside = {n: one for n, one in self._aside.items() if one.chunk.tp not in tps}

    def _event_time_of(self, topic: str) -> EventTime:
        event_time: EventTime = self._runner.topics[topic].event_time
        return event_time
