"""The durable ``Store``: one RocksDB database in one folder.

It never retries and never repairs: an error says what the folder is worth, the caller wipes or
reopens. A handle that met a failed write is dead for good, because RocksDB's own handle is.
"""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

import rocksdict

from streamapp.errors import (
    StateCorruptError,
    StateError,
    StateFullError,
    StateLockedError,
    StateUnavailableError,
)
from streamapp.state.files import make_private, refuse_target
from streamapp.state.locks import holder_of, name_of
from streamapp.state.rocksdb_options import BlockCache, options, shared_cache
from streamapp.state.wal_gaps import find_gap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = ["BlockCache", "RocksStore", "shared_cache"]

_LOCK_FILE: Final = "LOCK"
_STALLED: Final = "Write stall"
_STALL_S: Final = 30  # a disk that takes longer for a memtable is as good as dead
_RETRY_S: Final = 0.002  # a tenth of the time of a flush
_ROOM_BYTES: Final = 32 << 20  # with less, flushing two memtables and their log may fail
_REBUILD: Final = "Wipe the folder; the changelog rebuilds it"

#: What RocksDB's message contains, and what it means for the folder; the first match counts.
_MEANINGS: Final[tuple[tuple[str, type[StateError], str], ...]] = (
    ("No space left on device", StateFullError, "Free space, then open the store again"),
    ("Disk quota exceeded", StateFullError, "Raise the quota, then open the store again"),
    ("Corruption", StateCorruptError, _REBUILD),
    ("No such file", StateCorruptError, _REBUILD),
    ("Permission denied", StateUnavailableError, "Give this user the folder and its files"),
    ("Read-only file system", StateUnavailableError, "Choose a writable folder"),
    ("already closed", StateError, "Open the store again"),
)


class RocksStore:
    """A RocksDB database; see ``Store`` for the contract. Made by ``open`` only.

    Calls are thread-safe. A write holds the interpreter's lock while RocksDB works, so it stops the
    event loop even from a thread: keep batches at some thousands of keys. It waits for a lagging
    disk without that lock.
    """

    __slots__ = (
        "_cache",
        "_cursors",
        "_db",
        "_fault",
        "_guard",
        "_is_usable",
        "_no_wait",
        "folder",
    )

    def __init__(self, folder: Path, db: rocksdict.Rdict, cache: BlockCache) -> None:
        self.folder = folder
        self._db = db
        self._cache = cache
        self._no_wait = _no_wait()
        self._fault: StateError | None = None
        self._is_usable = True
        self._guard = Lock()
        self._cursors: WeakSet[_Cursor] = WeakSet()

    @classmethod
    def open(cls, folder: Path, *, cache: BlockCache | None = None) -> RocksStore:
        """Open the database in ``folder``; make both if they are not there.

        Everything acknowledged by ``apply`` before a ``kill -9`` is there; after a power cut an
        older state may be, in which each ``apply`` is still there whole or not at all.

        Args:
            folder: Made with mode 0700. Its parent must be trusted: file names are not checked.
            cache: The memory that this database shares; ``None`` is the process-wide one.

        Raises:
            StateLockedError: Another process, or another store of this one, has it open.
            StateCorruptError: A file is missing or damaged.
            StateFullError: No room, not even to open.
            StateUnavailableError: The folder cannot be made or written.
        """
        make_private(folder)
        _refuse_locked(folder)
        _refuse_incomplete(folder)
        cache = cache or shared_cache()
        try:
            db = rocksdict.Rdict(str(folder), options(cache))
        except Exception as exc:
            raise _opening_error(folder, exc) from exc
        return cls(folder, db, cache)

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or ``None``; see ``Store.get``."""
        if not self._is_usable:
            raise self._unusable()
        try:
            value: bytes | None = self._db.get(key)
        except Exception as exc:
            raise _meaning(self.folder, str(exc)) from exc
        return value

    def apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Write all changes as one atomic step; see ``Store.apply``."""
        if not self._is_usable:
            raise self._unusable()
        self._write(partial(_batch_of, changes))

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over ``[start, end)`` as of now; see ``Store.scan``.

        The rows are read as they are asked for. An abandoned scan holds its snapshot (and the disk
        space of what was deleted since) until it is collected or the store closes.

        Raises:
            StateCorruptError: While iterating, a block fails its checksum.
            StateError: While iterating, the store was closed.
        """
        with self._guard:
            if not self._is_usable:
                raise self._unusable()
            cursor = _seek(self._db, start, end, reverse=reverse)
            self._cursors.add(cursor)
        return self._rows(cursor, start, reverse=reverse)

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Delete ``[start, end)`` as one step and at a cost that does not depend on its rows."""
        if not self._is_usable:
            raise self._unusable()
        # RocksDB logs an inverted range, fails to apply it, and refuses every write from then on.
        if start >= end:
            return
        self._write(partial(_batch_without, start, end))

    def checkpoint(self, folder: Path) -> None:
        """Flush, then copy by hard links into ``folder``; see ``Store.checkpoint``.

        Blocks writers for the flush. On another file system the tables are copied.
        """
        if not self._is_usable:
            raise self._unusable()
        refuse_target(folder)
        try:
            rocksdict.Checkpoint(self._db).create_checkpoint(str(folder))
        except Exception as exc:
            # The copy failed; whether the store did too is what its next write says.
            self._write(_batch)
            raise _meaning(folder, str(exc)) from exc

    def close(self) -> None:
        """Close, end all scans and release the lock; safe to repeat, never raises."""
        with self._guard:
            self._is_usable = False
            # A live iterator keeps the database open and its folder locked, even after `close`.
            for cursor in list(self._cursors):
                cursor.iterator = None
        # It fails where it was closed before, and on a dead handle: whatever was acknowledged is in
        # the log on disk, where the next open reads it.
        with suppress(Exception):
            self._db.close()

    def _rows(
        self, cursor: _Cursor, start: bytes, *, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        while (iterator := cursor.iterator) is not None and iterator.valid():
            row = (iterator.key(), iterator.value())
            if row[0] < start:
                return
            if reverse:
                iterator.prev()
            else:
                iterator.next()
            del iterator  # while we wait for the caller, only the cursor may hold it
            yield row
        if iterator is None:
            raise self._unusable()
        failure = ""
        try:
            # An unreadable block makes an iterator invalid, exactly as the end of the range does.
            iterator.status()
        except Exception as exc:  # noqa: BLE001 - rocksdict raises nothing narrower
            failure = str(exc)
        del iterator  # a traceback that somebody keeps would hold it, and with it the lock
        if failure:
            raise _meaning(self.folder, failure)

    def _write(self, make_batch: Callable[[], rocksdict.WriteBatch]) -> None:
        """Write, waiting for flushes where they lag; a write that fails takes the handle with it.

        RocksDB would wait by itself, but with the interpreter's lock held, and for ever on a full
        disk: it hopes for space. So it is told to refuse, and a refused batch is made anew.
        """
        give_up_at = time.monotonic() + _STALL_S
        while True:
            try:
                self._db.write(make_batch(), self._no_wait)
            except Exception as exc:
                if _STALLED not in str(exc):
                    raise self._die(_meaning(self.folder, str(exc))) from exc
                if self._has_failed_flush() or time.monotonic() > give_up_at:
                    raise self._die(_stall(self.folder)) from exc
            else:
                return
            time.sleep(_RETRY_S)

    def _has_failed_flush(self) -> bool:
        return bool(self._db.property_int_value("rocksdb.background-errors"))

    def _die(self, fault: StateError) -> StateError:
        self._is_usable = False
        self._fault = fault
        return fault

    def _unusable(self) -> StateError:
        if self._fault is None:
            return StateError(f"store {self.folder} is closed", hint="Open the store again")
        message = f"store {self.folder} is dead since a write failed: {self._fault.message}"
        return type(self._fault)(message, hint="Close it and open it again")


class _Cursor:
    """The one reference to a RocksDB iterator, so that closing the store can take it away."""

    __slots__ = ("__weakref__", "_bounds", "iterator")

    def __init__(self, iterator: rocksdict.RdictIter, bounds: rocksdict.ReadOptions) -> None:
        self.iterator: rocksdict.RdictIter | None = iterator
        # RocksDB keeps a pointer to the bound: freed before the iterator, it ends anywhere.
        self._bounds = bounds


def _seek(db: rocksdict.Rdict, start: bytes, end: bytes, *, reverse: bool) -> _Cursor:
    """Return a cursor at the first row of the scan, which never goes to ``end`` or beyond."""
    bounds = rocksdict.ReadOptions()
    # Only this bound can be set: rocksdict's set_iterate_lower_bound sets the upper one.
    bounds.set_iterate_upper_bound(end)
    iterator = db.iter(bounds)
    if reverse:
        iterator.seek_to_last()
    else:
        iterator.seek(start)
    return _Cursor(iterator, bounds)


def _batch() -> rocksdict.WriteBatch:
    return rocksdict.WriteBatch(raw_mode=True)


def _batch_of(changes: Mapping[bytes, bytes | None]) -> rocksdict.WriteBatch:
    batch = _batch()
    # Sorted keys find their place in the memtable in less than half the time of random ones.
    for key in sorted(changes):
        value = changes[key]
        if value is None:
            batch.delete(key)
        else:
            batch[key] = value
    return batch


def _batch_without(start: bytes, end: bytes) -> rocksdict.WriteBatch:
    batch = _batch()
    batch.delete_range(start, end)
    return batch


def _no_wait() -> rocksdict.WriteOptions:
    chosen = rocksdict.WriteOptions()
    chosen.no_slowdown = True
    return chosen


def _refuse_locked(folder: Path) -> None:
    owner = holder_of(folder / _LOCK_FILE)
    if owner is not None:
        raise _locked(folder, owner)


def _locked(folder: Path, owner: int | None) -> StateLockedError:
    message = f"store {folder} is held by {name_of(owner)}"
    return StateLockedError(message, hint="Stop that process, or use another folder")


def _refuse_incomplete(folder: Path) -> None:
    """Refuse what RocksDB would open, but as another state than any that was written."""
    if (folder / "CURRENT").exists():
        gap = find_gap(folder)
    else:
        remains = any(folder.glob("*.sst")) or any(folder.glob("MANIFEST-*"))
        gap = "it has tables, but no CURRENT file" if remains else ""
    if gap:
        message = f"store {folder}: {gap}"
        raise StateCorruptError(message, hint=_REBUILD)


def _opening_error(folder: Path, exc: Exception) -> StateError:
    text = str(exc)
    if f"/{_LOCK_FILE}: " in text and "Permission" not in text:
        return _locked(folder, holder_of(folder / _LOCK_FILE))
    error = _meaning(folder, text)
    if type(error) is StateError and "IO error" not in text:
        # The options are always the same: what they do not open, and is no matter of input or
        # output, lies in the files.
        return StateCorruptError(error.message, hint=_REBUILD)
    return error


def _meaning(folder: Path, text: str) -> StateError:
    for part, error, hint in _MEANINGS:
        if part in text:
            return error(f"store {folder}: {text}", hint=hint)
    return StateError(f"store {folder}: {text}", hint="Close it and open it again")


def _stall(folder: Path) -> StateError:
    """Return what a write that RocksDB keeps refusing means: no flush gets through."""
    if shutil.disk_usage(folder).free < _ROOM_BYTES:
        message = f"store {folder}: a flush finds no room"
        return StateFullError(message, hint="Free space, then open the store again")
    message = f"store {folder}: writes have been refused for {_STALL_S} s, or a flush failed"
    return StateError(message, hint="Look at the disk and the file LOG there, then open it again")
