"""Reading outside of any group: whole commits only, to the end of each partition."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException

from streamapp.core.batch import TP
from streamapp.transport.kafka.failures import failure
from streamapp.transport.kafka.fetched import Fetched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import Consumer, Message

    from streamapp.core.batch import RecordBatch
    from streamapp.transport.broker import OffsetRange
    from streamapp.transport.kafka.failures import Trouble
    from streamapp.transport.kafka.names import Names

#: Seconds of one wait for a record: how late ``wake`` is seen.
_SLICE_S = 0.05


class KafkaReader:
    """A ``Reader`` over a consumer of its own."""

    def __init__(
        self,
        consumer: Consumer,
        names: Names,
        offsets: Callable[[Iterable[TP]], dict[TP, OffsetRange]],
        trouble: Trouble,
    ) -> None:
        self._consumer = consumer
        self._names = names
        self._offsets = offsets
        self._trouble = trouble
        self._lock = threading.RLock()
        self._polling = threading.Lock()
        self._positions: dict[TP, int] = {}
        self._is_woken = False
        self.is_closed = False

    def assign(self, positions: Mapping[TP, int]) -> None:
        """See ``Reader.assign``.

        Raises:
            UnknownTopicError: A partition does not exist; the assignment stays as it was.
        """
        ranges = self._offsets(positions)
        starts = {TP(*tp): max(positions[tp], ranges[tp].earliest) for tp in ranges}
        self.wake()
        with self._polling, self._lock:
            self._positions = starts
            self._consumer.assign([self._names.place(tp, start) for tp, start in starts.items()])
            self._is_woken = False

    def positions(self) -> dict[TP, int]:
        """See ``Reader.positions``; beyond transaction markers once the end was seen."""
        with self._lock:
            return dict(self._positions)

    def poll(self, timeout_s: float, max_records: int) -> list[RecordBatch]:
        """See ``Reader.poll``; empty at once when closed."""
        deadline = time.monotonic() + timeout_s
        with self._polling:
            while not self.is_closed:
                left_s = deadline - time.monotonic()
                batches = self._fetch(min(max(left_s, 0), _SLICE_S), max_records)
                if batches or self._is_woken or time.monotonic() >= deadline:
                    self._is_woken = False
                    return batches
        return []

    def _fetch(self, timeout_s: float, max_records: int) -> list[RecordBatch]:
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        fetched = Fetched(self._names)
        fetched.add([first])
        fetched.fill(self._consumer, max_records - 1)
        batches = [
            batch for batch in (self._new(one) for one in fetched.batches()) if batch is not None
        ]
        with self._lock:
            self._positions.update((batch.tp, batch.next_offset) for batch in batches)
            self._note(fetched.errors)
        return batches

    def _new(self, batch: RecordBatch) -> RecordBatch | None:
        # A position beyond the end makes librdkafka begin anew at the earliest record.
        return batch.since(self._positions.get(batch.tp, 0))

    def _note(self, messages: list[Message]) -> None:
        for message in messages:
            error = message.error()
            if error is None:
                continue
            tp = TP(
                (message.topic() or "").removeprefix(self._names.prefix), message.partition() or 0
            )
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                here = self._positions.get(tp, 0)
                self._positions[tp] = max(here, message.offset() or 0)
            elif not error.retriable() and error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
                # A consumer always asks for its group, of which a reader has no need.
                raise failure(error, f"reading {tp.topic}/{tp.partition}", self._trouble)

    def wake(self) -> None:
        """See ``Reader.wake``."""
        self._is_woken = True

    def close(self) -> None:
        """See ``Reader.close``; waits for a poll that is under way."""
        self.is_closed = True
        with self._polling:
            try:
                self._consumer.close()
            except (KafkaException, RuntimeError):  # closed already
                return
