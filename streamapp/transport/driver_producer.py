"""Faust's Producer over a broker: one thread writes whatever was queued since its last write.

It must never report a record as sent before the broker has it on disk. Per partition, records
are written in the order in which ``send`` was called.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from faust.exceptions import ProducerSendError
from faust.transport.producer import Producer as FaustProducer
from faust.transport.producer import ProducerBuffer
from faust.types.tuples import TP as FaustTP  # noqa: N811 - ours is TP too
from faust.types.tuples import FutureMessage, RecordMetadata

from streamapp.core.batch import TP, OutRecord
from streamapp.errors import UnknownTopicError
from streamapp.transport.driver_topics import kafka_config, topic_spec
from streamapp.transport.partitioner import StickyChooser, partition_for_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from faust.types import HeadersArg
    from mode.utils.times import Seconds

    from streamapp.transport.driver import Transport

#: Records: bounds one transaction, so that other processes' writers wait milliseconds.
_WRITE_RECORDS = 5_000
#: Kafka's code for a timestamp given by the producer.
_CREATE_TIME = 0


class _Queued(NamedTuple):
    record: OutRecord
    future: asyncio.Future[RecordMetadata]


class Writer:
    """The writing thread and its queue. ``put`` and ``written`` belong to the event loop."""

    def __init__(self, append: Callable[[Sequence[OutRecord]], list[int]]) -> None:
        """``append`` is ``Broker.append``; it is called by the thread only."""
        self._append = append
        self._changed = Condition()
        self._queue: deque[_Queued] = deque()
        self._is_stopping = False
        self._last: asyncio.Future[RecordMetadata] | None = None
        self._unflushed: set[asyncio.Future[RecordMetadata]] = set()
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._run, name="streamapp-writer", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start writing; futures are made and resolved on ``loop``."""
        self._loop = loop
        self._thread.start()

    def put(self, record: OutRecord) -> asyncio.Future[RecordMetadata]:
        """Queue a record; the future resolves when it is durable, or raises why it is not."""
        future: asyncio.Future[RecordMetadata] = self._loop.create_future()
        self._unflushed.add(future)
        future.add_done_callback(self._on_done)
        with self._changed:
            self._queue.append(_Queued(record, future))
            self._changed.notify()
        return future

    def _on_done(self, future: asyncio.Future[RecordMetadata]) -> None:
        self._unflushed.discard(future)
        if not future.cancelled() and (error := future.exception()) is not None:
            self._failure = error

    async def flush(self) -> None:
        """Wait for all that is queued now; what is queued meanwhile is not waited for.

        Raises:
            ProducerSendError: A record queued since the last flush could not be written.
        """
        if pending := tuple(self._unflushed):
            await asyncio.wait(pending)
        if (failure := self._failure) is not None:
            self._failure = None
            message = f"a record could not be written: {failure}"
            raise ProducerSendError(message) from failure

    def stop(self) -> None:
        """Write what is queued, end the thread and wait for it; safe to repeat. Blocks."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                offsets = self._append([queued.record for queued in batch])
            except UnknownTopicError:
                # Nothing was written, and only the senders to that topic are to blame.
                for queued in batch:
                    self._write_one(queued)
            except Exception as exc:  # noqa: BLE001 - every sender gets it through its future
                self._loop.call_soon_threadsafe(_fail, batch, exc)
            else:
                self._loop.call_soon_threadsafe(_resolve, batch, offsets)

    def _write_one(self, queued: _Queued) -> None:
        try:
            offsets = self._append([queued.record])
        except Exception as exc:  # noqa: BLE001 - the sender gets it through its future
            self._loop.call_soon_threadsafe(_fail, [queued], exc)
        else:
            self._loop.call_soon_threadsafe(_resolve, [queued], offsets)

    def _next_batch(self) -> list[_Queued]:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_stopping)
            count = min(len(self._queue), _WRITE_RECORDS)
            return [self._queue.popleft() for _ in range(count)]


def _resolve(batch: Iterable[_Queued], offsets: Iterable[int]) -> None:
    for (record, future), offset in zip(batch, offsets, strict=True):
        if not future.done():
            future.set_result(_metadata(record, offset))


def _fail(batch: Iterable[_Queued], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)


def _metadata(record: OutRecord, offset: int) -> RecordMetadata:
    topic, partition = record.tp
    seconds = record.timestamp_ms / 1_000
    return RecordMetadata(
        topic, partition, FaustTP(topic, partition), offset, seconds, _CREATE_TIME
    )


class _Buffer(ProducerBuffer):
    """The queue of ``send_soon``; unlike its base it knows what it has taken and handed on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._taken = 0
        self._handed_on = 0

    def put(self, fut: FutureMessage) -> None:
        self._taken += 1
        super().put(fut)

    async def _send_pending(self, fut: FutureMessage) -> None:
        try:
            await super()._send_pending(fut)
        finally:
            self._handed_on += 1

    async def flush(self) -> None:
        """Wait until all that was put before has been handed to the writer."""
        target = self._taken
        while self._handed_on < target and not self.should_stop:
            self.message_sent.clear()
            await self.wait_first(self.message_sent.wait())

    async def on_stop(self) -> None:
        """Hand on the rest: the task that does so has ended."""
        while not self.pending.empty():
            await self._send_pending(self.pending.get_nowait())


class Producer(FaustProducer):
    """See ``faust.transport.producer.Producer``; made by ``Transport.create_producer``."""

    transport: Transport

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.buffer = _Buffer(beacon=self.beacon)
        self.buffer.app = self.app
        self._sticky = StickyChooser(start=os.getpid())
        self._writer: Writer | None = None

    async def on_start(self) -> None:
        """Open the broker and start writing."""
        await self.transport.hold()
        self._writer = Writer(self.transport.broker.append)
        self._writer.start(asyncio.get_running_loop())
        await super().on_start()

    async def on_stop(self) -> None:
        """Write what was sent, then close."""
        await super().on_stop()
        if self._writer is not None:
            await self.transport.call(self._writer.stop)
            await self.transport.drop()

    async def send(  # noqa: PLR0913, PLR0917 - Faust's signature
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: HeadersArg | None,
        *,
        transactional_id: str | None = None,  # noqa: ARG002 - no transactions here
    ) -> Awaitable[RecordMetadata]:
        """Queue a record; the future resolves with its real offset when it is durable.

        Args:
            topic: Created with ``conf.topic_partitions`` if it is absent and may be.
            key: Decides the partition unless ``partition`` is given.
            value: ``None`` is a tombstone.
            partition: Where to, or ``None``.
            timestamp: Seconds since the epoch; now, if ``None``.
            headers: Names and values.
            transactional_id: Ignored.

        Raises:
            UnknownTopicError: The topic is absent and ``topic_allow_declare`` is off.
        """
        if self.transport.topics.get(topic) is None:
            await self.transport.call(self.transport.ensure_topic, topic)
        tp = TP(topic, self._partition(topic, key, partition))
        seconds = time.time() if timestamp is None else timestamp
        if self._writer is None:
            message = "the producer was not started"
            raise ProducerSendError(message)
        return self._writer.put(
            OutRecord(tp, key, value, round(seconds * 1_000), _headers(headers))
        )

    def _partition(self, topic: str, key: bytes | None, partition: int | None) -> int:
        if partition is not None:
            return partition
        partitions = self.topic_partitions(topic)
        if key is None:
            return self._sticky.choose(topic, partitions)
        return partition_for_key(key, partitions)

    async def send_and_wait(  # noqa: PLR0913, PLR0917 - Faust's signature
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: HeadersArg | None,
        *,
        transactional_id: str | None = None,
    ) -> RecordMetadata:
        """``send``, then wait until the record is durable."""
        return await (
            await self.send(
                topic,
                key,
                value,
                partition,
                timestamp,
                headers,
                transactional_id=transactional_id,
            )
        )

    async def flush(self) -> None:
        """Wait for all that was sent before; see ``Writer.flush`` for what it raises."""
        await self.buffer.flush()
        if self._writer is not None:
            await self._writer.flush()

    def topic_partitions(self, topic: str) -> int:
        """Return the number of partitions; asks the broker once per topic.

        Raises:
            UnknownTopicError: The topic does not exist.
        """
        return self.transport.topics.partitions(topic)

    def key_partition(self, topic: str, key: bytes) -> FaustTP:
        """Return the partition of a key, the same as ``send`` chooses."""
        return FaustTP(topic, partition_for_key(key, self.topic_partitions(topic)))

    async def create_topic(  # noqa: PLR0913 - Faust's signature
        self,
        topic: str,
        partitions: int,
        replication: int,  # noqa: ARG002 - there is one copy
        *,
        config: Mapping[str, Any] | None = None,
        timeout: Seconds = 1000.0,  # noqa: ARG002, ASYNC109 - Faust's signature
        retention: Seconds | None = None,
        compacting: bool | None = None,
        deleting: bool | None = None,
        ensure_created: bool = False,  # noqa: ARG002 - it always is
    ) -> None:
        """Create the topic unless it exists; ``retention`` is in seconds."""
        options = kafka_config(retention, compacting=compacting, deleting=deleting)
        spec = topic_spec(topic, partitions, {**options, **(config or {})})
        await self.transport.call(self.transport.topics.create, spec)

    def supports_headers(self) -> bool:
        """Headers are kept."""
        return True


def _headers(headers: HeadersArg | None) -> tuple[tuple[str, bytes], ...]:
    if not headers:
        return ()
    pairs = headers.items() if hasattr(headers, "items") else headers
    return tuple((name, value) for name, value in pairs)
