"""The unit of flow: consecutive records of one partition, as columns.

It holds bytes and never decodes them. Offsets rise strictly and may have holes (compaction,
transaction markers), so a reader goes on at ``next_offset``, not at the last offset plus one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat
from typing import NamedTuple

from streamapp.core.int_columns import all_ints
from streamapp.core.lists import one_list

#: Header names and values of one record, in the order in which they were sent.
Headers = tuple[tuple[str, bytes], ...]


class TP(NamedTuple):
    """A partition of a topic; equal to (and hashing as) the plain tuple."""

    topic: str
    partition: int


class OutRecord(NamedTuple):
    """A record to be written: its partition is already chosen. A null value is a tombstone."""

    tp: TP
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: Headers = ()


#: Skips the constructor, which is written in Python: half the time of a record.
out_record: Callable[[Iterable[object]], OutRecord] = partial(tuple.__new__, OutRecord)


def out_records(
    tps: Iterable[TP],
    keys: Iterable[bytes | None],
    values: Iterable[bytes | None],
    times: Iterable[int],
) -> list[OutRecord]:
    """Return records without headers, of columns; as many as the shortest has."""
    return [*map(out_record, zip(tps, keys, values, times, repeat(())))]


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Consecutive records of one partition; all columns have the same length, at least one.

    ``headers`` is ``None`` when no record of the batch has any.
    """

    tp: TP
    offsets: Sequence[int]
    timestamps: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers] | None
    next_offset: int
    size_bytes: int

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.offsets)

    def since(self, offset: int) -> RecordBatch | None:
        """Return the records at or above ``offset``; ``None`` when there is none left."""
        if offset <= self.offsets[0]:
            return self
        first = bisect_left(self.offsets, offset)
        if first == len(self.offsets):
            return None
        return RecordBatch(
            self.tp,
            self.offsets[first:],
            self.timestamps[first:],
            self.keys[first:],
            self.values[first:],
            None if self.headers is None else self.headers[first:],
            self.next_offset,
            self.size_bytes,
        )

    def part(self, start: int, stop: int) -> RecordBatch:
        """Return the records ``[start, stop)`` of their indices, at least one."""
        rest = self.since(self.offsets[start])
        if rest is None or stop <= start:
            raise IndexError(start)
        return rest if stop == len(self) else rest.split(stop - start)[0]

    def joined(self, *later: RecordBatch) -> RecordBatch:
        """Return one batch of these records and those that follow them in the partition."""
        parts = (self, *later)
        headers = None
        if any(part.headers is not None for part in parts):
            headers = [*chain.from_iterable(part.headers or ((),) * len(part) for part in parts)]
        return RecordBatch(
            self.tp,
            all_ints([part.offsets for part in parts]),
            all_ints([part.timestamps for part in parts]),
            one_list(part.keys for part in parts),
            one_list(part.values for part in parts),
            headers,
            parts[-1].next_offset,
            sum(part.size_bytes for part in parts),
        )

    def split(self, count: int) -> tuple[RecordBatch, RecordBatch]:
        """Return the first ``count`` records and the others; neither may be none."""
        rest = self.since(self.offsets[count])
        if rest is None or not count:
            raise IndexError(count)
        size = self.size_bytes * count // len(self)
        first = RecordBatch(
            self.tp,
            self.offsets[:count],
            self.timestamps[:count],
            self.keys[:count],
            self.values[:count],
            None if self.headers is None else self.headers[:count],
            self.offsets[count],
            size,
        )
        return first, replace(rest, size_bytes=self.size_bytes - size)
