"""The way of an event's records to one topic: what need not be found out again for each of them.

Partitions, their names and the topic's limits are the same from one record to the next, and so is
the answer that ``send`` gives for a partition.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any

from faust.types import tuples

from streamapp.core.batch import TP
from streamapp.core.limits import NO_LIMITS, Limits
from streamapp.errors import UsageError
from streamapp.transport.partitioner import StickyChooser, partition_for_key

if TYPE_CHECKING:
    from streamapp.core.batch import OutRecord

#: Later than any time.
_ALWAYS_MS = 1 << 63


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
    """Where records of one topic go, and whether it takes them."""

    __slots__ = ("_allowed_ms", "_limits", "_name", "_sticky", "staged", "tps")

    def __init__(self, name: str, partitions: int, limits: Limits, sticky: StickyChooser) -> None:
        self._name = name
        self._sticky = sticky
        self.tps = tuple(TP(name, number) for number in range(partitions))
        #: What ``send`` answers, by partition.
        self.staged = tuple(map(Staged, self.tps))
        self._limits = limits
        #: Records of up to this time were not too far ahead when the clock was asked last.
        self._allowed_ms = 0

    def choose(self, key: bytes | None) -> int:
        """Return the partition of a record: by its key, as every Kafka client does."""
        if key is None:
            return self._sticky.choose(self._name, len(self.tps))
        return partition_for_key(key, len(self.tps))

    def require(self, partition: int) -> int:
        """Return a partition that somebody has named.

        Raises:
            UsageError: The topic does not have it.
        """
        if 0 <= partition < len(self.tps):
            return partition
        msg = f"Topic {self._name} has no partition {partition}"
        raise UsageError(msg, hint=f"It has {len(self.tps)}, counted from 0")

    def check(self, record: OutRecord) -> None:
        """Refuse what the broker would refuse.

        Raises:
            InputError: The record is too large, has no key, or is of the future.
        """
        limits = self._limits
        if limits is NO_LIMITS or limits.surely_takes(record, self._allowed_ms):
            return
        now_ms = time.time_ns() // 1_000_000
        limits.check(record, now_ms)
        ahead_ms = limits.max_ahead_ms
        self._allowed_ms = _ALWAYS_MS if ahead_ms is None else now_ms + ahead_ms
