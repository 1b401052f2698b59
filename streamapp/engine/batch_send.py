"""Sending many records at once: what ``topic.send_batch`` does, inside of an event and outside."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

from streamapp.core.batch import TP, out_records
from streamapp.core.columns import listed
from streamapp.engine.batch import Batch
from streamapp.errors import UsageError
from streamapp.state.scope import current_scope

if TYPE_CHECKING:
    from streamapp.engine.topic import Topic


async def send_batch(topic: Topic, batch: Batch | None, key: Any, value: Any) -> int:
    """Send a record for each row; see ``Topic.send_batch``."""
    keys, values = _column(batch, key, "keys"), _column(batch, value, "records")
    if len(keys) != len(values):
        msg = f"{len(keys)} keys cannot go with {len(values)} values"
        raise UsageError(msg, hint="Take both columns from the same batch")
    times = None if batch is None else batch.times_ms.tolist()
    if times is not None and len(times) != len(keys):
        msg = f"{len(keys)} records cannot have the times of a batch of {len(times)}"
        raise UsageError(msg, hint="Leave the batch out: send_batch(key=[...], value=[...])")
    scope = current_scope.get()
    if scope is None or (scope.partition < 0 and not scope.is_lost):
        await _send_now(topic, keys, values, times)
        return len(keys)
    name, partitions = topic.get_topic_name(), await topic.app.engine.partitions_for(topic)
    choose = topic.app.engine.choose_partition
    # Encoded before the first is added: a batch whose record cannot be sent sends nothing.
    raw_keys, data = topic.encode_many("key", keys), topic.encode_many("value", values)
    stamps = repeat(scope.source.timestamp_ms) if times is None else times
    tps = [TP(name, choose(name, raw, partitions)) for raw in raw_keys]
    records = out_records(tps, raw_keys, data, stamps)
    topic.app.engine.topics.check(records)
    scope.outputs += records
    return len(keys)


async def _send_now(
    topic: Topic, keys: Sequence[Any], values: Sequence[Any], times: Sequence[int] | None
) -> None:
    """Send outside of an event, and wait until all records are on disk."""
    stamps = repeat(None) if times is None else (time / 1_000 for time in times)
    sent = [
        await topic.send(key=key, value=value, timestamp=stamp)
        for key, value, stamp in zip(keys, values, stamps, strict=False)
    ]
    await asyncio.gather(*sent)


def _column(batch: Batch | None, given: Any, default: str) -> Sequence[Any]:
    """Return what an argument names: a field, a column, or by default what the batch has."""
    if given is not None and not isinstance(given, str):
        return listed(given)
    if batch is None:
        msg = f"There is no batch to take {given or default} from"
        raise UsageError(msg, hint="Call send_batch(batch), or send_batch(key=[...], value=[...])")
    return listed(getattr(batch, default) if given is None else batch.column(given))
