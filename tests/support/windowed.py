"""A windowed table over a store in memory, and records in hand."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.tables import TableBench

from streamapp.core.times import NEVER_MS
from streamapp.state.scope import EventScope, current_scope
from streamapp.state.windowed import WindowedTable

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Record:
    """A record in hand, as the engine has it."""

    timestamp_ms: int
    now_ms: int
    value: object = None


class WindowedBench(TableBench):
    """A table with windows (``size``, ``step``, ``expires`` in ms); the clock is ``clock_ms``."""

    def __init__(
        self, size: int, step: int, expires: int | None = None, cache_bytes: int = 1 << 20,
        partitions: int = 1, **spec: Any,
    ) -> None:  # fmt: skip
        self._windows = (size, step, expires)
        self.clock_ms = 0
        super().__init__(partitions, cache_bytes, **{"default": int, **spec})
        self.now_ms = NEVER_MS

    def _open(self) -> Any:
        size, step, expires = self._windows
        table = super()._open()
        lasts = None if expires is None else expires / 1_000
        windowed = table.hopping(size / 1_000, step / 1_000, lasts)
        for shard in table.shards.values():
            shard._codec = table.codec  # which the windows have changed
        self.windowed = WindowedTable(table, windowed.grid, clock_ms=lambda: self.clock_ms)
        return table

    @contextmanager
    def record(
        self,
        timestamp_ms: int,
        partition: int = 0,
        value: object = None,
        *,
        tracks_always: bool = False,
    ) -> Iterator[EventScope]:
        """Run the body as the event of a record; it counts unless it raises."""
        scope = EventScope(tracks_always=tracks_always)
        self.now_ms = max(self.now_ms, timestamp_ms)
        source = Record(timestamp_ms, self.now_ms, value)
        scope.enter(source, partition, self.table.partitions)
        token = current_scope.set(scope)
        try:
            yield scope
        except BaseException:
            scope.undo()
            raise
        else:
            scope.finish()
        finally:
            current_scope.reset(token)
