"""Deletes the rows whose time to live is over, a few at a time, so that the state stays bounded.

Expired rows are already invisible to readers; this makes them deletions in the changelog too. The
time is the event time of the rows' partition, so a replay expires the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from streamapp.core.times import NEVER_MS

if TYPE_CHECKING:
    from streamapp.state.table import Table

#: Rows that are looked at in one go: one or two milliseconds of the loop.
_ROWS = 250
#: Longest run of a step, in seconds, before agents get their turn.
_TURN_S = 0.005
#: Part of the loop's time that sweeping may take: more would slow the agents, less lets rows that
#: come and go fast pile up.
_SHARE = 1 / 20
#: Parts of a time to live after which a shard is looked through again: expired rows outlive it by
#: one part at most, and a row is looked at about as often as there are parts.
_PARTS = 16


@dataclass(slots=True)
class _Round:
    """Where the way through a shard is: ``after`` is a raw key, empty between two rounds."""

    after: bytes = b""
    begun_ms: int = NEVER_MS

    def is_due(self, now_ms: int, ttl_ms: int) -> bool:
        return bool(self.after) or now_ms >= self.begun_ms + max(ttl_ms // _PARTS, 1)


class Sweeper:
    """Goes round through the shards of all tables with a ``ttl``.

    ``now_ms`` is the event time of a table's partition, ``clock`` counts seconds.
    """

    def __init__(
        self,
        tables: Iterable[Table],
        now_ms: Callable[[Table, int], int],
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._tables = [table for table in tables if table.spec.ttl_ms is not None]
        self._now_ms = now_ms
        self._clock = clock
        self._rounds: dict[tuple[str, int], _Round] = {}
        self._turn = 0
        self._next = float("-inf")

    def step(self) -> int:
        """Look at the next rows of the shards that are due, if it is time; return the deletions."""
        begun = self._clock()
        if begun < self._next:
            return 0
        deleted = 0
        places = [(table, partition) for table in self._tables for partition in table.shards]
        for _ in places:
            self._turn = (self._turn + 1) % len(places)
            deleted += self._look(*places[self._turn])
            if self._clock() - begun > _TURN_S:
                break
        ended = self._clock()
        self._next = ended + (ended - begun) * (1 / _SHARE - 1)
        return deleted

    def _look(self, table: Table, partition: int) -> int:
        if table.shards[partition].is_in_use:
            return 0
        now_ms, ttl_ms = self._now_ms(table, partition), table.spec.ttl_ms or 0
        place = self._rounds.setdefault((table.name, partition), _Round())
        if now_ms < place.begun_ms:  # time has gone back to what is committed
            place.after, place.begun_ms = b"", NEVER_MS
        if not place.is_due(now_ms, ttl_ms):
            return 0
        if not place.after:
            place.begun_ms = now_ms
        deleted, place.after = table.sweep(partition, now_ms, place.after, _ROWS)
        return deleted
