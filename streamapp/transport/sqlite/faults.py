"""SQLite's and the system's failures, told as the broker's errors."""

from __future__ import annotations

import errno
import sqlite3
from typing import TYPE_CHECKING

from streamapp.errors import BrokerError, BrokerFullError, BrokerUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: "Another program holds the database; close it, or wait.",
    sqlite3.SQLITE_LOCKED: "Another program holds the database; close it, or wait.",
    sqlite3.SQLITE_CANTOPEN: "Check that the folder exists and that this user may write there.",
    sqlite3.SQLITE_READONLY: "Check that this user may write to the folder.",
    sqlite3.SQLITE_PERM: "Check that this user may write to the folder.",
    sqlite3.SQLITE_AUTH: "Check that this user may write to the folder.",
}
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ROOM = "Nothing of this call was written; make room on the disk and try again."


def from_sqlite(exc: sqlite3.Error, path: Path, *, is_writing: bool) -> BrokerError:
    """Return the error of the broker that tells of ``exc``.

    A failed write (``SQLITE_IOERR``) counts as a full disk: quotas and thin volumes answer so.
    """
    code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL or (is_writing and code == sqlite3.SQLITE_IOERR):
        return BrokerFullError(f"no room to write {path}: {exc}", hint=_ROOM)
    if code in _UNAVAILABLE:
        return BrokerUnavailableError(f"cannot use {path}: {exc}", hint=_UNAVAILABLE[code])
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        hint = "Restore the folder from a copy, or remove it and start anew."
        return BrokerError(f"{path} is damaged: {exc}", hint=hint)
    return BrokerError(f"{path}: {exc}")


def from_system(exc: OSError, path: Path) -> BrokerError:
    """Return the error of the broker that tells of ``exc``, met while opening ``path``."""
    if exc.errno in _FULL:
        return BrokerFullError(f"no room to write {path}: {exc.strerror}", hint=_ROOM)
    return BrokerUnavailableError(
        f"cannot use {path}: {exc.strerror}",
        hint="Name a folder on a local disk that this user may write to.",
    )
