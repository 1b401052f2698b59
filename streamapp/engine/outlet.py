"""The way of an event's records to one topic: what need not be found out again for each of them.

Partitions, their names and the topic's limits are the same from one record to the next, and so are
the answers that ``send`` gives.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any

from faust.types import tuples

from streamapp.core.batch import TP, out_record
from streamapp.core.limits import RECORD_BYTES, Limits
from streamapp.errors import UsageError
from streamapp.transport.partitioner import StickyChooser, partition_for_key

if TYPE_CHECKING:
    from streamapp.core.batch import Headers, OutRecord

#: More than any time, or any size.
_NO_BOUND = 1 << 63


class Staged(Awaitable[tuples.RecordMetadata]):
    """The answer to ``send`` inside of an event: the record is in the event's commit.

    Awaiting it does not wait for the commit (which waits for the event); the offset is -1.
    """

    __slots__ = ("_metadata",)

    def __init__(self, tp: TP) -> None:
        place = tuples.TP(*tp)
        self._metadata = tuples.RecordMetadata(tp.topic, tp.partition, place, -1, None, None)

    def __await__(self) -> Generator[Any, None, tuples.RecordMetadata]:
        """Return where the record will be, its offset not yet known."""
        yield from ()
        return self._metadata


class Outlet:
    """Makes records of one topic, with the partition each of them goes to."""

    __slots__ = (
        "_allowed_ms",
        "_limits",
        "_most_bytes",
        "_name",
        "_needs_key",
        "_sticky",
        "_tps",
        "staged",
    )

    def __init__(self, name: str, partitions: int, limits: Limits, sticky: StickyChooser) -> None:
        self._name = name
        self._sticky = sticky
        self._tps = tuple(TP(name, number) for number in range(partitions))
        #: What ``send`` answers, by partition.
        self.staged = tuple(map(Staged, self._tps))
        self.set_limits(limits)

    def set_limits(self, limits: Limits) -> None:
        """Take what the topic takes from now on."""
        self._limits = limits
        most = limits.max_bytes
        #: Of key and value, where there are no headers.
        self._most_bytes = _NO_BOUND if most is None else most - RECORD_BYTES
        #: Records of up to this time were not too far ahead when the clock was asked last.
        self._allowed_ms = _NO_BOUND if limits.max_ahead_ms is None else 0
        self._needs_key = limits.needs_key

    def record(
        self,
        key: bytes | None,
        value: bytes | None,
        time_ms: int,
        headers: Headers,
        partition: int | None,
    ) -> OutRecord:
        """Return a record for a partition that somebody has named, or for that of its key.

        Raises:
            InputError: The broker would refuse it: it is too large, has no key, or is of the
                future.
            UsageError: The topic does not have the partition.
        """
        if partition is None:
            if key is None:
                partition = self._sticky.choose(self._name, len(self._tps))
            else:
                partition = partition_for_key(key, len(self._tps))
        elif not 0 <= partition < len(self._tps):
            msg = f"Topic {self._name} has no partition {partition}"
            raise UsageError(msg, hint=f"It has {len(self._tps)}, counted from 0")
        record = out_record((self._tps[partition], key, value, time_ms, headers))
        size = len(key or b"") + len(value or b"")
        is_large = size > self._most_bytes
        if headers or is_large or time_ms > self._allowed_ms or (key is None and self._needs_key):
            self._look_closely(record)
        return record

    def _look_closely(self, record: OutRecord) -> None:
        limits, now_ms = self._limits, time.time_ns() // 1_000_000
        limits.check(record, now_ms)
        if limits.max_ahead_ms is not None:
            self._allowed_ms = now_ms + limits.max_ahead_ms
