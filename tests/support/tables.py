"""A table over a store in memory, with its commit, and the dict that it must equal."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from streamapp.state.memory import MemoryStore
from streamapp.state.rows import row_codec
from streamapp.state.scope import EventScope, Instant, current_scope
from streamapp.state.shard import CacheBudget, Shard
from streamapp.state.store import shard_prefix
from streamapp.state.table import Table, TableSpec

if TYPE_CHECKING:
    from collections.abc import Iterator


class TableBench:
    """One table with ``partitions`` shards; ``cache_bytes`` bounds what is held as objects."""

    def __init__(self, partitions: int = 1, cache_bytes: int = 1 << 20, **spec: Any) -> None:
        self.store = MemoryStore()
        self._cache_bytes = cache_bytes
        value_type = spec.get("value_type", Any)
        self._spec = TableSpec("t", partitions=partitions, **spec)
        self._codec = row_codec(value_type, is_timed=self._spec.ttl_ms is not None)
        self._unwritten: list[tuple[Shard, dict[bytes, bytes | None]]] = []
        self.now_ms = 0
        self.table = self._open()

    def _open(self) -> Table:
        table = Table(self._spec, self._codec)
        self.budget = CacheBudget(self._cache_bytes)
        for number in range(table.partitions):
            table.shards[number] = Shard(
                "t", number, partitions=table.partitions, prefix=shard_prefix("t", number),
                store=self.store, codec=self._codec, budget=self.budget,
            )  # fmt: skip
        table.now_ms = lambda _partition: self.now_ms
        return table

    @contextmanager
    def event(self, partition: int = 0, now_ms: int | None = None) -> Iterator[EventScope]:
        """Run the body as an event; it counts unless it raises."""
        scope = EventScope()
        if now_ms is not None:
            self.now_ms = max(self.now_ms, now_ms)
        scope.enter(Instant(self.now_ms), partition, self.table.partitions)
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

    def cut(self) -> None:
        """Take what has changed, as a commit does."""
        self._unwritten.extend((shard, shard.take()) for shard in self.table.shards.values())

    def flush(self) -> None:
        """Write what was taken to the store."""
        for shard, changes in self._unwritten:
            self.store.apply({shard.prefix + key: value for key, value in changes.items()})
        for shard, changes in self._unwritten:
            shard.flushed(changes)
        self._unwritten.clear()

    def reopen(self) -> None:
        """Commit everything and begin anew over the store, with nothing in memory."""
        self.cut()
        self.flush()
        self.table = self._open()
