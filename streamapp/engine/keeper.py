"""Keeps the local state of a worker: its folder, its store, the shards of the tables it owns.

The store is a copy of what the changelogs hold, so every failure has one answer: drop what is in
memory, open (or wipe) the store, follow the changelogs to their end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from streamapp.core.batch import TP
from streamapp.engine.checkpoints import CheckpointMaker
from streamapp.engine.restore import RestoreProgress, ShardPlan, restore
from streamapp.errors import StateCorruptError
from streamapp.state.changelog import changelog_topic
from streamapp.state.checkpoint import CheckpointStore
from streamapp.state.memory import MemoryStore
from streamapp.state.rocksdb import BlockCache, RocksStore
from streamapp.state.shard import CacheBudget, Shard
from streamapp.state.slots import StateSlot, claim_slot
from streamapp.state.store import shard_prefix

if TYPE_CHECKING:
    from streamapp.state.store import Store
    from streamapp.state.table import Table
    from streamapp.transport.broker import Broker

log = logging.getLogger(__name__)


class Keeper:
    """Owns the store and the shards. ``open``, ``restore``, ``close`` block: call in a thread."""

    def __init__(
        self, app_id: str, tables: Mapping[str, Table], broker: Broker, cache_bytes: int
    ) -> None:
        self.progress: RestoreProgress | None = None
        self.uids: dict[str, str] = {}
        # Half for rows as objects, half for the store's blocks and memtables.
        self._half = cache_bytes // 2
        self._cache: BlockCache | None = None
        self.budget = CacheBudget(self._half)
        self.slot: StateSlot | None = None
        self._store: Store | None = None
        self._app_id = app_id
        self._tables = tables
        self._broker = broker
        self._stop = Event()

    @property
    def store(self) -> Store:
        """The open store."""
        if self._store is None:
            msg = "The state store is not open"
            raise StateCorruptError(msg)
        return self._store

    def declare(self, partitions: int) -> None:
        """Create the changelogs; ``partitions`` is for tables that do not say.

        Raises:
            PartitionMismatchError: A changelog exists with another number of partitions.
        """
        for table in self._tables.values():
            table.partitions = table.spec.partitions or partitions
            spec = changelog_topic(self._app_id, table.name, table.partitions)
            info = self._broker.create_topic(spec)
            self.uids[spec.name], table.max_bytes = info.uid, info.limits.max_bytes

    def open(self, datadir: Path | None) -> None:
        """Claim a state folder below ``datadir`` and open its store; ``None``: keep it in memory.

        A store that cannot be trusted is wiped.

        Raises:
            StateError: The folder cannot be used (unwritable, no room).
        """
        if datadir is None:
            self._store = MemoryStore()
            return
        self.slot = self.slot or claim_slot(datadir)
        cache = self._cache = self._cache or BlockCache(self._half, self._half // 2)
        try:
            self._store = RocksStore.open(self.slot.database, cache=cache)
        except StateCorruptError as exc:
            log.warning("%s. It is wiped and rebuilt from the changelog", exc)
            self.slot.wipe()
            self._store = RocksStore.open(self.slot.database, cache=cache)

    def checkpoint_maker(self, keep: int) -> CheckpointMaker | None:
        """Return what makes checkpoints of this state; ``None`` if it is in memory."""
        if self.slot is None:
            return None
        root = self.slot.folder.parents[1] / "checkpoints" / str(self.slot.index)
        return CheckpointMaker(self._app_id, CheckpointStore(root), keep)

    def plans(self, counts: Mapping[str, int], owned: Iterable[TP]) -> list[ShardPlan]:
        """Return the shards that belong to owned partitions.

        ``counts`` are the partitions of each source topic: a table lives where the partitions of
        topics with as many partitions live.
        """
        owned_by_count = {(counts[tp.topic], tp.partition) for tp in owned}
        plans: list[ShardPlan] = []
        for table in self._tables.values():
            topic = changelog_topic(self._app_id, table.name, table.partitions).name
            plans.extend(
                ShardPlan(table.name, number, TP(topic, number), self.uids[topic])
                for number in range(table.partitions)
                if (table.partitions, number) in owned_by_count
            )
        return plans

    def restore(self, plans: list[ShardPlan]) -> None:
        """Bring the store to the end of the changelogs of these shards; see ``progress``.

        Raises:
            RestoreStoppedError: ``interrupt`` was called, and ``allow`` was not since.
            StateError: The store failed.
        """
        self.progress = self.progress or RestoreProgress()
        restore(self._broker, self.store, plans, self.progress, self._stop)

    def interrupt(self) -> None:
        """End a running restore early, and those to come until ``allow``."""
        self._stop.set()

    def allow(self) -> None:
        """Undo ``interrupt``."""
        self._stop.clear()

    def attach(self, plans: Iterable[ShardPlan]) -> None:
        """Give the tables the shards of restored partitions; kept ones stay as they are."""
        for plan in plans:
            table = self._tables[plan.table]
            if plan.partition not in table.shards:
                table.shards[plan.partition] = Shard(
                    plan.table,
                    plan.partition,
                    partitions=table.partitions,
                    prefix=shard_prefix(plan.table, plan.partition),
                    store=self.store,
                    codec=table.codec,
                    budget=self.budget,
                )

    def detach(self, keep: Iterable[tuple[str, int]] = ()) -> None:
        """Drop all shards but these, with whatever they hold that is not committed."""
        kept = set(keep)
        for table in self._tables.values():
            for number in [n for n in table.shards if (table.name, n) not in kept]:
                self.budget.shards.remove(table.shards.pop(number))

    def close(self, wipe: bool = False) -> None:  # noqa: FBT002 - called through an executor
        """Close the store; safe to repeat. ``wipe`` deletes it."""
        self.detach()
        if self._store is not None:
            self._store.close()
            self._store = None
        if wipe and self.slot is not None:
            self.slot.wipe()
        self.budget.clear()

    def release(self) -> None:
        """Close the store and let go of the folder."""
        self.close()
        if self.slot is not None:
            self.slot.release()
            self.slot = None
