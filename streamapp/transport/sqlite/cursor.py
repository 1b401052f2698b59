"""A reading position in several partitions: who is behind, and what to return next.

Positions move only here, under one lock, so a ``seek`` from another thread can never be overtaken
by a read that was under way.
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamapp.core.batch import TP, Headers, RecordBatch
from streamapp.errors import BrokerError
from streamapp.transport.sqlite.codec import Columns, unpack
from streamapp.transport.sqlite.database import Changes
from streamapp.transport.sqlite.faults import from_sqlite
from streamapp.transport.sqlite.log import SELECT, Place, damaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from streamapp.transport.sqlite.topics import Topics

#: Bytes of rows that one call decodes: bounds the memory of a poll over large records.
_FETCH_BYTES = 16 << 20


@dataclass(slots=True)
class _Slot:
    """One partition being read. ``rest`` is what is decoded already, from ``next`` on."""

    tp: TP
    place: Place
    next: int
    is_paused: bool = False
    rest: RecordBatch | None = None


class Cursor:
    """Reads partitions in turns; all methods are thread-safe. Owns its connection."""

    def __init__(self, conn: sqlite3.Connection, path: Path, topics: Topics) -> None:
        self._conn = conn
        self._path = path
        self._topics = topics
        self._lock = threading.Lock()
        self._slots: dict[Place, _Slot] = {}
        self._changes = Changes(conn)
        self._is_behind = True
        self._turn = 0

    @property
    def tps(self) -> frozenset[TP]:
        """The partitions being read, paused ones included."""
        with self._lock:
            return frozenset(slot.tp for slot in self._slots.values())

    def assign(self, positions: Mapping[TP, int]) -> None:
        """Read exactly these partitions from these offsets on, none of them paused.

        Raises:
            UnknownTopicError: A partition does not exist; nothing has changed.
        """
        with self._lock:
            slots = [self._slot(tp, offset) for tp, offset in positions.items()]
            self._slots = {slot.place: slot for slot in slots}
            self._is_behind = True

    def seek(self, positions: Mapping[TP, int]) -> None:
        """Read these partitions from here on, others as before; pauses stay as they are.

        Raises:
            UnknownTopicError: A partition does not exist; nothing has changed.
        """
        with self._lock:
            slots = [self._slot(tp, offset) for tp, offset in positions.items()]
            for slot in slots:
                before = self._slots.get(slot.place)
                slot.is_paused = before is not None and before.is_paused
                self._slots[slot.place] = slot
            self._is_behind = True

    def pause(self, tps: Iterable[TP], *, is_paused: bool) -> None:
        """Stop or go on returning records of those of these partitions that are being read."""
        chosen = set(tps)
        with self._lock:
            for slot in self._slots.values():
                if slot.tp in chosen:
                    slot.is_paused = is_paused
            self._is_behind = True

    def fetch(self, max_records: int) -> list[RecordBatch]:
        """Return up to ``max_records`` records, one batch for each partition, without waiting.

        Each partition that has records gets its share; who comes first changes with every call.

        Raises:
            BrokerError: A row is damaged; the position stays before it.
        """
        with self._lock:
            try:
                # Asked first: a commit after it counts as new at the next call.
                self._is_behind |= self._changes.is_new()
                if not self._is_behind:
                    return []
                return self._fetch(self._behind(), max_records)
            except sqlite3.Error as exc:
                raise from_sqlite(exc, self._path, is_writing=False) from exc

    @property
    def is_behind(self) -> bool:
        """Whether the last ``fetch`` has left something."""
        return self._is_behind

    def close(self) -> None:
        """Close the connection, after a fetch that is under way; safe to repeat."""
        with self._lock:
            self._slots = {}
            self._conn.close()

    def _fetch(self, ends: Sequence[tuple[_Slot, int]], max_records: int) -> list[RecordBatch]:
        self._turn += 1
        turn = self._turn % len(ends) if ends else 0
        behind = [slot for slot, _ in (*ends[turn:], *ends[:turn])]
        batches: list[RecordBatch] = []
        room, space = max_records, _FETCH_BYTES
        for waiting, slot in zip(range(len(behind), 0, -1), behind, strict=True):
            if room <= 0 or space <= 0:
                break
            try:
                batch = self._read(slot, -(-room // waiting), space)
            except (BrokerError, sqlite3.Error):
                # Positions have moved over what is read already: that goes first.
                if batches:
                    break
                raise
            if batch is not None:
                batches.append(batch)
                room -= len(batch)
                space -= batch.size_bytes
        # Nobody behind: nothing to look for until somebody commits.
        self._is_behind = any(slot.next < end for slot, end in ends)
        return batches

    def _slot(self, tp: TP, offset: int) -> _Slot:
        tid, _ = self._topics.locate(self._conn, tp)
        return _Slot(TP(*tp), Place(tid, tp[1]), offset)

    def _behind(self) -> list[tuple[_Slot, int]]:
        """Return the partitions with something to read, and their ends.

        Those below earliest are moved up.
        """
        behind: list[tuple[_Slot, int]] = []
        for tid, p, earliest, end in self._conn.execute("SELECT tid, p, earliest, next FROM part"):
            slot = self._slots.get(Place(tid, p))
            if slot is None or slot.is_paused:
                continue
            if slot.next < earliest:
                slot.next, slot.rest = earliest, None
            if slot.next < end:
                behind.append((slot, end))
        return behind

    def _read(self, slot: _Slot, count: int, space: int) -> RecordBatch | None:
        batch = slot.rest or self._load(slot, count, space)
        if batch is None:
            return None
        taken, slot.rest = _split(batch, count)
        slot.next = taken.next_offset
        return taken

    def _load(self, slot: _Slot, count: int, space: int) -> RecordBatch | None:
        """Decode rows from the position on until there are ``count`` records or no more space."""
        loaded: list[Columns] = []
        size, end = 0, slot.next
        rows = self._conn.execute(f"{SELECT} ORDER BY last", (*slot.place, slot.next))
        for last, base, crc, data in rows:
            try:
                columns = unpack(data, base, last, crc)
            except BrokerError as exc:
                # What comes before the damage is whole, and goes first.
                if loaded:
                    break
                raise damaged(self._path, slot.tp, base, exc) from exc
            loaded.append(columns)
            end = last + 1
            size += len(data)
            count -= len(columns.offsets)
            if count <= 0 or size >= space:
                break
        rows.close()
        if not loaded:
            return None
        return RecordBatch(slot.tp, *_joined(loaded), end, size).since(slot.next)


def _joined(loaded: Sequence[Columns]) -> Columns:
    """Return consecutive rows as one: producers of single records then cost readers little."""
    if len(loaded) == 1:
        return loaded[0]
    timestamps: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    headers: list[Headers] = []
    for columns in loaded:
        timestamps += columns.timestamps
        keys += columns.keys
        values += columns.values
        headers += columns.headers or ((),) * len(columns.offsets)
    first, last = loaded[0].offsets[0], loaded[-1].offsets[-1]
    offsets: Sequence[int] = range(first, last + 1)
    if len(offsets) != len(values):
        offsets = [offset for columns in loaded for offset in columns.offsets]
    has_headers = any(columns.headers is not None for columns in loaded)
    return Columns(offsets, timestamps, keys, values, headers if has_headers else None)


def _split(batch: RecordBatch, count: int) -> tuple[RecordBatch, RecordBatch | None]:
    """Return the first ``count`` records, and the others."""
    if len(batch) <= count:
        return batch, None
    rest = batch.since(batch.offsets[count])
    if rest is None:
        msg = "an offset of the batch is not in the batch"
        raise AssertionError(msg)
    taken = RecordBatch(
        batch.tp,
        batch.offsets[:count],
        batch.timestamps[:count],
        batch.keys[:count],
        batch.values[:count],
        None if batch.headers is None else batch.headers[:count],
        batch.offsets[count],
        max(1, batch.size_bytes * count // len(batch)),
    )
    return taken, rest
