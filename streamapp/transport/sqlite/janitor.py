"""Keeps a bus small: retention, compaction, and giving pages back to the file system.

It never removes the last row of a partition, so ends never go back, and it holds the write lock
only for short steps.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamapp.core.batch import TP
from streamapp.errors import BrokerError
from streamapp.transport.sqlite.compaction import Compaction, size_of
from streamapp.transport.sqlite.locks import FileLock
from streamapp.transport.sqlite.log import Place
from streamapp.transport.sqlite.schema import connect

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from streamapp.transport.sqlite.database import Database
    from streamapp.transport.sqlite.schema import Folder
    from streamapp.transport.sqlite.topics import Topic, Topics

#: Rows deleted in one transaction: writers wait for it.
_DELETE_ROWS = 256

#: Pages given back in one transaction (16 MiB): writers wait for it.
_VACUUM_PAGES = 2_048

#: A topic is compacted when more than this part of it came after the last compaction.
_DIRTY = 0.5


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What one round removed: rows by retention, records by compaction."""

    rows: int
    records: int


class Cleaner:
    """One round of cleaning at a time named by the caller; safe beside writers and other rounds."""

    def __init__(self, db: Database, topics: Topics, tombstone_ms: int) -> None:
        self._db = db
        self._topics = topics
        self._tombstone_ms = tombstone_ms

    def clean(self, now_ms: int) -> Cleaned:
        """Apply retention and compaction as of ``now_ms`` (epoch), then shrink the files."""
        rows = records = 0
        for topic in self._topics.all().values():
            for p in range(topic.partitions):
                if "delete" in topic.info.spec.cleanup:
                    rows += self._retain(topic, Place(topic.tid, p), now_ms)
                if "compact" in topic.info.spec.cleanup:
                    records += self._compact(topic, Place(topic.tid, p), now_ms)
        self._shrink()
        return Cleaned(rows, records)

    def delete_before(self, place: Place, offset: int) -> int:
        """Delete the rows that end below ``offset``, but never the last; return their number."""
        return self._delete(place, lambda last, _written_ms, _kept: last < offset)

    def _retain(self, topic: Topic, place: Place, now_ms: int) -> int:
        spec = topic.info.spec
        too_old = -1 if spec.retention_ms is None else now_ms - spec.retention_ms
        limit = spec.retention_bytes

        def is_due(_last: int, written_ms: int, kept: int) -> bool:
            return written_ms < too_old or (limit is not None and kept > limit)

        return self._delete(place, is_due)

    def _delete(self, place: Place, is_due: Callable[[int, int, int], bool]) -> int:
        """Delete rows from the start on, as long as ``is_due(last, written_ms, bytes kept)``."""
        deleted = 0
        while True:
            with self._db.write() as conn:
                prefix = list(_prefix(conn, place, is_due))
                if prefix:
                    _delete_prefix(conn, place, prefix)
            deleted += len(prefix)
            if len(prefix) < _DELETE_ROWS:
                return deleted

    def _compact(self, topic: Topic, place: Place, now_ms: int) -> int:
        dropped, before = 0, None
        while True:
            with self._db.read() as conn:
                total, dirty = size_of(conn, place)
            # A round is bounded, so there may be more; one that gains nothing is the last.
            if dirty <= total * _DIRTY or (total, dirty) == before:
                return dropped
            before = total, dirty
            tp = TP(topic.info.spec.name, place.p)
            dropped += Compaction(self._db, tp, place, now_ms, self._tombstone_ms).run()

    def _shrink(self) -> None:
        """Give free pages and the WAL back, in steps between which others may write."""
        while True:
            with self._db.exclusive() as conn:
                before = _free_pages(conn)
                if before:
                    # ``execute`` would stop after the first page.
                    conn.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
                if _free_pages(conn) in {0, before}:
                    break
        # Most of the WAL is folded back while others read and write.
        with closing(connect(self._db.path)) as conn:
            conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        with self._db.exclusive() as conn:
            # Never waits for a long reader, which would make all writers wait: next time, then.
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


class Janitor:
    """A thread that cleans from time to time, in one process of those that share the bus."""

    def __init__(self, cleaner: Cleaner, folder: Folder, interval_ms: int) -> None:
        self._cleaner = cleaner
        self._lock = FileLock(folder.janitor_lock)
        self._interval_s = interval_ms / 1_000
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bus-janitor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the step that is under way."""
        self._is_stopping.set()
        self._thread.join()
        self._lock.close()

    def _run(self) -> None:
        # Who has the lock keeps it: when its process ends, the next round is somebody else's.
        while not self._is_stopping.wait(self._interval_s):
            if self._lock.try_acquire():
                self._clean()

    def _clean(self) -> None:
        try:
            self._cleaner.clean(time.time_ns() // 1_000_000)
        except BrokerError:
            # Whatever it is (a full disk, a damaged row), writers and readers of it will say so.
            return


def _prefix(
    conn: sqlite3.Connection, place: Place, is_due: Callable[[int, int, int], bool]
) -> Iterator[tuple[int, int]]:
    """Yield last offset and bytes of the rows to delete next, never of the last row."""
    row = conn.execute("SELECT bytes FROM part WHERE tid = ? AND p = ?", place).fetchone()
    kept = 0 if row is None else row[0]
    rows = conn.execute(
        "SELECT last, written_ms, length(data) FROM batch WHERE tid = ? AND p = ? AND last <"
        " (SELECT max(last) FROM batch WHERE tid = ? AND p = ?) ORDER BY last LIMIT ?",
        (*place, *place, _DELETE_ROWS),
    )
    for last, written_ms, size in rows:
        if not is_due(last, written_ms, kept):
            return
        kept -= size
        yield last, size


def _delete_prefix(conn: sqlite3.Connection, place: Place, prefix: list[tuple[int, int]]) -> None:
    last = prefix[-1][0]
    size = sum(size for _, size in prefix)
    conn.execute("DELETE FROM batch WHERE tid = ? AND p = ? AND last <= ?", (*place, last))
    conn.execute(
        "UPDATE part SET earliest = max(earliest, ?), bytes = bytes - ?,"
        " compacted_bytes = max(0, compacted_bytes - ?) WHERE tid = ? AND p = ?",
        (last + 1, size, size, *place),
    )


def _free_pages(conn: sqlite3.Connection) -> int:
    pages: int = conn.execute("PRAGMA freelist_count").fetchone()[0]
    return pages
