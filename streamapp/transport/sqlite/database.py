"""One SQLite file: writing by fair turns, reading by short statements.

A write is a transaction of one connection, under a lock of this process and then one of all
processes. Reading never waits for writing (WAL).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from streamapp.errors import BrokerError
from streamapp.transport.sqlite.faults import from_sqlite
from streamapp.transport.sqlite.locks import FileLock
from streamapp.transport.sqlite.schema import BUSY_TIMEOUT_S, connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: How long ``write_at_once`` waits for another process: most writes of single records end sooner.
_PATIENCE_S = 0.001
#: Seconds between two tries to write while a program that knows no lock of ours does.
_BUSY_PAUSE_S = 0.01


class Database:
    """A file of the bus as this object uses it; all methods are thread-safe.

    One object has one writing and one reading connection; a cursor opens its own with ``reader``.
    """

    def __init__(self, path: Path, lock: Path, sync: str) -> None:
        self.path = path
        self._guard = threading.RLock()
        self._read_guard = threading.RLock()
        self._is_closed = False
        with ExitStack() as opened:
            self._lock = FileLock(lock)
            opened.callback(self._lock.close)
            self._writing = connect(path, sync=sync)
            opened.callback(self._writing.close)
            # SQLite's own waiting cannot be bounded for one transaction; ``_begin`` waits instead.
            self._writing.execute("PRAGMA busy_timeout = 0")
            self._reading = connect(path, is_reader=True)
            opened.callback(self._reading.close)
            self._opened = opened.pop_all()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Run the body as one transaction: durable when it ends, undone if it raises.

        Raises:
            BrokerFullError: No room; nothing was written.
            BrokerUnavailableError: Another program keeps the file locked.
        """
        with self.exclusive() as conn:
            _begin(conn, BUSY_TIMEOUT_S)
            with _ended(conn):
                yield conn

    @contextmanager
    def write_at_once(self) -> Iterator[sqlite3.Connection | None]:
        """Run the body as ``write`` does, or with ``None`` if others write for longer than usual.

        Raises:
            BrokerFullError: No room; nothing was written.
        """
        if not self._guard.acquire(blocking=False):
            yield None
            return
        try:
            self._refuse_closed()
            if not self._lock.acquire_within(_PATIENCE_S):
                yield None
                return
            try:
                if _begin_nowait(self._writing):
                    with _ended(self._writing):
                        yield self._writing
                else:
                    yield None
            except sqlite3.Error as exc:
                raise from_sqlite(exc, self.path, is_writing=True) from exc
            finally:
                self._lock.release()
        finally:
            self._guard.release()

    @contextmanager
    def exclusive(self) -> Iterator[sqlite3.Connection]:
        """Keep all other writers out, without a transaction: for what SQLite does by itself."""
        with self._guard:
            self._refuse_closed()
            self._lock.acquire()
            try:
                yield self._writing
            except sqlite3.Error as exc:
                raise from_sqlite(exc, self.path, is_writing=True) from exc
            finally:
                self._lock.release()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Lend the reading connection; each statement sees the newest commit."""
        with self._read_guard:
            self._refuse_closed()
            try:
                yield self._reading
            except sqlite3.Error as exc:
                raise from_sqlite(exc, self.path, is_writing=False) from exc

    def reader(self) -> sqlite3.Connection:
        """Open another reading connection; the caller closes it."""
        return connect(self.path, is_reader=True)

    def close(self) -> None:
        """Close both connections, after what is running; safe to repeat."""
        with self._guard, self._read_guard:
            if not self._is_closed:
                self._is_closed = True
                self._opened.close()

    def _refuse_closed(self) -> None:
        if self._is_closed:
            msg = f"the broker of {self.path.parent} is closed"
            raise BrokerError(msg)


def _begin(conn: sqlite3.Connection, patience_s: float) -> None:
    """Begin to write. A program that knows nothing of our lock may do so just now."""
    deadline = time.monotonic() + patience_s
    while not _begin_nowait(conn):
        if time.monotonic() > deadline:
            conn.execute("BEGIN IMMEDIATE")
            return
        time.sleep(_BUSY_PAUSE_S)


def _begin_nowait(conn: sqlite3.Connection) -> bool:
    try:
        conn.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


@contextmanager
def _ended(conn: sqlite3.Connection) -> Iterator[None]:
    """Commit the transaction after the body, or undo it if that raises."""
    try:
        yield
        conn.execute("COMMIT")
    except BaseException:
        # A full disk may have rolled back already.
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise


class Changes:
    """Tells whether anybody else has committed to the file of a reading connection."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._version = -1

    def is_new(self) -> bool:
        """Tell whether there was a commit since the last call; ``True`` the first time."""
        version: int = self._conn.execute("PRAGMA data_version").fetchone()[0]
        is_new = version != self._version
        self._version = version
        return is_new
