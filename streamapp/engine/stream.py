"""Streams: what an agent iterates over. One await for a batch of records, none for a record.

A topic's stream unrolls batches in memory; any other source (a channel, a list) takes Faust's own
path. When the agent asks for the next event, the one before has succeeded; when it raises instead,
the event is undone and meets the agent's error policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from faust.exceptions import Skip
from mode.utils.futures import maybe_async

from streamapp.core.columned import listed
from streamapp.core.duration import to_ms
from streamapp.engine.batch import Batch, Schema, origin_of
from streamapp.engine.chunk_feed import ChunkFeed
from streamapp.engine.feed import Feed
from streamapp.engine.message import event_of, let_find
from streamapp.engine.regroup import forwarded, regrouped
from streamapp.engine.stream_forms import StreamForms
from streamapp.engine.topic import Topic
from streamapp.engine.window_feed import WindowFeed
from streamapp.engine.work import Chunk, Slot
from streamapp.errors import UsageError
from streamapp.serde.codecs import Bad
from streamapp.state.scope import current_scope

if TYPE_CHECKING:
    from streamapp.app import App

#: Longest run of events, in seconds, before other tasks of the worker get their turn.
_TURN_S = 0.01


class Stream(StreamForms):
    """A stream over a topic's records (or over anything else that Faust can stream over)."""

    app: App
    _current: Any = None
    _next: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.feed: Feed | None = None
        #: The task that iterates over the stream: of the agent, or a child of that.
        self.reader: asyncio.Task[Any] | None = None
        #: Whether anybody has begun to iterate.
        self.is_read = False
        self._slot: Slot | None = None
        self._again: Slot | None = None
        #: Whether filters and the like are those of an agent that has begun anew since.
        self._is_stale = False

    # --- iteration -------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Any]:
        if not isinstance(self.channel, Topic):
            return cast("AsyncIterator[Any]", self._py_aiter())
        if self._next is None:
            self._drop_stale()
        feed = self.subscribe()
        self.is_read = True
        events = self._singly(feed) if isinstance(feed, WindowFeed) else self._straight(feed)
        return self._processed(events) if self._processors else events

    async def events(self) -> AsyncIterator[Any]:
        """Iterate over events: ``event.value``, ``.key``, ``.headers``, ``.message``."""
        async for value in self:
            yield self._event(value)

    async def items(self) -> AsyncIterator[tuple[Any, Any]]:
        """Iterate over ``(key, value)``."""
        if not isinstance(self.channel, Topic):
            async for event in super().events():
                yield event.key, event.value
            return
        async for value in self:
            chunk, index = self._in_hand()
            yield self.channel.decode_key_of(chunk.batch, index), value

    async def take(self, max_: int, within: Any = 0) -> AsyncIterator[list[Any]]:
        """Iterate over lists of up to ``max_`` values of one partition.

        A list that is not full is handed out ``within`` seconds after its first value, or earlier
        when records of other partitions wait. The list succeeds or fails as one; when it fails for
        good, its records are tried one by one.
        """
        if not isinstance(self.channel, Topic):
            async for values in super().take(max_, to_ms(within) / 1_000):
                yield list(values)
            return
        async for values, _ in self._groups(max_, within):
            yield listed(values)

    async def take_events(self, max_: int, within: Any = 0) -> AsyncIterator[list[Any]]:
        """Like ``take``, with events instead of values."""
        if not isinstance(self.channel, Topic):
            async for events in super().take_events(max_, to_ms(within) / 1_000):
                yield list(events)
            return
        async for values, places in self._groups(max_, within):
            chunk, index = self._in_hand()
            yield [
                self._event(value, chunk, index + i)
                for value, i in zip(values, places, strict=True)
            ]

    async def batches(self, max_rows: int = 20_000, within: Any = 0) -> AsyncIterator[Batch]:
        """Iterate over batches of up to ``max_rows`` records of one partition, as columns.

        A batch takes effect as one, like a list of ``take``. If it fails it is undone and handed
        out in halves, down to the records that fail alone: only these meet the error policy.

        Args:
            max_rows: Most records of a batch; under load batches are as large as that.
            within: How long to wait for a batch to be full, from its first record on. By default
                it has what is there.

        Raises:
            UsageError: The stream is not over a topic, or ``max_rows`` is below 1.
        """
        if not isinstance(self.channel, Topic):
            msg = f"There are no batches of {self.channel}"
            raise UsageError(msg, hint="Give a topic to the agent")
        schema = Schema.of(self.channel)
        self.subscribe().halves = True
        async for values, places in self._groups(max_rows, within):
            chunk, first = self._in_hand()
            yield Batch(schema, origin_of(chunk, first, places), values)

    async def _groups(
        self, max_: int, within: Any
    ) -> AsyncIterator[tuple[Sequence[Any], Sequence[int]]]:
        """Iterate over groups of values, with the index of each in the records in hand."""
        if max_ < 1:
            msg = f"There are no lists of {max_} records"
            raise UsageError(msg, hint="Give the most records of a list, above zero")
        self._drop_stale()
        feed = self.subscribe()
        self.is_read = True
        patience_s = to_ms(within) / 1_000
        groups = (
            (slot.values async for slot in self._windowed(feed, max_, patience_s))
            if isinstance(feed, WindowFeed)
            else self._grouped(feed, max_, patience_s)
        )
        async for group in groups:
            if not self._processors:
                yield group, range(len(group))
                continue
            kept = [(value, i) for i, raw in enumerate(group) async for value in self._kept(raw)]
            if kept:
                yield [value for value, _ in kept], [i for _, i in kept]

    async def _kept(self, value: Any) -> AsyncIterator[Any]:
        """Iterate over what the stream's processors make of a value: one, or none if filtered."""
        try:
            for processor in self._processors:
                value = await maybe_async(processor(value))
        except Skip:
            return
        yield value

    async def _singly(self, feed: WindowFeed) -> AsyncIterator[Any]:
        async for slot in self._windowed(feed, 1):
            yield slot.value

    async def _straight(self, feed: ChunkFeed) -> AsyncIterator[Any]:  # noqa: C901 - the hot loop
        gate = feed.plan.gate
        self.finish_in_hand()
        while True:
            chunk = feed.chunk or await feed.begin()
            scope, values = feed.scope, listed(chunk.values)
            current_scope.set(scope)
            turn = perf_counter() + _TURN_S
            while chunk.at < chunk.end:
                at = chunk.at
                value = values[at]
                if value.__class__ is Bad:
                    await feed.fail(chunk, value.error)
                    continue
                chunk.given = at + 1
                yield value
                if chunk is not feed.chunk:
                    break
                if scope.outputs or scope.tracked:
                    if not feed.finish():
                        continue
                else:
                    # What scope.finish does, spelled out: this runs for every event.
                    if scope.undo_list:
                        scope.undo_list.clear()
                    scope.serial += 1
                chunk.at = at + 1
                if not at & 15 and perf_counter() > turn:
                    await asyncio.sleep(0)
                    turn = perf_counter() + _TURN_S
                if gate.closed:
                    await gate.wait(feed)
            if feed.end(chunk):
                await asyncio.sleep(0)

    async def _grouped(
        self, feed: ChunkFeed, most: int, patience_s: float
    ) -> AsyncIterator[Sequence[Any]]:
        self.finish_in_hand()
        while True:
            chunk = feed.chunk or await feed.begin()
            current_scope.set(feed.scope)
            while chunk.at < chunk.end:
                if (bad := chunk.bad) is not None:
                    await feed.fail(chunk, bad.error)
                    continue
                size = chunk.most(most)
                await feed.gather(chunk, size, patience_s)
                if chunk is not feed.chunk or chunk.at >= chunk.end:
                    break
                chunk.given = chunk.run(size)
                yield chunk.values[chunk.at : chunk.given]
                if chunk is not feed.chunk:
                    break
                if feed.finish():
                    chunk.at = chunk.given
                chunk.given = chunk.at
                await asyncio.sleep(0)
                if feed.plan.gate.closed:
                    await feed.plan.gate.wait(feed)
            feed.end(chunk)
            await asyncio.sleep(0)

    async def _windowed(
        self, feed: WindowFeed, most: int, patience_s: float = 0
    ) -> AsyncIterator[Slot]:
        self.finish_in_hand()
        turn = perf_counter() + _TURN_S
        while True:
            self._slot = None
            if perf_counter() > turn:
                await asyncio.sleep(0)
                turn = perf_counter() + _TURN_S
            slot = self._slot = self._again or await feed.begin(most, patience_s)
            self._again = None
            current_scope.set(slot.scope)
            bad = next((value for value in slot.values if value.__class__ is Bad), None)
            if bad is None:
                yield slot
                feed.finish(slot)
            else:
                await feed.fail(slot, bad.error)

    async def _processed(self, values: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for given in values:
            async for value in self._kept(given):
                yield value

    # --- the event in hand -----------------------------------------------------------------------

    async def fail(self, exc: Exception) -> bool:
        """Do with the event in hand what the policy says; ``False`` if there is none in hand."""
        feed = self.feed
        if isinstance(feed, ChunkFeed) and feed.chunk is not None and feed.chunk.is_held:
            await feed.fail(feed.chunk, exc)
            return True
        if isinstance(feed, WindowFeed) and self._slot is not None:
            slot, self._slot = self._slot, None
            if not slot.is_revoked and await feed.fail(slot, exc):
                self._again = slot
            return True
        return False

    def finish_in_hand(self) -> bool:
        """Let the event in hand take effect; ``False`` if it must be handed out again."""
        feed, slot = self.feed, self._slot
        if isinstance(feed, WindowFeed) and slot is not None:
            self._slot = None
            feed.finish(slot)
            return slot.is_finished or slot.is_revoked
        return feed.finish_left() if isinstance(feed, ChunkFeed) else True

    def reset_processors(self) -> None:
        """Let filters and the like be replaced: the agent begins anew and declares them again.

        Until it does, what is sent on to another topic still goes through those of before.
        """
        self._is_stale = True
        if self._next is not None:
            cast("Stream", self._next).reset_processors()

    def add_processor(self, processor: Any) -> None:
        """See Faust's ``Stream``."""
        self._drop_stale()
        super().add_processor(processor)

    def _drop_stale(self) -> None:
        if self._is_stale:
            self._is_stale = False
            self._processors.clear()

    def hand_back(self) -> None:
        """Leave the event in hand: it is undone, and handed out again if it is still ours."""
        if isinstance(self.feed, ChunkFeed):
            self.feed.hand_back()
        slot, self._slot, self._again = self._slot or self._again, None, None
        if isinstance(self.feed, WindowFeed) and slot is not None:
            self.feed.hand_back(slot)

    @property
    def has_headers(self) -> bool:
        """Whether the record in hand may have headers; cheaper than asking its event."""
        if not isinstance(self.channel, Topic):
            return True
        try:
            chunk, index = self._in_hand()
        except UsageError:
            return False
        headers = chunk.batch.headers
        return headers is not None and bool(headers[index])

    @property
    def current_event(self) -> Any:
        """The event in hand, or ``None``."""
        if not isinstance(self.channel, Topic):
            return self._current
        try:
            chunk, index = self._in_hand()
        except UsageError:
            return None
        return self._event(chunk.values[index], chunk, index)

    @current_event.setter
    def current_event(self, event: Any) -> None:
        self._current = event

    def _event(self, value: Any, chunk: Chunk | None = None, index: int = 0) -> Any:
        if not isinstance(self.channel, Topic):
            return self._current
        if chunk is None:
            chunk, index = self._in_hand()
        return event_of(self.channel, value, chunk, index)

    def _in_hand(self) -> tuple[Chunk, int]:
        if self._slot is not None:
            return self._slot.chunk, self._slot.start
        chunk = self.feed.chunk if isinstance(self.feed, ChunkFeed) else None
        if chunk is None or not chunk.is_held:
            msg = "No event is in hand"
            raise UsageError(msg, hint="Ask for it inside of `async for ... in stream`")
        return chunk, chunk.at

    def subscribe(self) -> Any:
        """Return the stream's feed; from now on its records wait for the running task."""
        if self.feed is None:
            self.feed = self.app.engine.subscribe(self)
        self.app.engine.subscriptions.note_reader(self, self.feed)
        let_find(lambda: self.current_event)
        return self.feed

    # --- derived streams -------------------------------------------------------------------------

    def group_by(
        self,
        key: Any,
        *,
        name: str | None = None,
        topic: Any = None,
        partitions: int | None = None,
    ) -> Stream:
        """Repartition by another key: a field of the value, or a function of the value.

        Records go through a topic of the application, in the commit of the event they come from,
        so that records of one key meet in one partition (and in one shard of each table).

        The new key is of the field's type; with a function it is of the source's key type, or of
        that of ``topic``.

        Args:
            key: ``Order.user``, a field's name, or a function ``value -> key``.
            name: Part of the topic's name; needed when ``key`` is a function.
            topic: Use this topic instead.
            partitions: Partitions of the new topic; by default as many as the source has.
        """
        return self._forward(*regrouped(self, key, name, topic, partitions))

    def through(self, channel: Any) -> Stream:
        """Send every value to a topic and go on with the topic's stream."""
        target = self.app.topic(channel) if isinstance(channel, str) else channel
        return self._forward(target, None)

    def _forward(self, target: Topic, choose: Callable[[Any], Any] | None) -> Stream:
        self._drop_stale()
        if self._next is None:
            self._next = forwarded(self, target, choose)
        return cast("Stream", self._next)
