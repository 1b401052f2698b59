"""Feeds without a broker: batches of integers, and a stream that unrolls them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import streamapp
from streamapp.core.batch import TP, RecordBatch
from streamapp.engine.chunk_feed import ChunkFeed
from streamapp.engine.feed import Feed, FeedPlan
from streamapp.engine.gate import Gate
from streamapp.engine.outbox import Outbox
from streamapp.engine.policy import ErrorPolicy
from streamapp.engine.rejects import FeedStats, Rejects
from streamapp.engine.stream import Stream
from streamapp.engine.window_feed import WindowFeed
from streamapp.errors import DecodeError
from streamapp.serde.codecs import Bad, Decoded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

#: A value that is not what the topic declares.
BAD = None
NEVER_MS = -(1 << 62)
P0, P1 = TP("in", 0), TP("in", 1)


def batch(  # noqa: PLR0913 - the columns of a batch
    first: int,
    values: Sequence[int | None],
    *,
    tp: TP = P0,
    offsets: Sequence[int] | None = None,
    times: Sequence[int] | None = None,
    next_offset: int | None = None,
) -> RecordBatch:
    """Return records at ``first`` and the offsets that follow, or at ``offsets``."""
    at = list(offsets or range(first, first + len(values)))
    return RecordBatch(
        tp,
        at,
        list(times or at),
        [b"k%d" % offset for offset in at],
        [b"bad" if value is BAD else b"%d" % value for value in values],
        None,
        at[-1] + 1 if next_offset is None else next_offset,
        10 * len(values),
    )


def _decode(records: RecordBatch) -> Decoded:
    found = [
        Bad(DecodeError("no number")) if value == b"bad" else int(value or b"0")
        for value in records.values
    ]
    return Decoded(found, has_bad=b"bad" in records.values)


def plan(policy: ErrorPolicy | None = None) -> FeedPlan:
    """Return the plan of a feed; ``on_room`` does nothing."""
    rejects = Rejects("agent", "dead", policy or ErrorPolicy(backoff_ms=0), FeedStats())
    return FeedPlan(
        "agent", ("in",), _decode, rejects, Gate(), Outbox(), lambda _: 2, lambda _tp: None
    )


def stream_of(feed: Feed) -> Stream:
    """Return a stream over the feed; its application never starts."""
    app = streamapp.App("feeds", broker=f"memory://{uuid4().hex}", store="memory://")
    stream: Stream = app.stream(app.topic("in"))
    stream.feed = feed
    return stream


def values_of(feed: Feed, stream: Stream | None = None) -> AsyncIterator[Any]:
    """Iterate as ``async for value in stream`` does, over a new stream if none is given."""
    stream = stream or stream_of(feed)
    if isinstance(feed, WindowFeed):
        return stream._singly(feed)
    assert isinstance(feed, ChunkFeed)
    return stream._straight(feed)


async def soon(iterator: AsyncIterator[Any]) -> Any:
    """Return the next value, which must come at once; its event is the running task's."""
    async with asyncio.timeout(5):
        return await anext(iterator)


async def is_waiting(iterator: AsyncIterator[Any]) -> bool:
    """Tell whether there is nothing to hand out: the iterator waits. Ends the iterator."""
    task = asyncio.ensure_future(anext(iterator))
    for _ in range(20):
        await asyncio.sleep(0)
    waits = not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return waits


def starts(feed: Feed, offsets: Iterable[tuple[TP, int]], time_ms: int = NEVER_MS) -> None:
    """Begin partitions."""
    for tp, offset in offsets:
        feed.start(tp, offset, time_ms)
