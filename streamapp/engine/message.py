"""A record as an event of Faust's, and as the message in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import faust
from faust import streams
from faust.events import USE_EXISTING_KEY, USE_EXISTING_VALUE
from faust.types.tuples import ConsumerMessage

from streamapp.engine.topic import Topic

if TYPE_CHECKING:
    from streamapp.core.batch import RecordBatch
    from streamapp.engine.work import Chunk


class Event(faust.Event):
    """An event whose record can be sent on as it is, also to a topic that declares types."""

    async def forward(
        self,
        channel: Any,
        key: Any = USE_EXISTING_KEY,
        value: Any = USE_EXISTING_VALUE,
        *args: Any,
        **options: Any,
    ) -> Any:
        """Send the bytes of the record on; what is given instead is encoded. See Faust's."""
        if isinstance(channel, Topic):
            if key is not USE_EXISTING_KEY:
                key = channel.encode("key", key, options.pop("key_serializer", None))
            if value is not USE_EXISTING_VALUE:
                value = channel.encode("value", value, options.pop("value_serializer", None))
            channel = channel.of_bytes
        return await super().forward(channel, key, value, *args, **options)


def message_of(batch: RecordBatch, index: int) -> ConsumerMessage:
    """Return the message of a record of a batch."""
    key, value = batch.keys[index], batch.values[index]
    return ConsumerMessage(
        batch.tp.topic,
        batch.tp.partition,
        batch.offsets[index],
        batch.timestamps[index] / 1_000,
        0,
        dict(batch.headers[index]) if batch.headers is not None else {},
        key,
        value,
        None,
        len(key) if key is not None else 0,
        len(value) if value is not None else 0,
        faust.types.TP(*batch.tp),
        generation_id=0,
    )


def event_of(topic: Topic, value: Any, chunk: Chunk, index: int) -> Any:
    """Return the event of a record, with this value."""
    batch = chunk.batch
    key = topic.decode_key_of(batch, index)
    headers = dict(batch.headers[index]) if batch.headers is not None else {}
    event = topic.app.create_event(key, value, headers, message_of(batch, index))
    event.event_time_ms = chunk.times[index]
    return event


def let_find(find: Callable[[], Any]) -> None:
    """Let ``faust.current_event()`` of the running task ask this function."""
    # Faust keeps a weak reference there, and calls it.
    streams._current_event.set(find)  # noqa: SLF001 - it has no other way
