"""Records between our columns and librdkafka's messages.

A record's time is at least 1 ms after 1970: to librdkafka 0 means "now", and Kafka has none before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException

from streamapp.core.batch import RecordBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import KafkaError, Message, Producer

    from streamapp.core.batch import TP, OutRecord
    from streamapp.transport.kafka.names import Names

#: The earliest time that can be written, ms.
EARLIEST_MS = 1
#: Seconds to wait for room in the producer's queue before trying again.
_ROOM_S = 0.05


def split(batch: RecordBatch, room: int) -> tuple[RecordBatch | None, RecordBatch | None]:
    """Return the first ``room`` records of a batch, and the others."""
    if room <= 0:
        return None, batch
    if len(batch) <= room:
        return batch, None
    rest = batch.since(batch.offsets[room])
    first = RecordBatch(
        batch.tp,
        batch.offsets[:room],
        batch.timestamps[:room],
        batch.keys[:room],
        batch.values[:room],
        None if batch.headers is None else batch.headers[:room],
        batch.offsets[room - 1] + 1,
        batch.size_bytes,
    )
    return first, rest


class Delivery:
    """The way of some records to the cluster: sends them, and knows their offsets afterwards."""

    def __init__(self, producer: Producer, names: Names) -> None:
        self._producer = producer
        self._names = names
        self._offsets: dict[TP, list[int]] = {}
        self.error: KafkaError | None = None
        #: Whose topic the error is about.
        self.topic = ""

    def send(self, records: Sequence[OutRecord]) -> None:
        """Hand the records over.

        Raises:
            KafkaException: One of them cannot be sent, e.g. because of its size.
        """
        places: dict[TP, tuple[str, Callable[[KafkaError | None, Message], None]]] = {}
        produce = self._producer.produce
        for tp, key, value, time_ms, headers in records:
            found = places.get(tp)
            if found is None:
                found = places[tp] = self._names.theirs(tp.topic), self._taker(tp)
            topic, taker = found
            # By position: names take half of the time of this call.
            rest: Any = taker, None, max(time_ms, EARLIEST_MS), [*headers] if headers else None
            while True:
                try:
                    produce(topic, value, key, tp.partition, *rest)
                    break
                except BufferError:
                    self._producer.poll(_ROOM_S)
                except KafkaException:
                    self.topic = tp.topic
                    raise

    def _taker(self, tp: TP) -> Callable[[KafkaError | None, Message], None]:
        # Reports of one partition come in the order in which its records were sent.
        append = self._offsets.setdefault(tp, []).append

        def take(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                if self.error is None:
                    self.error, self.topic = error, tp.topic
            else:
                append(message.offset() or 0)

        return take

    def offsets(self, records: Sequence[OutRecord]) -> list[int]:
        """Return the offset of each record; all of them have arrived."""
        rest = {tp: iter(offsets) for tp, offsets in self._offsets.items()}
        return [next(rest[record.tp]) for record in records]
