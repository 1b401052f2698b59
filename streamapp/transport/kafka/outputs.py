"""Outputs that leave at once, beside the transactions: the guarantees below ``exactly_once``.

They go by an idempotent producer of their own, in the order in which they were sent, and whoever
commits waits first until the cluster has them. So a crash repeats outputs and never loses one.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException

from streamapp.errors import BrokerFullError
from streamapp.transport.kafka.failures import error_of, failure
from streamapp.transport.kafka.records import EARLIEST_MS, Delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Message, Producer

    from streamapp.core.batch import OutRecord
    from streamapp.transport.kafka.clients import Clients
    from streamapp.transport.kafka.names import Names

#: Seconds in which the cluster has to take outputs; after that agents wait, and it is tried again.
_SETTLE_S = 5.0
#: Seconds of one wait for reports of delivery.
_LOOK_S = 0.01


class _Sent:
    """Records that were sent between two commits."""

    __slots__ = ("arrived", "count", "error", "topic")

    def __init__(self) -> None:
        self.count = 0
        self.arrived = 0
        self.error: KafkaError | None = None
        #: Whose topic the first error is about.
        self.topic = ""

    def take(self, error: KafkaError | None, message: Message) -> None:
        """Take librdkafka's report about one of them."""
        self.arrived += 1
        if error is not None and self.error is None:
            self.error, self.topic = error, message.topic() or ""


class Outputs:
    """Sends from the event loop; ``settle`` and ``write`` are called by the thread of commits."""

    def __init__(self, clients: Clients, names: Names) -> None:
        self._clients = clients
        self._names = names
        self._lock = threading.Lock()
        self._polling = threading.Lock()
        self._producer: Producer | None = None
        #: The last one is of now; the others wait for reports.
        self._sent = [_Sent()]

    def send(self, records: Sequence[OutRecord]) -> None:
        """Send; waits only while a million records or a gigabyte are on their way."""
        for record in records:
            while not self._produce(record):
                self._poll()

    def _produce(self, record: OutRecord) -> bool:
        with self._lock:
            sent = self._sent[-1]
            try:
                self._opened().produce(
                    self._names.theirs(record.tp.topic),
                    record.value,
                    record.key,
                    record.tp.partition,
                    on_delivery=sent.take,
                    timestamp=max(record.timestamp_ms, EARLIEST_MS),
                    headers=list(record.headers) if record.headers else None,
                )
            except BufferError:
                return False
            except KafkaException as exc:
                # Whoever commits is told: the event that sent it is finished.
                sent.error, sent.topic = sent.error or error_of(exc), record.tp.topic
            else:
                sent.count += 1
            return True

    def _opened(self) -> Producer:
        if self._producer is None:
            self._producer = self._clients.producer()
        return self._producer

    def _poll(self) -> None:
        producer = self._producer
        if producer is not None:
            with self._polling:
                producer.poll(_LOOK_S)

    def settle(self) -> None:
        """Wait until the cluster has all that was sent before.

        Raises:
            BrokerFullError: It has not yet; may be tried again.
            BrokerError: It refused one; they must be sent anew.
        """
        with self._lock:
            waiting = list(self._sent)
            self._sent.append(_Sent())
        deadline = time.monotonic() + _SETTLE_S
        while any(sent.arrived < sent.count for sent in waiting):
            if any(sent.error for sent in waiting):
                break
            if time.monotonic() > deadline:
                msg = f"The cluster took no outputs for {_SETTLE_S:.0f} s"
                raise BrokerFullError(msg, hint="It is tried again")
            self._poll()
        failed = next((sent for sent in waiting if sent.error), None)
        if failed is not None and failed.error is not None:
            self.close()
            self._clients.note_refusal(failed.error)
            raise failure(failed.error, f"sending to {failed.topic}", self._clients.trouble)
        with self._lock:
            self._sent = self._sent[len(waiting) :]

    def write(self, records: Sequence[OutRecord]) -> list[int]:
        """Write behind all that was sent; return the offset of each record.

        Raises:
            BrokerError: Some of them may be missing.
        """
        with self._lock:
            producer = self._opened()
            delivery = Delivery(producer, self._names)
        try:
            delivery.send(records)
            with self._polling:
                left = producer.flush(_SETTLE_S)
        except KafkaException as exc:
            raise failure(exc, "writing changelogs", self._clients.trouble) from exc
        if delivery.error is not None or left:
            self.close()
            self._clients.note_refusal(delivery.error)
            problem = delivery.error or KafkaError(KafkaError._TIMED_OUT)  # noqa: SLF001 - public
            doing = f"writing to {delivery.topic or 'changelogs'}"
            raise failure(problem, doing, self._clients.trouble)
        return delivery.offsets(records)

    def close(self) -> None:
        """Drop what is not there yet, and the producer; safe to repeat."""
        with self._lock:
            producer, self._producer = self._producer, None
            self._sent = [_Sent()]
        if producer is not None:
            producer.purge()
            with self._polling:
                producer.close()
