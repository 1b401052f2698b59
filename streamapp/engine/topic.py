"""Topics: typed names of a partitioned log.

Inside an event ``send`` puts the record into the commit that includes the event, so a retried or
replayed event never leaves a second one; outside of events it goes to the broker at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from types import NoneType
from typing import TYPE_CHECKING, Any

import faust

from streamapp.core.batch import TP, Headers, OutRecord, RecordBatch
from streamapp.core.event_time import RECORD_TIME, EventTime, event_time_of
from streamapp.engine.batch_send import send_batch
from streamapp.errors import ConfigError
from streamapp.pipelines.checks import check_field
from streamapp.serde.codecs import (
    Decoded,
    decode_batch,
    key_decoder,
    key_encoder,
    value_decoder,
    value_encoder,
)
from streamapp.serde.columnar import BatchDecoder
from streamapp.state.scope import current_scope

if TYPE_CHECKING:
    from faust.types.tuples import RecordMetadata

    from streamapp.app import App
    from streamapp.engine.outlet import Outlet
    from streamapp.serde.coders import Encoder


class Topic(faust.Topic):
    """A topic with the types of its keys and values, and how its records tell their time."""

    app: App

    def __init__(self, app: App, *, event_time: EventTime = RECORD_TIME, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self.event_time = event_time
        if self.pattern:
            msg = f"Topic pattern {self.pattern.pattern!r} is not supported"
            raise ConfigError(msg, hint="Name the topics: app.topic('a', 'b')")
        if not self.topics:
            msg = "A topic has no name"
            raise ConfigError(msg, hint="Name it: app.topic('orders')")
        self.allow_empty = kwargs.get("allow_empty") or self.value_type is None
        self._decode_value = value_decoder(self.value_type, self._codec("value"))
        self._decode_key = key_decoder(self.key_type, self._codec("key"))
        self._encoders: dict[tuple[str, str | None], Encoder] = {}
        #: Known from the first record on that an event sends.
        self._outlet: Outlet | None = None
        #: How keys and values are written where no codec is named.
        self._writers: dict[str, Callable[[Any], bytes]] = {}

    def _codec(self, part: str) -> str | None:
        named = getattr(self.schema, f"{part}_serializer", None)
        return named if isinstance(named, str) else None

    def _clone_args(self) -> Mapping[str, Any]:
        return {**super()._clone_args(), "event_time": self.event_time}

    def derive_topic(self, **options: Any) -> Topic:
        """Return a topic like this one, but for these options; see Faust's ``derive_topic``."""
        topic: Topic = super().derive_topic(**options)
        topic.event_time = self.event_time
        return topic

    @cached_property
    def of_bytes(self) -> Topic:
        """The same topic, for who sends bytes as they are."""
        schema = faust.Schema()  # Faust would change the one of this topic
        return self.derive_topic(key_type=bytes, value_type=bytes, schema=schema)

    # --- records in ------------------------------------------------------------------------------

    def decode_batch(self, batch: RecordBatch) -> Decoded:
        """Return the value of each record, or ``Bad`` with the reason."""
        return decode_batch(self._decode_value, batch.values, allow_null=bool(self.allow_empty))

    def batch_decoder(self) -> BatchDecoder:
        """Return what does so for one reader, as columns where it asks for these."""
        return BatchDecoder(self._decode_value, self.value_type, allow_null=bool(self.allow_empty))

    def decode_key_of(self, batch: RecordBatch, index: int) -> Any:
        """Return the key of a record; a null key is ``None``.

        Raises:
            DecodeError: The key is not what the topic declares.
        """
        return self.decode_key(batch.keys[index])

    def decode_key(self, raw: bytes | None) -> Any:
        """Return the key of these bytes; a null key is ``None``.

        Raises:
            DecodeError: The key is not what the topic declares.
        """
        return None if raw is None else self._decode_key(raw)

    # --- records out -----------------------------------------------------------------------------

    async def send(  # noqa: PLR0913 - Faust's signature
        self,
        *,
        key: Any = None,
        value: Any = None,
        partition: int | None = None,
        timestamp: float | None = None,
        headers: Any = None,
        schema: Any = None,  # noqa: ARG002 - a topic has one
        key_serializer: str | None = None,
        value_serializer: str | None = None,
        callback: Any = None,
        force: bool = False,
    ) -> Awaitable[RecordMetadata]:
        """Send a record; ``timestamp`` in seconds, by default that of the event in hand or now.

        ``force`` sends at once, also inside of an event (a retried event sends again).

        Raises:
            EncodeError: The key or value is not what the topic declares.
            TooLargeError: The record is larger than the topic takes; nothing is sent.
            RefusedError: The broker would refuse it for another reason; nothing is sent.
            UnknownTopicError: The topic does not exist and may not be created.
        """
        raw_key = None if key is None else self.encode("key", key, key_serializer)
        raw_value = None if value is None else self.encode("value", value, value_serializer)
        pairs, scope = _headers(headers) if headers else (), current_scope.get()
        if scope is None or force or (scope.partition < 0 and not scope.is_lost):
            tp, stamp = TP(self.get_topic_name(), partition or 0), round((timestamp or 0) * 1_000)
            record = OutRecord(tp, raw_key, raw_value, stamp, pairs)
            self.app.engine.topics.check_one(record)
            sent = await (await self._get_producer()).send(
                tp.topic, raw_key, raw_value, partition, timestamp, list(pairs)
            )
            if callback is not None:
                sent.add_done_callback(callback)
            return sent
        outlet = self._outlet or await self._open()
        stamp = scope.source.timestamp_ms if timestamp is None else round(timestamp * 1_000)
        record = outlet.record(raw_key, raw_value, stamp, pairs, partition)
        scope.outputs.append(record)
        return outlet.staged[record.tp.partition]

    def put_nowait(self, value: Any) -> bool:
        """Send a value without a key from an event, as ``send`` does; ``False``: that has to do it.

        Raises what ``send`` raises. Saves a coroutine for each record, which takes as long as the
        rest.
        """
        scope, outlet = current_scope.get(), self._outlet
        if outlet is None or scope is None or scope.partition < 0:
            return False
        raw = None if value is None else self.encode("value", value)
        record = outlet.record(None, raw, scope.source.timestamp_ms, (), None)
        scope.outputs.append(record)
        return True

    async def _open(self) -> Outlet:
        outlet = self._outlet = await self.app.engine.topics.outlet(self)
        return outlet

    async def send_batch(self, batch: Any = None, *, key: Any = None, value: Any = None) -> int:
        """Send a record for each row of a batch, or of columns; return how many.

        Inside of an event they are part of its commit. Outside, all are on disk on return.

        Args:
            batch: A batch; its records, keys and event times are sent where nothing else is said.
            key: The keys: a field of the batch, or a column (a list, an array).
            value: The values: a field of the batch, or a column.

        Raises:
            EncodeError: A key or value is not what the topic declares; nothing is sent.
            UsageError: The columns are not of one length, or there is no batch to take them from.
        """
        return await send_batch(self, batch, key, value)

    def encode(self, part: str, given: Any, codec: str | None = None) -> bytes | None:
        """Return the bytes of a "key" or a "value", as the topic declares it.

        Raises:
            EncodeError: It is not what the topic declares.
        """
        if given is None:
            return None
        if codec is None:
            write = self._writers.get(part) or self._writer(part)
            return write(given)
        return self._encoder(part, codec)(given)

    def _writer(self, part: str) -> Callable[[Any], bytes]:
        encoder = self._encoder(part, None)

        def as_it_is(given: Any) -> bytes:
            return given if isinstance(given, bytes) else encoder(given)

        declared = self.key_type if part == "key" else self.value_type
        # As in Faust: what is bytes already, with no type declared, goes out as it is.
        self._writers[part] = as_it_is if declared is None else encoder
        return self._writers[part]

    def encode_many(self, part: str, given: Sequence[Any]) -> list[bytes | None]:
        """Return ``encode(part, one)`` of each, at a fraction of its cost for records.

        Raises:
            EncodeError: One of them is not what the topic declares.
        """
        kinds = {*map(type, given)}
        if NoneType in kinds or bytes in kinds:
            return [self.encode(part, one) for one in given]
        return [*self._encoder(part, None).many(given)]

    def _encoder(self, part: str, codec: str | None) -> Encoder:
        encode = self._encoders.get((part, codec))
        if encode is None:
            make = key_encoder if part == "key" else value_encoder
            declared = self.key_type if part == "key" else self.value_type
            encode = self._encoders[part, codec] = make(declared, codec or self._codec(part))
        return encode


class DeclaresTopics:
    """The part of an application that declares topics; stands before Faust's ``App``."""

    def topic(  # noqa: PLR0913 - the settings
        self,
        *topics: str,
        event_time: str | Callable[[Any], Any] | None = None,
        out_of_order: Any = 0,
        idle_after: Any = "5s",
        max_future: Any = "1d",
        advance_on_idle: str = "no",
        time_unit: str = "ms",
        **options: Any,
    ) -> Any:
        """Declare a topic; see Faust's ``App.topic`` for the rest.

        Args:
            topics: Its name (or several that are read together).
            event_time: Where a record says when it happened: a field of the value, or a function of
                the value. Whole numbers, dates with a zone and ISO 8601 text are times. By default
                it is the record's timestamp.
            out_of_order: How much older than the newest record a record may be ("5s").
            idle_after: Silence after which nobody waits for a partition; ``None``: never.
            max_future: A record further ahead of the clock is refused; ``None``: none is.
            advance_on_idle: "wallclock": the time of a silent partition goes on with the clock.
            time_unit: What numbers count: "s", "ms", "us" or "ns".
            options: ``key_type``, ``value_type``, ``partitions`` and Faust's others.

        Raises:
            ConfigError: An option is wrong; names it and its value.
        """
        how = event_time_of(
            {
                "event_time": event_time,
                "out_of_order": out_of_order,
                "idle_after": idle_after,
                "max_future": max_future,
                "advance_on_idle": advance_on_idle,
                "time_unit": time_unit,
            }
        )
        check_field(f"Topic {', '.join(topics)}: event_time", event_time, options.get("value_type"))
        topic = super().topic(*topics, **options)  # type: ignore[misc] # Faust's, beside this class
        topic.event_time = how
        return topic


def _headers(given: Any) -> Headers:
    if not given:
        return ()
    pairs = given.items() if isinstance(given, Mapping) else given
    return tuple((name, text.encode() if isinstance(text, str) else text) for name, text in pairs)
