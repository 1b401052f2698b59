"""Locks that the kernel keeps: fair turns between processes, and signs of life.

A lock ends with its process, however that ends, so nothing here needs a time-out.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Pause between two tries: the shortest that there is, and short beside any write.
_NAP_S = 0.00005


class FileLock:
    """An exclusive ``flock`` on a file of its own; taken by one thread at a time.

    The kernel queues those who wait, so that several processes share fairly; SQLite's own busy
    handler sleeps and retries instead, and was measured to starve one of four writers.
    """

    def __init__(self, path: Path) -> None:
        self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        _held.add(self)

    def acquire(self) -> None:
        """Wait for the lock, without limit: whoever holds it is alive and will let go."""
        fcntl.flock(self._opened(), fcntl.LOCK_EX)

    def try_acquire(self) -> bool:
        """Take the lock if nobody has it."""
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._opened(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def acquire_within(self, seconds: float) -> bool:
        """Take the lock if it is free by then; out of turn, so not for whoever can wait."""
        deadline = time.monotonic() + seconds
        while not self.try_acquire():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_NAP_S)
        return True

    def release(self) -> None:
        """Let go of the lock."""
        fcntl.flock(self._opened(), fcntl.LOCK_UN)

    def beat(self) -> None:
        """Show that the holder runs: a stopped process keeps its locks but cannot beat.

        The file's time is the beat, which unlike a row needs no room on a full disk.
        """
        os.utime(self._opened())

    def close(self) -> None:
        """Let go and forget the file; safe to repeat."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _opened(self) -> int:
        if self._fd is None:
            msg = "the lock is closed"
            raise ValueError(msg)
        return self._fd


def probe(path: Path) -> int | None:
    """Return the last beat of whoever holds the lock of this file, ``None`` when nobody does.

    A beat is only ever compared for equality. Probes with a shared lock, so that two probing
    processes do not take each other for the holder.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.fstat(fd).st_mtime_ns
    finally:
        os.close(fd)
    return None


#: A forked child shares the locks of its parent; kept open there, they would outlive the parent.
_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _drop_in_child() -> None:
    for lock in list(_held):
        lock.close()


os.register_at_fork(after_in_child=_drop_in_child)
