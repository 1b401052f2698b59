"""Which commits are on the disk: writers sync side by side, readers wait for what they return.

A commit is synced after the lock of the writers was let go. So nobody queues for the disk, and one
sync of the write-ahead log serves all commits before it, whoever made them. In between a commit can
be seen but not yet relied on: a reader that meets one syncs it before it hands records on.

A file keeps the account in three numbers: of the last commit that was begun and of the last one
that has ended, both written under the lock of the writers, and of the last one known to be synced.
Who dies in between leaves the last one behind, and the next reader or writer makes up for it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from streamapp.errors import BrokerUnavailableError
from streamapp.transport.sqlite.faults import from_system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BEGUN, _ENDED, _SYNCED = range(3)
_BYTES = 8
#: It leaves out the times of the file, which nobody needs; some systems have the other one only.
_sync = getattr(os, "fdatasync", os.fsync)


class Syncs:
    """The account of one database; thread-safe.

    It has no ``close``: its descriptors end with the last call under way, so that no call can meet
    one that was given to another file.
    """

    def __init__(self, account: Path, log: Path, *, is_full: bool = True) -> None:
        """Open the account, making it if need be. Nothing in it counts as synced for now.

        Args:
            account: The file of the three numbers.
            log: The write-ahead log, which SQLite makes and removes.
            is_full: Without, commits are counted, so that others sync them, but not waited for.

        Raises:
            BrokerUnavailableError: It cannot be made or written.
            BrokerFullError: There is no room to make it.
        """
        try:
            self._account = _File(account, os.O_RDWR | os.O_CREAT)
            if os.fstat(self._account.fd).st_size < 3 * _BYTES:
                # Whole from the start: on a full disk the numbers can still be written over.
                os.pwrite(self._account.fd, bytes(3 * _BYTES), 0)
        except OSError as exc:
            raise from_system(exc, account) from exc
        self._path = log
        self._log: _File | None = None
        self._is_full = is_full
        # A folder that was copied may tell of another log. Too low is always safe.
        self._write(_SYNCED, 0)

    @contextmanager
    def commit(self) -> Iterator[int]:
        """Number the commit that the body makes or gives up; under the lock of the writers."""
        number = self._read(_BEGUN) + 1
        self._write(_BEGUN, number)
        try:
            yield number
        finally:
            self._write(_ENDED, number)

    def settle(self, number: int | None = None) -> None:
        """Return when a commit that has ended, and all before it, are on the disk.

        Args:
            number: That of ``commit``; without one, all that can be seen.

        Raises:
            BrokerUnavailableError: The disk failed; what is on it is unknown.
        """
        seen = self._read(_BEGUN) if number is None else number
        if not self._is_full or self._read(_SYNCED) >= seen:
            return
        # Read before the sync, which may miss a commit that ends meanwhile.
        ended = self._read(_ENDED)
        try:
            _sync(self._opened().fd)
        except OSError as exc:
            msg = f"{self._path} could not be synced: {exc.strerror}"
            raise BrokerUnavailableError(
                msg, hint="Look at the disk and the system's log."
            ) from exc
        # Of two at once the lower number may stay: that costs a sync and promises nothing.
        if self._read(_SYNCED) < ended:
            self._write(_SYNCED, ended)

    def _opened(self) -> _File:
        # A descriptor that was open before a write failed is told of it, a later one may not be.
        log = self._log
        if log is None or os.fstat(log.fd).st_nlink == 0:
            log = self._log = _File(self._path, os.O_RDONLY)
        return log

    def _read(self, which: int) -> int:
        return int.from_bytes(os.pread(self._account.fd, _BYTES, which * _BYTES), "little")

    def _write(self, which: int, number: int) -> None:
        try:
            os.pwrite(self._account.fd, number.to_bytes(_BYTES, "little"), which * _BYTES)
        except OSError as exc:
            raise from_system(exc, self._path) from exc


class _File:
    """A descriptor that is closed when nobody can use it any more."""

    __slots__ = ("fd",)

    def __init__(self, path: Path, flags: int) -> None:
        self.fd = os.open(path, flags | os.O_CLOEXEC, 0o644)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)
