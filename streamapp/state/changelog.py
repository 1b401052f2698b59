"""The changelog of a table: a compacted topic with one partition for each of the table's.

A record's key is the ordered bytes of the row's key, its value the bytes of the row's value; a null
value deletes. What a store holds of a partition is named by a ``Mark``: which incarnation of the
topic it comes from and the offset up to which it was applied. Pure.
"""

from __future__ import annotations

import zlib
from itertools import repeat
from typing import TYPE_CHECKING

import msgspec

from streamapp.core.batch import TP, OutRecord, out_records
from streamapp.state.store import note_key
from streamapp.transport.broker import TopicSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamapp.transport.broker import OffsetRange

#: Compaction keeps a tombstone for a day: a store that has not followed for longer may have missed
#: a deletion and is rebuilt.
TOMBSTONES_KEPT_MS = 24 * 3_600_000


class Mark(msgspec.Struct, frozen=True):
    """How far a store has followed one partition of a changelog.

    ``offset`` is the next one to apply; ``at_ms`` the wall clock when the store was at the end of
    the log, or began to follow it from nothing; ``check`` the fingerprint of the record before
    ``offset``, 0 when there is none: a log that was restored from a copy and has grown since has
    another record there.
    """

    uid: str
    offset: int
    at_ms: int
    check: int = 0


def changelog_topic(app: str, table: str, partitions: int) -> TopicSpec:
    """Return the topic of a table's changes."""
    return TopicSpec(f"{app}-{table}-changelog", partitions, frozenset({"compact"}), None, None)


def mark_key(table: str, partition: int) -> bytes:
    """Return the store's key of a mark."""
    return note_key(f"changelog/{table}/{partition}")


def write_mark(mark: Mark) -> bytes:
    """Return a mark as the store keeps it."""
    return msgspec.json.encode(mark)


def read_mark(data: bytes | None) -> Mark | None:
    """Return a stored mark; ``None`` if there is none that can be read."""
    try:
        return msgspec.json.decode(data or b"", type=Mark)
    except msgspec.MsgspecError:
        return None


def fingerprint(key: bytes | None, value: bytes | None, timestamp_ms: int) -> int:
    """Return what tells a changelog record from any other at the same offset; never 0."""
    data = b"%d %d " % (timestamp_ms, len(key or b"")) + (key or b"") + (value or b"")
    return zlib.crc32(data) or 1


def restore_from(mark: Mark | None, uid: str, log: OffsetRange, now_ms: int) -> int | None:
    """Return the offset from which a store must follow the log; ``None``: wipe it, then from 0.

    A mark of another incarnation of the topic, beyond its end, or so old that a tombstone may be
    gone, cannot be trusted.
    """
    if mark is None or mark.uid != uid or mark.offset > log.end:
        return None
    if now_ms - mark.at_ms > TOMBSTONES_KEPT_MS and mark.offset < log.end:
        return None
    return mark.offset


def change_records(
    tp: TP, changes: Mapping[bytes, bytes | None], timestamp_ms: int
) -> list[OutRecord]:
    """Return the changelog records of the changed rows of one partition."""
    return out_records(repeat(tp), changes, changes.values(), repeat(timestamp_ms))
