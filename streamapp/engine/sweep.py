"""Deletes the rows whose time to live is over, a few at a time, so that the state stays bounded.

Expired rows are already invisible to readers; this makes them deletions in the changelog too. The
time is the event time of the rows' partition, so a replay expires the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamapp.state.table import Table

#: Rows that one step looks at in each shard: some milliseconds of the loop at most.
_ROWS = 500


class Sweeper:
    """Goes round through the shards of all tables with a ``ttl``."""

    def __init__(self, tables: Iterable[Table], now_ms: Callable[[Table, int], int]) -> None:
        self._tables = [table for table in tables if table.spec.ttl_ms is not None]
        self._now_ms = now_ms
        self._after: dict[tuple[str, int], bytes] = {}

    def step(self) -> int:
        """Look at the next rows of each shard; return how many were deleted."""
        deleted = 0
        for table in self._tables:
            for partition in table.shards:
                place = (table.name, partition)
                gone, self._after[place] = table.sweep(
                    partition, self._now_ms(table, partition), self._after.get(place, b""), _ROWS
                )
                deleted += gone
        return deleted
