"""Compaction: of each key only the latest record stays, and of a tombstone nothing after a day.

The day of a tombstone begins with the round that takes away what it deletes: who has read that just
before has a day to come to the tombstone, also where there was no round for longer than that.

The last row of a partition is never touched, so its last offset stays readable and a reader that
waits for that offset arrives. Rows are read without a lock and swapped in short transactions, each
of which checks that the rows are still there; dying between two of them leaves a valid log.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from streamapp.transport.sqlite.codec import Columns
from streamapp.transport.sqlite.log import (
    Place,
    Row,
    insert_row,
    naming,
    pack_rows,
    read_row,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from streamapp.core.batch import TP, Headers
    from streamapp.transport.sqlite.database import Database

#: Rows swapped in one transaction: writers wait for it.
_GROUP_ROWS = 64

#: Records whose keys are held in memory at a time: bounds it to some 200 MB; the rest comes next.
_ROUND_RECORDS = 1_000_000

_SELECT = (
    "SELECT last, base, crc, data, written_ms FROM batch"
    " WHERE tid = ? AND p = ? AND last >= ? AND last < ? ORDER BY last LIMIT ?"
)


class _Stored(NamedTuple):
    row: Row
    written_ms: int


class _Filtered(NamedTuple):
    """What stays of a group, how many records do not, and whether a tombstone's day begins."""

    kept: Columns | None
    dropped: int
    is_first: bool


@dataclass(frozen=True, slots=True)
class Compaction:
    """One round over one partition, at ``now_ms``; tombstones stay for ``tombstone_ms``."""

    db: Database
    tp: TP
    place: Place
    now_ms: int
    tombstone_ms: int

    def run(self) -> int:
        """Compact up to the round's bound; return the number of records that went."""
        with self.db.read() as conn:
            start, last = conn.execute(
                "SELECT compacted, (SELECT max(last) FROM batch WHERE tid = part.tid"
                " AND p = part.p) FROM part WHERE tid = ? AND p = ?",
                self.place,
            ).fetchone() or (0, None)
        if last is None:
            return 0
        latest, end = self._latest(start, last)
        if end == start:
            return 0
        dropped = 0
        # Everything below ``end``, the part compacted earlier included: its keys may be outdated.
        for group in self._groups(0, end):
            filtered = self._filter(group, latest, start)
            if not self._swap(group, filtered):
                return dropped
            dropped += filtered.dropped
        self._note(end)
        return dropped

    def _latest(self, start: int, last: int) -> tuple[dict[bytes, int], int]:
        """Map the keys at or above ``start`` to their latest offsets; say how far that reaches.

        The last row counts for the map, but ends what may be compacted.
        """
        latest: dict[bytes, int] = {}
        end, count = start, 0
        for group in self._groups(start, last + 1):
            for stored in group:
                columns = self._read(stored.row)
                pairs = zip(columns.keys, columns.offsets, strict=True)
                latest.update((key, offset) for key, offset in pairs if key is not None)
                count += len(columns.offsets)
                end = stored.row.base if stored.row.last == last else stored.row.last + 1
            if count >= _ROUND_RECORDS:
                break
        return latest, end

    def _groups(self, start: int, end: int) -> Iterator[list[_Stored]]:
        while True:
            with self.db.read() as conn:
                found = conn.execute(_SELECT, (*self.place, start, end, _GROUP_ROWS)).fetchall()
            if not found:
                return
            group = [_Stored(Row(*row[:4]), row[4]) for row in found]
            yield group
            start = group[-1].row.last + 1

    def _filter(
        self, group: Sequence[_Stored], latest: Mapping[bytes, int], start: int
    ) -> _Filtered:
        """Return what stays of a group; records below ``start`` have been in a round before."""
        parts, total, is_first = [], 0, False
        for stored in group:
            columns = self._read(stored.row)
            total += len(columns.offsets)
            is_aged = stored.written_ms < self.now_ms - self.tombstone_ms
            records = zip(columns.keys, columns.values, columns.offsets, strict=True)
            stays = [
                key is None
                or (latest.get(key, -1) <= at and not (is_aged and value is None and at < start))
                for key, value, at in records
            ]
            parts.append(_compressed(columns, stays))
            is_first |= is_aged and stored.row.last >= start and None in parts[-1].values
        merged = _merged(parts)
        return _Filtered(merged, total - (0 if merged is None else len(merged.offsets)), is_first)

    def _swap(self, group: Sequence[_Stored], filtered: _Filtered) -> bool:
        """Put the kept records in place of the group's rows; ``False`` if the rows have changed."""
        kept = filtered.kept
        rows = [] if kept is None else list(pack_rows(kept))
        if not (filtered.dropped or filtered.is_first) and len(group) <= 2 * len(rows):
            return True
        written_ms = max(stored.written_ms for stored in group)
        if filtered.is_first:
            written_ms = max(written_ms, self.now_ms)
        first, last = group[0].row, group[-1].row
        with self.db.write() as conn:
            found = conn.execute(
                "SELECT last, crc FROM batch WHERE tid = ? AND p = ? AND last BETWEEN ? AND ?",
                (*self.place, first.last, last.last),
            ).fetchall()
            if found != [(stored.row.last, stored.row.crc) for stored in group]:
                return False
            conn.execute(
                "DELETE FROM batch WHERE tid = ? AND p = ? AND last BETWEEN ? AND ?",
                (*self.place, first.last, last.last),
            )
            size = -sum(len(stored.row.data) for stored in group)
            at = 0
            for row in rows:
                if kept is not None:
                    insert_row(conn, self.place, kept.offsets[at], row, written_ms)
                at += row.count
                size += len(row.data)
            conn.execute(
                "UPDATE part SET bytes = bytes + ? WHERE tid = ? AND p = ?", (size, *self.place)
            )
        return True

    def _note(self, end: int) -> None:
        with self.db.write() as conn:
            conn.execute(
                "UPDATE part SET compacted = max(compacted, ?), compacted_bytes ="
                " (SELECT coalesce(sum(length(data)), 0) FROM batch"
                "  WHERE tid = part.tid AND p = part.p AND last < ?) WHERE tid = ? AND p = ?",
                (end, end, *self.place),
            )

    def _read(self, row: Row) -> Columns:
        with naming(self.db.path, self.tp, row.base):
            return read_row(row)


def size_of(conn: sqlite3.Connection, place: Place) -> tuple[int, int]:
    """Return the bytes of a partition, and those of them that were appended since a compaction."""
    total, compacted = conn.execute(
        "SELECT bytes, compacted_bytes FROM part WHERE tid = ? AND p = ?", place
    ).fetchone() or (0, 0)
    return total, max(0, total - compacted)


def _compressed(columns: Columns, stays: Sequence[bool]) -> Columns:
    offsets, timestamps, keys, values, headers = columns
    pick = itertools.compress
    return Columns(
        list(pick(offsets, stays)),
        list(pick(timestamps, stays)),
        list(pick(keys, stays)),
        list(pick(values, stays)),
        None if headers is None else list(pick(headers, stays)),
    )


def _merged(parts: Sequence[Columns]) -> Columns | None:
    chain = itertools.chain.from_iterable
    headers: list[Headers] = []
    for part in parts:
        headers += part.headers or ((),) * len(part.offsets)
    offsets = list(chain(part.offsets for part in parts))
    if not offsets:
        return None
    return Columns(
        offsets,
        list(chain(part.timestamps for part in parts)),
        list(chain(part.keys for part in parts)),
        list(chain(part.values for part in parts)),
        headers if any(headers) else None,
    )
