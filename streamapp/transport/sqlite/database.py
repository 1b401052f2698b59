"""One SQLite file: writing by fair turns, reading by short statements.

A write is a transaction of one connection, under a lock of this process and then one of all
processes. Reading never waits for writing (WAL).
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from streamapp.errors import BrokerError
from streamapp.transport.sqlite.faults import from_sqlite
from streamapp.transport.sqlite.locks import FileLock
from streamapp.transport.sqlite.schema import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
            conn.execute("BEGIN IMMEDIATE")
            try:
                yield conn
                conn.execute("COMMIT")
            except BaseException:
                # A full disk may have rolled back already.
                if conn.in_transaction:
                    conn.execute("ROLLBACK")
                raise

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
