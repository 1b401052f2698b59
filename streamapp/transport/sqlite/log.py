"""The partitioned log: how records become rows, and rows records.

A row holds up to a thousand records of one partition and is keyed by its last offset. Packing is
done before the transaction, so that the file is locked for as short a time as possible.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from streamapp.core.limits import Limits
from streamapp.errors import BrokerError
from streamapp.transport.sqlite.codec import Columns, Packed, pack, unpack

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from streamapp.core.batch import TP, OutRecord
    from streamapp.transport.sqlite.topics import Topics

#: Records of one row: a reader decodes a whole row even to return one record of it.
ROW_RECORDS = 1_000

#: Bytes of keys and values above which a row is cut, so that no row outgrows a reader's memory.
ROW_BYTES = 4 << 20

_INSERT = (
    "INSERT INTO batch (tid, p, last, base, count, written_ms, crc, data)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
SELECT = "SELECT last, base, crc, data FROM batch WHERE tid = ? AND p = ? AND last >= ?"


class Row(NamedTuple):
    """A stored batch, as ``SELECT`` returns it."""

    last: int
    base: int
    crc: int
    data: bytes


class Place(NamedTuple):
    """A partition by the number of its topic."""

    tid: int
    p: int


@dataclass(frozen=True, slots=True)
class Share:
    """The records of one partition in a draft: ``indexes`` are their places in the call."""

    tp: TP
    indexes: Sequence[int]
    rows: tuple[Packed, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """Records packed and ready to be written; offsets follow when they are."""

    count: int
    shares: tuple[Share, ...]


#: What every topic takes: a record is in memory several times while it is written or read.
LIMITS = Limits(max_bytes=64 << 20)


def draft(records: Sequence[OutRecord]) -> Draft:
    """Pack records of any partitions, in their order within each.

    Raises:
        TooLargeError: One is larger than ``LIMITS``.
    """
    LIMITS.check_all(records, 0)
    shares = []
    for indexes, chosen in _by_partition(records):
        tps, keys, values, timestamps, headers = zip(*chosen, strict=True)
        columns = Columns(range(len(chosen)), timestamps, keys, values, headers)
        shares.append(Share(tps[0], indexes, tuple(pack_rows(columns))))
    return Draft(len(records), tuple(shares))


def write(conn: sqlite3.Connection, topics: Topics, todo: Draft, now_ms: int) -> list[int]:
    """Write a draft within the transaction of ``conn``; return the offsets of its records.

    Raises:
        UnknownTopicError: A partition does not exist; the caller's transaction must be undone.
    """
    offsets = [0] * todo.count
    for share in todo.shares:
        tid, (_, start) = topics.locate(conn, share.tp)
        end = start + len(share.indexes)
        size = insert_rows(conn, Place(tid, share.tp[1]), start, share.rows, now_ms)
        conn.execute(
            "UPDATE part SET next = ?, bytes = bytes + ? WHERE tid = ? AND p = ?",
            (end, size, tid, share.tp[1]),
        )
        if len(share.indexes) == todo.count:
            return list(range(start, end))
        for index, offset in zip(share.indexes, range(start, end), strict=True):
            offsets[index] = offset
    return offsets


def insert_rows(
    conn: sqlite3.Connection, place: Place, base: int, rows: Iterable[Packed], now_ms: int
) -> int:
    """Insert dense rows, the first at offset ``base``; return their bytes."""
    size = 0
    for row in rows:
        insert_row(conn, place, base, row, now_ms)
        base += row.count
        size += len(row.data)
    return size


def insert_row(conn: sqlite3.Connection, place: Place, base: int, row: Packed, now_ms: int) -> None:
    """Insert one row at the offset ``base``."""
    last = base + row.last
    conn.execute(_INSERT, (*place, last, base, row.count, now_ms, row.seal(base), row.data))


def pack_rows(columns: Columns) -> Iterator[Packed]:
    """Pack columns of any length as rows within the bounds."""
    for start in range(0, len(columns.offsets), ROW_RECORDS):
        yield from _within_bytes(_cut(columns, start, start + ROW_RECORDS))


def read_row(row: Row) -> Columns:
    """Return the records of a row.

    Raises:
        BrokerError: The row is damaged.
    """
    return unpack(row.data, row.base, row.last, row.crc)


@contextmanager
def naming(path: object, tp: TP, offset: int) -> Iterator[None]:
    """Add to the error of a damaged row where it is."""
    try:
        yield
    except BrokerError as exc:
        raise damaged(path, tp, offset, exc) from exc


def damaged(path: object, tp: TP, offset: int, exc: BrokerError) -> BrokerError:
    """Return the error of a damaged row with where it is."""
    msg = f"{path}: topic {tp[0]} partition {tp[1]} offset {offset}: {exc.message}"
    hint = "The file is damaged there: restore it from a copy, or seek beyond the batch."
    return BrokerError(msg, hint=hint)


def _by_partition(
    records: Sequence[OutRecord],
) -> Iterator[tuple[Sequence[int], Sequence[OutRecord]]]:
    if not records:
        return
    first = records[0][0]
    if [record[0] for record in records].count(first) == len(records):
        yield range(len(records)), records
        return
    groups: dict[TP, list[int]] = {}
    for index, record in enumerate(records):
        groups.setdefault(record[0], []).append(index)
    for indexes in groups.values():
        yield indexes, [records[index] for index in indexes]


def _cut(columns: Columns, start: int, stop: int) -> Columns:
    offsets, timestamps, keys, values, headers = columns
    part = None if headers is None else headers[start:stop]
    return Columns(
        offsets[start:stop], timestamps[start:stop], keys[start:stop], values[start:stop], part
    )


def _within_bytes(columns: Columns) -> Iterator[Packed]:
    packed = pack(columns)
    if len(packed.data) <= ROW_BYTES or packed.count == 1:
        yield packed
        return
    middle = packed.count // 2
    yield from _within_bytes(_cut(columns, 0, middle))
    yield from _within_bytes(_cut(columns, middle, packed.count))
