"""The newest rows of a table, read from the end of its changelog: also those of other workers.

Each refresh reads on from where the last one ended, or skips ahead when more was written than is
kept. Rows are committed ones, newest first; what an unfinished commit holds is not there yet.
Of huge rows fewer are kept, at least the newest one of each partition.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamapp.core.batch import TP
from streamapp.web.asked import asked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamapp.app import App
    from streamapp.core.batch import RecordBatch
    from streamapp.transport.broker import Broker, OffsetRange

#: Records of each changelog partition that are looked at, and rows that are shown.
_DEPTH = 200
#: Bytes of the rows that are kept of each partition: 200 rows of a megabyte would be a fifth of a
#: worker's memory, for good.
_DEPTH_BYTES = 8 << 20
#: Seconds between two looks at the changelog, whoever asks.
_INTERVAL_S = 0.5
#: Seconds after which a refresh ends with what it has.
_PATIENCE_S = 2.0
#: Records in hand until the bounds are kept again.
_POLL_RECORDS = 100


@dataclass(frozen=True, slots=True)
class TailRow:
    """A row as its changelog has it; ``timestamp_ms`` is when it was committed."""

    partition: int
    raw_key: bytes
    value: bytes
    offset: int
    timestamp_ms: int


class Tail:
    """The newest rows of one table."""

    def __init__(self, topic: str, partitions: int, depth: int = _DEPTH) -> None:
        self._depth = depth
        self._tps = [TP(topic, number) for number in range(partitions)]
        self._rows: dict[tuple[int, bytes], TailRow] = {}
        self._next: dict[TP, int] = {}
        self._refreshed_at = 0.0

    async def rows(self, app: App) -> list[TailRow]:
        """Return the rows, newest first, not older than half a second.

        Raises:
            BrokerError: The broker cannot be read.
        """
        if time.monotonic() - self._refreshed_at > _INTERVAL_S:
            await asked(app, self, lambda: self._refresh_noted(app.broker))
        return self.known

    def _refresh_noted(self, broker: Broker) -> None:
        self.refresh(broker)
        # In the thread: who asks from now on must not begin another one while these are shown.
        self._refreshed_at = time.monotonic()

    @property
    def known(self) -> list[TailRow]:
        """The rows as of the last refresh, newest first."""
        return sorted(self._rows.values(), key=_age, reverse=True)[: self._depth]

    def refresh(self, broker: Broker) -> None:
        """Follow the changelog to its end. Blocks; one thread at a time."""
        ends = {}
        starts = {}
        for tp, span in broker.offsets(self._tps).items():
            start = self._start(tp, span)
            if start < span.end:
                starts[tp], ends[tp] = start, span.end
        if not starts:
            return
        reader = broker.reader()
        try:
            reader.assign(starts)
            deadline = time.monotonic() + _PATIENCE_S
            while ends and time.monotonic() < deadline:
                for batch in reader.poll(0.05, _POLL_RECORDS):
                    self._take(batch)
                    if batch.next_offset >= ends.get(batch.tp, 0):
                        ends.pop(batch.tp, None)
                self._trim()
        finally:
            reader.close()

    def _trim(self) -> None:
        """Keep the newest rows of each partition: a deletion elsewhere may bring them back up."""
        newest = sorted(self._rows.values(), key=_age, reverse=True)
        kept, size = Counter[int](), Counter[int]()
        for row in newest:
            kept[row.partition] += 1
            size[row.partition] += len(row.raw_key) + len(row.value)
            is_huge = size[row.partition] > _DEPTH_BYTES and kept[row.partition] > 1
            if is_huge or kept[row.partition] > self._depth:
                del self._rows[row.partition, row.raw_key]

    def _start(self, tp: TP, span: OffsetRange) -> int:
        at = self._next.get(tp, 0)
        start = max(span.earliest, span.end - self._depth)
        if start <= at <= span.end:
            return at
        # What is skipped may have changed the rows that are known; or the topic is a new one.
        self._drop(row for row in self._rows.values() if row.partition == tp.partition)
        return start

    def _drop(self, rows: Iterable[TailRow]) -> None:
        for row in list(rows):
            del self._rows[row.partition, row.raw_key]

    def _take(self, batch: RecordBatch) -> None:
        number = batch.tp.partition
        columns = zip(batch.keys, batch.values, batch.offsets, batch.timestamps, strict=True)
        for key, value, offset, timestamp_ms in columns:
            if key is None:
                continue
            if value is None:
                self._rows.pop((number, key), None)
            else:
                self._rows[number, key] = TailRow(number, key, value, offset, timestamp_ms)
        self._next[batch.tp] = batch.next_offset


def _age(row: TailRow) -> tuple[int, int]:
    return row.timestamp_ms, row.offset
