"""What a topic takes, known before a record is sent: its sender can still do something about it.

A record that the broker refuses for good would otherwise be met by a commit, when the event that
sent it is over: the commit could not be made, and the event would run again for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamapp.errors import RefusedError, TooLargeError

if TYPE_CHECKING:
    from streamapp.core.batch import OutRecord

#: Bytes that a log adds to a record and to each of its headers, at most: Kafka's heads of a batch
#: (61) and of a record (36), and the lengths of a header's name and value.
RECORD_BYTES = 100
_HEADER_BYTES = 10
_SHOWN_KEY = 80


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one topic; ``None``: there is none.

    ``max_bytes``: of a record with key and headers, as it is before it is compressed.
    ``max_ahead_ms``: how far a record's time may be ahead of the broker's clock. ``needs_key``: it
    is compacted.
    """

    max_bytes: int | None = None
    max_ahead_ms: int | None = None
    needs_key: bool = False

    def check(self, record: OutRecord, now_ms: int) -> None:
        """Refuse what the broker would refuse.

        Raises:
            TooLargeError: The record is too large.
            RefusedError: It has no key where one is needed, or is of the future.
        """
        topic, size = record.tp.topic, size_of(record)
        if self.max_bytes is not None and size > self.max_bytes:
            key = "" if record.key is None else f" (key {record.key[:_SHOWN_KEY]!r})"
            message = f"A record of {size:,} bytes is too large for topic {topic}{key}"
            hint = f"It takes {self.max_bytes:,}: send less, or raise its max.message.bytes"
            raise TooLargeError(message, hint=hint)
        if self.needs_key and record.key is None:
            message = f"A record of topic {topic} has no key"
            raise RefusedError(message, hint="The topic is compacted: each record needs one")
        if self.max_ahead_ms is not None and record.timestamp_ms > now_ms + self.max_ahead_ms:
            ahead_s = (record.timestamp_ms - now_ms) / 1_000
            message = f"The time of a record is {ahead_s:,.0f} s ahead, too far for topic {topic}"
            hint = f"It takes {self.max_ahead_ms / 1_000:,.0f} s: message.timestamp.after.max.ms"
            raise RefusedError(message, hint=hint)

    def check_all(self, records: Sequence[OutRecord], now_ms: int) -> None:
        """As ``check`` for each; the usual case is one look at each column."""
        if not records or self == NO_LIMITS:
            return
        _, keys, values, times, headers = zip(*records, strict=True)
        is_doubtful = (
            (self.needs_key and None in keys)
            or (self.max_ahead_ms is not None and max(times) > now_ms + self.max_ahead_ms)
            or (self.max_bytes is not None and _most(keys, values) > self.max_bytes)
            or any(headers)
        )
        if is_doubtful:
            for record in records:
                self.check(record, now_ms)


#: Of a topic that is not known yet.
NO_LIMITS = Limits()


def size_of(record: OutRecord) -> int:
    """Return the bytes of a record in a log, or a little more."""
    size = len(record.key or b"") + len(record.value or b"") + RECORD_BYTES
    for name, value in record.headers:
        size += len(name.encode()) + len(value) + _HEADER_BYTES
    return size


def _most(keys: Iterable[bytes | None], values: Iterable[bytes | None]) -> int:
    """Return what no record of these columns exceeds, if it has no headers."""
    longest = (max(map(len, filter(None, column)), default=0) for column in (keys, values))
    return sum(longest) + RECORD_BYTES
