"""Records as they come from a consumer, gathered as columns.

They are asked for in small portions: librdkafka makes an object for each record, and thousands of
them would leave the processor's cache before their columns are read. The object is dropped then.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from streamapp.core.batch import TP, RecordBatch
from streamapp.transport.kafka.runs import take_run

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

    from streamapp.transport.kafka.names import Names
    from streamapp.transport.kafka.runs import Columns

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
        at = 0
        while at < len(messages):
            first = messages[at]
            if first.error() is not None:
                self.errors.append(first)
                at += 1
                continue
            here = first.topic(), first.partition()
            columns = self._columns.get(here)
            if columns is None:
                columns = self._columns[here] = _Columns()
            at = columns.take(messages, at)

    def batches(self) -> list[RecordBatch]:
        """Return one batch for each partition."""
        return [
            columns.batch(TP(str(topic).removeprefix(self._names.prefix), partition or 0))
            for (topic, partition), columns in self._columns.items()
        ]


class _Columns:
    __slots__ = ("_columns", "_size")

    def __init__(self) -> None:
        self._columns: Columns = array("q"), array("q"), [], [], []
        self._size = 0

    def take(self, messages: list[Message], start: int) -> int:
        """Add those from ``start`` on that are of one partition; return where they end."""
        stop, size = take_run(messages, start, self._columns)
        self._size += size
        return stop

    def batch(self, tp: TP) -> RecordBatch:
        offsets, timestamps, keys, values, headers = self._columns
        return RecordBatch(
            tp,
            offsets,
            timestamps,
            keys,
            values,
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
