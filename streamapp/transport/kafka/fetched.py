"""Records as they come from a consumer, gathered as columns.

They are asked for in small portions: librdkafka makes an object for each record, and thousands of
them would leave the processor's cache before their columns are read. The object is dropped then.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from confluent_kafka import Message

from streamapp.core.batch import TP, RecordBatch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Consumer

    from streamapp.transport.kafka.names import Names

#: Records of one call. From 100 to 500 all is well; 5,000 take a third more CPU time.
_PORTION = 250


class Fetched:
    """Columns of each partition, in the order in which they first appear; errors apart."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._columns: dict[tuple[str | None, int | None], _Columns] = {}
        self.errors: list[Message] = []

    def fill(self, consumer: Consumer, room: int) -> None:
        """Take what is there without waiting, ``room`` messages at most."""
        while room > 0:
            asked = min(room, _PORTION)
            messages = consumer.consume(asked, 0)
            self.add(messages)
            if len(messages) < asked:
                return
            room -= asked

    def add(self, messages: list[Message]) -> None:
        """Take messages, some of which may be errors."""
        if any(map(Message.error, messages)):
            self.errors += [message for message in messages if message.error() is not None]
            messages = [message for message in messages if message.error() is None]
        topics, partitions = (
            list(map(Message.topic, messages)),
            list(map(Message.partition, messages)),
        )
        begin, end = 0, len(messages)
        while begin < end:
            here = topics[begin], partitions[begin]
            # librdkafka hands over what a broker sent: mostly they are all of one partition.
            is_one_run = partitions.count(here[1]) == end == topics.count(here[0])
            places = zip(topics[begin:], partitions[begin:], strict=True)
            stop = end if is_one_run else begin + sum(1 for _ in takewhile(here.__eq__, places))
            columns = self._columns.get(here)
            if columns is None:
                columns = self._columns[here] = _Columns()
            columns.add(messages[begin:stop])
            begin = stop

    def batches(self) -> list[RecordBatch]:
        """Return one batch for each partition."""
        return [
            columns.batch(TP(str(topic).removeprefix(self._names.prefix), partition or 0))
            for (topic, partition), columns in self._columns.items()
        ]


class _Columns:
    __slots__ = ("_headers", "_keys", "_offsets", "_size", "_timestamps", "_values")

    def __init__(self) -> None:
        self._offsets: list[int | None] = []
        self._timestamps: list[int] = []
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._headers: list[Iterable[object] | None] = []
        self._size = 0

    def add(self, run: list[Message]) -> None:
        keys = list(map(Message.key, run))
        self._offsets += map(Message.offset, run)
        self._timestamps += [timestamp for _, timestamp in map(Message.timestamp, run)]
        self._keys += keys
        self._values += map(Message.value, run)
        self._headers += map(Message.headers, run)
        # The length of a message is that of its value.
        self._size += sum(map(len, run)) + sum(map(len, filter(None, keys)))

    def batch(self, tp: TP) -> RecordBatch:
        # A record that was read has an offset.
        offsets: list[int] = self._offsets  # type: ignore[assignment]
        headers = self._headers
        return RecordBatch(
            tp,
            offsets,
            self._timestamps,
            self._keys,
            self._values,
            [tuple(map(_header, found or ())) for found in headers] if any(headers) else None,
            offsets[-1] + 1,
            self._size,
        )


def _header(header: object) -> tuple[str, bytes]:
    """Return a name and a value; a value that a foreign producer left out is empty."""
    match header:
        case (str(name), bytes(value)):
            return name, value
        case (str(name), _):
            return name, b""
    msg = f"no header of a Kafka record: {header!r}"
    raise TypeError(msg)
