"""Which partitions a consumer reads and from where; the two protocols of groups differ in it.

Used by the thread that polls the consumer only. Nothing is read before its position was named:
until then librdkafka is told of no partition (classic), or of paused ones (KIP-848).
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Protocol

from confluent_kafka import KafkaException, TopicPartition

from streamapp.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from confluent_kafka import Consumer

    from streamapp.core.batch import TP
    from streamapp.transport.kafka.names import Names

#: How librdkafka writes a group's metadata down: a mark, the generation, then names.
_METADATA = struct.Struct("=7si")
_MARK = b"CGMDv2:"
#: Seconds in which a partition that was just assigned can be sought.
_SEEK_S = 10.0
_LOOK_S = 0.01


def generation_of(metadata: object) -> int:
    """Return the generation in a group's metadata, as librdkafka writes it down.

    Raises:
        BrokerError: This librdkafka writes it otherwise.
    """
    if isinstance(metadata, bytes) and len(metadata) >= _METADATA.size:
        mark, generation = _METADATA.unpack_from(metadata)
        if mark == _MARK:
            return int(generation)
    msg = f"This librdkafka writes the metadata of a group as {metadata!r}"
    raise BrokerError(msg, hint="Install confluent-kafka 2.16")


class Assignment(Protocol):
    """How a consumer is told what to read."""

    def take(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        """Acknowledge partitions of the group; nothing is read of them yet."""

    def give(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        """Acknowledge that partitions are gone."""

    def read(
        self, consumer: Consumer, positions: Mapping[TP, int], sought: AbstractSet[TP]
    ) -> None:
        """Read these from here; ``sought`` are those of them whose position is new."""


class Eager:
    """The classic protocol: all partitions go and come at once."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def take(self, consumer: Consumer, places: list[TopicPartition]) -> None:  # noqa: ARG002 - none yet
        """See ``Assignment.take``."""
        consumer.assign([])

    def give(self, consumer: Consumer, places: list[TopicPartition]) -> None:  # noqa: ARG002 - all of them
        """See ``Assignment.give``."""
        consumer.unassign()

    def read(
        self,
        consumer: Consumer,
        positions: Mapping[TP, int],
        sought: AbstractSet[TP],  # noqa: ARG002 - all anew
    ) -> None:
        """See ``Assignment.read``; what was fetched ahead is dropped."""
        consumer.assign([self._names.place(tp, offset) for tp, offset in positions.items()])


class Incremental:
    """KIP-848: partitions come and go one by one."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def take(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        """See ``Assignment.take``."""
        start = [TopicPartition(place.topic, place.partition, 0) for place in places]
        consumer.incremental_assign(start)
        if start:
            consumer.pause(start)

    def give(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        """See ``Assignment.give``."""
        consumer.incremental_unassign(places)

    def read(
        self, consumer: Consumer, positions: Mapping[TP, int], sought: AbstractSet[TP]
    ) -> None:
        """See ``Assignment.read``."""
        places = [self._names.place(tp, positions[tp]) for tp in sought]
        deadline = time.monotonic() + _SEEK_S
        for place in places:
            while True:
                try:
                    consumer.seek(place)
                    break
                except KafkaException:
                    # Its fetcher is not up yet: that takes some ms after `take`.
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(_LOOK_S)
        consumer.resume(places)
