"""What a cluster's coordinators have written down: every position that a group committed, in order.

Whoever owned a partition is seen there: our positions carry the name of the member that committed.
"""

from __future__ import annotations

import struct
import time
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streamapp.core.batch import TP
from streamapp.transport.kafka.positions import read_note

_TOPIC = "__consumer_offsets"
_OF_OFFSETS = (0, 1)
_READ_S = 30.0
#: Where the note of a position stands: behind version, offset and leader epoch.
_NOTE = 14
#: The version since which the size of a text is a number of as many bytes as it takes.
_COMPACT = 4


class Noted(NamedTuple):
    """One commit."""

    tp: TP
    owner: str
    offset: int


def commits_of(servers: str, group: str, prefix: str) -> list[Noted]:
    """Return the commits that a group was granted; those of each partition are in their order."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "offsets",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    try:
        count = len(consumer.list_topics(_TOPIC, timeout=_READ_S).topics[_TOPIC].partitions)
        consumer.assign([TopicPartition(_TOPIC, p, 0) for p in range(count)])
        found: list[Noted] = []
        deadline, left = time.monotonic() + _READ_S, set(range(count))
        while left:
            assert time.monotonic() < deadline, f"{_TOPIC} does not end"
            for message in consumer.consume(10_000, 0.1):
                error = message.error()
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    left.discard(message.partition())
                    continue
                one = _read(message.key() or b"", message.value(), group)
                if one is not None:
                    found.append(one._replace(tp=TP(one.tp.topic.removeprefix(prefix), one.tp[1])))
        return found
    finally:
        consumer.close()


def _read(key: bytes, value: bytes | None, group: str) -> Noted | None:
    """Return the commit in a record, if it is one of this group."""
    (version,) = struct.unpack_from(">h", key)
    if version not in _OF_OFFSETS or value is None:
        return None
    theirs, at = _text(key, 2)
    if theirs != group:
        return None
    topic, at = _text(key, at)
    (partition,) = struct.unpack_from(">i", key, at)
    version, offset, _ = struct.unpack_from(">hqi", value)
    note = _text(value, _NOTE)[0] if version < _COMPACT else _compact_text(value, _NOTE)
    return Noted(TP(topic, partition), read_note(note)[0], offset)


def _text(data: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from(">h", data, at)
    return data[at + 2 : at + 2 + size].decode(), at + 2 + size


def _compact_text(data: bytes, at: int) -> str:
    size, shift = 0, 0
    while True:
        size |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            return data[at : at + size - 1].decode()
