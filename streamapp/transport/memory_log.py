"""Partitions of the memory broker and the positions at which they are read.

Guarded by the broker's lock; knows no groups and never waits.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from streamapp.core.batch import TP, RecordBatch
from streamapp.transport.broker import OffsetRange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from streamapp.core.batch import Headers, OutRecord


class Log:
    """One partition: columns in offset order; ``end`` only rises, offsets are never used again."""

    __slots__ = (
        "_headers",
        "_keys",
        "_offsets",
        "_timestamps",
        "_tp",
        "_values",
        "earliest",
        "end",
    )

    def __init__(self, tp: TP) -> None:
        self._tp = tp
        self.earliest = 0
        self.end = 0
        self._offsets: list[int] = []
        self._timestamps: list[int] = []
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._headers: list[Headers] = []

    @property
    def range(self) -> OffsetRange:
        """What can be read, half-open."""
        return OffsetRange(self.earliest, self.end)

    def append(self, record: OutRecord) -> int:
        """Add a record at the end; return its offset."""
        offset = self.end
        self._offsets.append(offset)
        self._timestamps.append(record.timestamp_ms)
        self._keys.append(record.key)
        self._values.append(record.value)
        self._headers.append(tuple(record.headers))
        self.end = offset + 1
        return offset

    def has(self, offset: int) -> bool:
        """Tell whether there is a record at or above the offset."""
        return bool(self._offsets) and self._offsets[-1] >= offset

    def read(self, offset: int, max_records: int) -> RecordBatch | None:
        """Return up to ``max_records`` records at or above ``offset``, ``None`` for none."""
        first = bisect_left(self._offsets, offset)
        part = slice(first, first + max_records)
        offsets = self._offsets[part]
        if not offsets:
            return None
        keys, values, headers = self._keys[part], self._values[part], self._headers[part]
        return RecordBatch(
            self._tp,
            offsets,
            self._timestamps[part],
            keys,
            values,
            headers if any(headers) else None,
            offsets[-1] + 1,
            sum(len(field or b"") for column in (keys, values) for field in column),
        )

    def trim(self, before: int) -> None:
        """Forget the records below ``before``."""
        self.earliest = min(max(before, self.earliest), self.end)
        self._keep(lambda row: self._offsets[row] >= self.earliest)

    def trim_older(self, than_ms: int) -> None:
        """Forget the leading records older than ``than_ms`` (epoch ms)."""
        young = (o for o, ts in zip(self._offsets, self._timestamps, strict=True) if ts >= than_ms)
        self.trim(next(young, self.end))

    def compact(self) -> None:
        """Keep the latest record of each key; the last record of all always stays.

        A reader that waits for ``end - 1`` would wait for ever without it.
        """
        latest = {key: row for row, key in enumerate(self._keys)}
        last = len(self._keys) - 1
        self._keep(lambda row: row == last or latest[self._keys[row]] == row)

    def _keep(self, wanted: Callable[[int], bool]) -> None:
        rows = [row for row in range(len(self._offsets)) if wanted(row)]
        self._offsets = [self._offsets[row] for row in rows]
        self._timestamps = [self._timestamps[row] for row in rows]
        self._keys = [self._keys[row] for row in rows]
        self._values = [self._values[row] for row in rows]
        self._headers = [self._headers[row] for row in rows]


class Cursor:
    """Reading positions of one reader, served in turn so that no partition starves another."""

    def __init__(self, logs: Mapping[TP, Log]) -> None:
        self._logs = logs
        self._positions: dict[TP, int] = {}
        self._paused: set[TP] = set()

    @property
    def tps(self) -> frozenset[TP]:
        """The partitions that have a position."""
        return frozenset(self._positions)

    @property
    def positions(self) -> dict[TP, int]:
        """The next offset of each partition."""
        return dict(self._positions)

    def clear(self) -> None:
        """Forget all positions and pauses."""
        self._positions.clear()
        self._paused.clear()

    def seek(self, positions: Mapping[TP, int]) -> None:
        """Read these partitions from here on."""
        self._positions.update(positions)

    def pause(self, tps: Iterable[TP]) -> None:
        """Skip these partitions."""
        self._paused.update(tps)

    def resume(self, tps: Iterable[TP]) -> None:
        """Serve these partitions again."""
        self._paused.difference_update(tps)

    def has_more(self) -> bool:
        """Tell whether ``take`` would return a record."""
        return next(self._ready(), None) is not None

    def _ready(self) -> Iterator[TP]:
        for tp, position in self._positions.items():
            if tp not in self._paused and self._logs[tp].has(position):
                yield tp

    def take(self, max_records: int) -> list[RecordBatch]:
        """Read what is there, an equal share of each partition, and move behind it."""
        batches = []
        ready = list(self._ready())
        for served, tp in enumerate(ready):
            share = -(-max_records // (len(ready) - served))
            batch = self._logs[tp].read(self._positions[tp], share)
            if batch is None:
                continue
            batches.append(batch)
            max_records -= len(batch)
            del self._positions[tp]  # to the end of the queue: whoever got none is first next time
            self._positions[tp] = batch.next_offset
        return batches
