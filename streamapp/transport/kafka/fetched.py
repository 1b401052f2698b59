"""Records as they come from a consumer, gathered as columns.

They are asked for in small portions: librdkafka makes an object for each record, and thousands of
them would leave the processor's cache before their columns are read. The object is dropped then.
"""

from __future__ import annotations

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
        places = list(zip(map(Message.topic, messages), map(Message.partition, messages)))  # noqa: B905 - twice the same
        begin, end = 0, len(places)
        while begin < end:
            # librdkafka hands over what a broker sent: long runs of one partition, mostly.
            here = places[begin]
            stop = end
            if places.count(here) < end:
                stop = next((n for n in range(begin, end) if places[n] != here), end)
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
    __slots__ = ("_headers", "_keys", "_offsets", "_timestamps", "_values")

    def __init__(self) -> None:
        self._offsets: list[int | None] = []
        self._timestamps: list[tuple[int, int]] = []
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._headers: list[Iterable[object] | None] = []

    def add(self, run: list[Message]) -> None:
        self._offsets += map(Message.offset, run)
        self._timestamps += map(Message.timestamp, run)
        self._keys += map(Message.key, run)
        self._values += map(Message.value, run)
        self._headers += map(Message.headers, run)

    def batch(self, tp: TP) -> RecordBatch:
        # A record that was read has an offset.
        offsets: list[int] = self._offsets  # type: ignore[assignment]
        headers = self._headers
        return RecordBatch(
            tp,
            offsets,
            [timestamp for _, timestamp in self._timestamps],
            self._keys,
            self._values,
            [tuple(map(_header, found or ())) for found in headers] if any(headers) else None,
            offsets[-1] + 1,
            sum(map(len, filter(None, self._values))) + sum(map(len, filter(None, self._keys))),
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
