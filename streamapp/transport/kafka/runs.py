"""Messages of one partition that follow each other, as columns: by compiled code, or by Python."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, cast

from confluent_kafka import Message

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable

__all__ = ["Columns", "take_run", "take_run_in_python"]


#: Offsets and timestamps (ms), each an ``array("q")``; keys; values; headers.
Columns = tuple[
    "array[int]",
    "array[int]",
    list[bytes | None],
    list[bytes | None],
    "list[Iterable[object] | None]",
]


def take_run_in_python(messages: list[Message], start: int, columns: Columns) -> tuple[int, int]:
    """Do what ``message_columns.take_run`` does, where there was no compiler."""
    offsets, timestamps, keys, values, headers = columns
    run = _run(messages[start:])
    found = list(map(Message.key, run))
    offsets.extend(cast("Iterable[int]", map(Message.offset, run)))  # what was read has one
    timestamps.extend([timestamp for _, timestamp in map(Message.timestamp, run)])
    keys += found
    values += map(Message.value, run)
    headers += map(Message.headers, run)
    # The length of a message is that of its value.
    return start + len(run), sum(map(len, run)) + sum(map(len, filter(None, found)))


def _run(messages: list[Message]) -> list[Message]:
    """Return the first messages, as many as are of one partition and no errors."""
    if any(map(Message.error, messages)):
        messages = [*takewhile(lambda message: message.error() is None, messages)]
    topics, partitions = (
        list(map(Message.topic, messages)),
        list(map(Message.partition, messages)),
    )
    # librdkafka hands over what a broker sent: mostly they are all of one partition.
    if partitions.count(partitions[0]) == len(messages) == topics.count(topics[0]):
        return messages
    here = topics[0], partitions[0]
    size = sum(1 for _ in takewhile(here.__eq__, zip(topics, partitions, strict=True)))
    return messages[:size]


try:
    from streamapp.transport.kafka.message_columns import take_run
except ImportError:  # there was no compiler, or the client is not the one that it knows
    take_run = take_run_in_python
