"""The topics of a bus: made once, described from the file, found quickly when records arrive."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamapp.core.names import NAME_HINT, is_topic_name
from streamapp.errors import ConfigError, PartitionMismatchError, UnknownTopicError
from streamapp.transport.broker import OffsetRange, TopicInfo, TopicSpec
from streamapp.transport.sqlite.log import LIMITS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from streamapp.core.batch import TP
    from streamapp.transport.sqlite.database import Database

_CLEANUP = frozenset({"delete", "compact"})
_COLUMNS = "tid, name, uid, partitions, cleanup, retention_ms, retention_bytes"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and its number in the file, which no other incarnation ever gets."""

    tid: int
    info: TopicInfo

    @property
    def partitions(self) -> int:
        """The number of partitions."""
        return self.info.spec.partitions


class Topics:
    """The catalogue; thread-safe. Numbers are cached, and checked whenever they are used."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._tids: dict[str, int] = {}

    def create(self, spec: TopicSpec) -> TopicInfo:
        """Create the topic unless it is there.

        Raises:
            ConfigError: The name, the number of partitions or the cleanup is impossible.
            PartitionMismatchError: It is there with another number of partitions.
        """
        _check(spec)
        topic = self.find(spec.name)
        if topic is None:
            with self._db.write() as conn:
                topic = _select(conn).get(spec.name) or _insert(conn, spec)
        if topic.partitions != spec.partitions:
            msg = (
                f"topic {spec.name} has {topic.partitions} partitions, {spec.partitions} were asked"
            )
            hint = "Declare the number that it has, or delete the topic first."
            raise PartitionMismatchError(msg, hint=hint)
        return topic.info

    def delete(self, name: str) -> None:
        """Delete the topic, its records and all groups' positions in it.

        Raises:
            UnknownTopicError: It does not exist.
        """
        with self._db.write() as conn:
            topic = _select(conn).get(name)
            if topic is None:
                raise unknown(name)
            for table in ("batch", "part", "position", "topic"):
                conn.execute(f"DELETE FROM {table} WHERE tid = ?", (topic.tid,))  # noqa: S608  # our own names

    def all(self) -> dict[str, Topic]:
        """Return the topics by name, as of now."""
        with self._db.read() as conn:
            return _select(conn)

    def find(self, name: str) -> Topic | None:
        """Return one topic, as of now."""
        return self.all().get(name)

    def locate(self, conn: sqlite3.Connection, tp: TP) -> tuple[int, OffsetRange]:
        """Return the number of the topic and the range of the partition, as ``conn`` sees them.

        Raises:
            UnknownTopicError: The topic or the partition does not exist.
        """
        tid = self._tids.get(tp[0])
        row = None if tid is None else _part(conn, tid, tp[1])
        if row is None:
            # Not known yet, or made anew by another process.
            self._tids = {name: topic.tid for name, topic in _select(conn).items()}
            tid = self._tids.get(tp[0])
            if tid is None:
                raise unknown(tp[0])
            row = _part(conn, tid, tp[1])
        if tid is None or row is None:
            msg = f"topic {tp[0]} has no partition {tp[1]}"
            raise UnknownTopicError(msg)
        return tid, OffsetRange(*row)


def partitions_of(conn: sqlite3.Connection) -> Mapping[str, tuple[int, int]]:
    """Return the number and the partition count of each topic."""
    rows = conn.execute("SELECT name, tid, partitions FROM topic")
    return {name: (tid, partitions) for name, tid, partitions in rows}


def unknown(name: str) -> UnknownTopicError:
    """Return the error for a topic that does not exist."""
    return UnknownTopicError(f"topic {name} does not exist", hint="Create it first.")


def _check(spec: TopicSpec) -> None:
    if not is_topic_name(spec.name):
        msg = f"{spec.name!r} is no name for a topic"
        raise ConfigError(msg, hint=NAME_HINT)
    if spec.partitions < 1:
        msg = f"topic {spec.name} needs at least one partition, not {spec.partitions}"
        raise ConfigError(msg)
    if not spec.cleanup or not spec.cleanup <= _CLEANUP:
        msg = f"topic {spec.name} has cleanup {sorted(spec.cleanup)}"
        raise ConfigError(msg, hint="Use delete, compact or both.")


def _insert(conn: sqlite3.Connection, spec: TopicSpec) -> Topic:
    uid = uuid.uuid4().hex
    cleanup = ",".join(sorted(spec.cleanup))
    row = (spec.name, uid, spec.partitions, cleanup, spec.retention_ms, spec.retention_bytes)
    tid = conn.execute(
        "INSERT INTO topic (name, uid, partitions, cleanup, retention_ms, retention_bytes)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        row,
    ).lastrowid
    if tid is None:
        msg = "an INSERT without a row id"
        raise AssertionError(msg)
    conn.executemany(
        "INSERT INTO part (tid, p) VALUES (?, ?)", [(tid, p) for p in range(spec.partitions)]
    )
    return Topic(tid, TopicInfo(spec, uid, LIMITS))


def _select(conn: sqlite3.Connection) -> dict[str, Topic]:
    topics: dict[str, Topic] = {}
    for row in conn.execute(f"SELECT {_COLUMNS} FROM topic"):  # noqa: S608  # our own names
        tid, name, uid, partitions, cleanup, retention_ms, retention_bytes = row
        kinds = frozenset(cleanup.split(","))
        spec = TopicSpec(name, partitions, kinds, retention_ms, retention_bytes)
        topics[name] = Topic(tid, TopicInfo(spec, uid, LIMITS))
    return topics


def _part(conn: sqlite3.Connection, tid: int, p: int) -> tuple[int, int] | None:
    row: tuple[int, int] | None = conn.execute(
        "SELECT earliest, next FROM part WHERE tid = ? AND p = ?", (tid, p)
    ).fetchone()
    return row
