"""Outputs that leave at once, beside the transactions: the guarantees below ``exactly_once``.

They go by an idempotent producer of their own, in the order in which they were sent, and whoever
commits waits first until the cluster has them. So a crash repeats outputs and never loses one.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

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
#: Seconds in which a loop that sends has taken some reports.
_TURN_S = 0.002


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


def _missing(sent: Sequence[_Sent]) -> int:
    return sum(one.count - one.arrived for one in sent)


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
        done = 0
        while (done := self._produce(records, done)) < len(records):
            self._poll()
        self._take_reports()

    def _produce(self, records: Sequence[OutRecord], start: int) -> int:
        """Hand records over, from number ``start`` on; return the number of the next one."""
        with self._lock:
            sent, produce = self._sent[-1], self._opened().produce
            theirs, report = self._names.theirs, sent.take
            for at in range(start, len(records)):
                tp, key, value, time_ms, headers = records[at]
                stamp = max(time_ms, EARLIEST_MS)
                pairs: Any = [*headers] if headers else None
                place = theirs(tp.topic), value, key, tp.partition
                try:
                    # By position: names take half of the time of this call.
                    produce(*place, report, None, stamp, pairs)
                except BufferError:
                    return at
                except KafkaException as exc:
                    # Whoever commits is told: the event that sent it is finished.
                    sent.error, sent.topic = sent.error or error_of(exc), tp.topic
                else:
                    sent.count += 1
        return len(records)

    def _take_reports(self) -> None:
        """Take reports that are there, unless another thread does so now.

        A thread that shares the interpreter with a busy loop would wait for it at each of them.
        """
        producer = self._producer
        if producer is not None and self._polling.acquire(blocking=False):
            try:
                producer.poll(0)
            finally:
                self._polling.release()

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
        while (missing := _missing(waiting)) and not any(sent.error for sent in waiting):
            if time.monotonic() > deadline:
                msg = f"The cluster took no outputs for {_SETTLE_S:.0f} s"
                raise BrokerFullError(msg, hint="It is tried again")
            # The loop takes reports whenever it sends; if it does not, it is done here.
            time.sleep(_TURN_S)
            if _missing(waiting) == missing:
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
