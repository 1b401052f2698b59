"""Checkpoints of a running worker: the store's copy with the positions at which it is true.

Made on the commit thread between two commits, after everything committed was written to the store,
so that a checkpoint is the state of exactly one commit.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamapp.state.changelog import read_mark
from streamapp.state.manifest import ChangelogPosition, Manifest, SourcePosition
from streamapp.state.store import note_key, prefix_end

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamapp.engine.commit import StoreWriter
    from streamapp.state.checkpoint import Checkpoint, CheckpointStore
    from streamapp.state.shard import Shard
    from streamapp.state.store import Store

log = logging.getLogger(__name__)

_MARKS = "changelog/"
_POSITIONS = "position/"


@dataclass(slots=True)
class CheckpointMaker:
    """Makes and prunes the checkpoints of one state slot. Used by the commit thread only."""

    app: str
    checkpoints: CheckpointStore
    keep: int
    made: int = 0
    last_id: int = 0
    last_seconds: float = 0.0
    last_at: float = 0.0

    def make(self, writer: StoreWriter) -> list[tuple[Shard, dict[bytes, bytes | None]]]:
        """Make a checkpoint; return the rows that were written to the store for it.

        Raises:
            StateError: The store failed, or there is no room.
        """
        begun = time.perf_counter()
        flushed = writer.flush(force=True)
        newest = max((checkpoint.id for checkpoint in self.checkpoints.list()), default=0)
        manifest = Manifest(
            id=newest + 1,
            created_ms=time.time_ns() // 1_000_000,
            app=self.app,
            sources=tuple(_sources(writer.store)),
            changelogs=tuple(_changelogs(writer.store)),
        )
        made: Checkpoint = self.checkpoints.write(writer.store, manifest)
        self.checkpoints.prune(self.keep)
        self.made += 1
        self.last_id = made.id
        self.last_at = time.time()
        self.last_seconds = time.perf_counter() - begun
        log.debug("Checkpoint %d made in %.3f s", made.id, self.last_seconds)
        return flushed


def _notes(store: Store, kind: str) -> Iterator[tuple[str, int, bytes]]:
    start = note_key(kind)
    for key, data in store.scan(start, prefix_end(start)):
        name, _, partition = key[len(start) :].decode().rpartition("/")
        yield name, int(partition), data


def _sources(store: Store) -> Iterator[SourcePosition]:
    for topic, partition, data in _notes(store, _POSITIONS):
        offset, _, metadata = data.decode().partition(" ")
        yield SourcePosition(topic, partition, int(offset), metadata)


def _changelogs(store: Store) -> Iterator[ChangelogPosition]:
    for table, partition, data in _notes(store, _MARKS):
        mark = read_mark(data)
        if mark is not None:
            yield ChangelogPosition(table, partition, mark.uid, mark.offset)
