"""The embedded broker: a folder on a local disk that several processes share.

What it promises: an ``append`` or ``commit`` that returned is on the disk and survives the death of
any process; offsets of a partition rise without holes and are never used again; a commit is seen
whole or not at all. What it does not: replication, several hosts, network file systems. It needs
POSIX locks and sockets. A process that is stopped (not killed) in the middle of a write keeps all
other writers waiting until it goes on.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from streamapp.core.batch import TP, OutRecord
from streamapp.errors import BrokerError, BrokerUnavailableError
from streamapp.transport.sqlite.bell import RECORDS, Bell, Bells
from streamapp.transport.sqlite.cursor import Cursor
from streamapp.transport.sqlite.database import Database
from streamapp.transport.sqlite.groups import Groups
from streamapp.transport.sqlite.janitor import Cleaned, Cleaner, Janitor
from streamapp.transport.sqlite.log import draft, write
from streamapp.transport.sqlite.member import SqliteMember
from streamapp.transport.sqlite.membership import Membership, Timeouts
from streamapp.transport.sqlite.reader import SqliteReader
from streamapp.transport.sqlite.schema import prepare
from streamapp.transport.sqlite.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from streamapp.transport.broker import (
        GroupInfo,
        MemberInfo,
        OffsetRange,
        Position,
        TopicInfo,
        TopicSpec,
    )

#: Upserts came with it.
_SQLITE = (3, 24)


@dataclass(frozen=True, slots=True)
class SqliteOptions:
    """How the bus is used by this process.

    ``sync``: with ``normal`` the last commits may be gone after a power cut (never after the death
    of a process), and an append of single records is several times faster. ``tombstone_ms``: how
    long readers may take to see that a key was deleted.
    """

    sync: Literal["full", "normal"] = "full"
    session_timeout_ms: int = 10_000
    rebalance_timeout_ms: int = 60_000
    clean_interval_ms: int = 60_000
    tombstone_ms: int = 24 * 3_600_000


class SqliteBroker:
    """A ``Broker`` over a folder; any number of objects and processes may use one folder."""

    def __init__(self, folder: Path, options: SqliteOptions | None = None) -> None:
        """Open the folder, making it if need be.

        Raises:
            BrokerUnavailableError: It cannot be made, written or shared; the message says why.
            BrokerFullError: There is no room to make it.
        """
        if sqlite3.sqlite_version_info < _SQLITE:
            msg = f"SQLite {sqlite3.sqlite_version} is too old"
            raise BrokerUnavailableError(msg, hint="Use a Python with SQLite 3.24 or newer.")
        self._options = options or SqliteOptions()
        self._folder = prepare(folder)
        self._lock = threading.Lock()
        self._is_closed = False
        self._janitor: Janitor | None = None
        self._users: list[SqliteMember | SqliteReader] = []
        with ExitStack() as opened:
            bus = Database(self._folder.bus, self._folder.write_lock, self._options.sync)
            opened.callback(bus.close)
            members = Database(self._folder.groups, self._folder.groups_lock, "normal")
            opened.callback(members.close)
            self._bells = Bells(self._folder.bells)
            opened.callback(self._bells.close)
            self._opened = opened.pop_all()
        self._bus = bus
        self._groups = Groups(self._folder, bus, members)
        self._topics = Topics(bus)
        self._cleaner = Cleaner(bus, self._topics, self._options.tombstone_ms)

    def create_topic(self, spec: TopicSpec) -> TopicInfo:
        """See ``Broker.create_topic``.

        Raises:
            ConfigError: The name, the number of partitions or the cleanup is impossible.
        """
        info = self._topics.create(spec)
        self._bells.ring()
        return info

    def delete_topic(self, name: str) -> None:
        """Delete the topic, its records and all positions in it; its groups rebalance.

        Raises:
            UnknownTopicError: It does not exist.
        """
        self._topics.delete(name)
        self._bells.ring()

    def topics(self) -> Mapping[str, TopicInfo]:
        """See ``Broker.topics``."""
        return {name: topic.info for name, topic in self._topics.all().items()}

    def offsets(self, tps: Iterable[TP]) -> dict[TP, OffsetRange]:
        """See ``Broker.offsets``."""
        with self._bus.read() as conn:
            return {TP(*tp): self._topics.locate(conn, tp)[1] for tp in tps}

    def append(self, records: Sequence[OutRecord]) -> list[int]:
        """See ``Broker.append``."""
        if not records:
            return []
        todo = draft(records)
        with self._bus.write() as conn:
            offsets = write(conn, self._topics, todo, _now_ms())
        self._bells.ring(RECORDS)
        return offsets

    def reader(self) -> SqliteReader:
        """See ``Broker.reader``."""
        with self._lock:
            reader = SqliteReader(self._cursor(), Bell(self._bells))
            self._use(reader)
            return reader

    def join(self, group: str, topics: Iterable[str], url: str = "") -> SqliteMember:
        """See ``Broker.join``; topics that do not exist yet are assigned when they appear."""
        timeouts = Timeouts(self._options.session_timeout_ms, self._options.rebalance_timeout_ms)
        with self._lock:
            membership = Membership(self._groups, group, topics, url, timeouts)
            member = SqliteMember(membership, self._cursor(), self._topics, self._bells)
            self._use(member)
            member.join()
            if self._janitor is None:
                every_ms = self._options.clean_interval_ms
                self._janitor = Janitor(self._cleaner, self._folder, every_ms)
            return member

    def committed(self, group: str, tps: Iterable[TP]) -> dict[TP, Position]:
        """See ``Broker.committed``."""
        return self._groups.committed(group, tps)

    def members(self, group: str) -> tuple[MemberInfo, ...]:
        """See ``Broker.members``."""
        return self._groups.members_of(group)

    def groups(self) -> Mapping[str, GroupInfo]:
        """See ``Broker.groups``; those without a live member are included."""
        return self._groups.describe()

    def clean(self, now_ms: int | None = None) -> Cleaned:
        """Apply retention and compaction now, and shrink the files.

        Args:
            now_ms: Epoch ms to reckon ages from; the clock's if not given.
        """
        return self._cleaner.clean(_now_ms() if now_ms is None else now_ms)

    def close(self) -> None:
        """See ``Broker.close``; its members leave their groups."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            if self._janitor is not None:
                self._opened.callback(self._janitor.stop)
            for user in self._users:
                self._opened.callback(user.close if isinstance(user, SqliteReader) else user.leave)
            # All of them, in reverse order, even if one of them fails.
            self._opened.close()

    def _use(self, user: SqliteMember | SqliteReader) -> None:
        self._users = [one for one in self._users if not one.is_closed] + [user]

    def _cursor(self) -> Cursor:
        if self._is_closed:
            msg = f"the broker of {self._folder.path} is closed"
            raise BrokerError(msg)
        return Cursor(self._bus.reader(), self._bus.path, self._topics)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
