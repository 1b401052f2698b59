"""How far event time has come on this worker, over all that its agents read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamapp.core.times import NEVER_MS
from streamapp.core.watermarks import Headway, combined

if TYPE_CHECKING:
    from streamapp.engine.engine import Engine


class EventClock:
    """The watermarks of the partitions of all topics that have as many of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._told: dict[tuple[int, int], int] = {}

    def watermark_ms(self, partitions: int, partition: int) -> int:
        """Return the time up to which no agent expects records of a partition any more.

        It is the least of the watermarks of all agents and topics with so many ``partitions``, idle
        ones left out, and never goes back until ``forget``; ``NEVER_MS`` at first.
        """
        headways = self._headways(partitions, partition)
        before = self._told.get((partitions, partition), NEVER_MS)
        found = combined(headways, before)
        if found.is_idle and before == NEVER_MS:
            # Nothing has moved since the start: what was committed is still so.
            known = (one.watermark_ms for one in headways if one.watermark_ms > NEVER_MS)
            found = Headway(min(known, default=NEVER_MS))
        self._told[partitions, partition] = found.watermark_ms
        return found.watermark_ms

    def forget(self) -> None:
        """What was told may have been undone: begin with what was committed."""
        self._told.clear()

    def _headways(self, partitions: int, partition: int) -> list[Headway]:
        counts = self._engine.topics.counts
        return [
            feed.headway(tp)
            for tp in self._engine.owned
            if tp.partition == partition and counts.get(tp.topic) == partitions
            for feed in self._engine.subscriptions.readers(tp.topic)
            if feed.owns(tp)
        ]
