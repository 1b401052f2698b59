"""Who reads what: the feeds of all agents, and the topics that this makes the worker read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from faust.agents.agent import current_agent

from streamapp.core.positions import Place, Progress, progress_of
from streamapp.engine.chunk_feed import ChunkFeed
from streamapp.engine.feed import Feed, FeedPlan
from streamapp.engine.policy import ErrorPolicy
from streamapp.engine.rejects import AgentStoppedError, FeedStats, Rejects
from streamapp.engine.window_feed import WindowFeed
from streamapp.state.scope import current_scope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamapp.core.batch import TP, RecordBatch
    from streamapp.core.limits import Limits
    from streamapp.engine.gate import Gate
    from streamapp.engine.outbox import Outbox
    from streamapp.engine.stream import Stream
    from streamapp.serde.codecs import Decoded

_F = TypeVar("_F", bound=Feed)

#: The task whose work begins anew after an interruption; its children do not.
_supervised: ContextVar[asyncio.Task[Any] | None] = ContextVar("supervised", default=None)


class Subscriptions:
    """The feeds, by agent and topics. Used on the event loop only."""

    def __init__(
        self, gate: Gate, outbox: Outbox, dead_letters: str, on_room: Callable[[TP], None]
    ) -> None:
        self.policies: dict[str, ErrorPolicy] = {}
        self.counts: Mapping[str, int] = {}
        #: What topics take.
        self.limits: Mapping[str, Limits] = {}
        #: Partitions whose records wait in the broker: their buffers are full.
        self.paused: set[TP] = set()
        self.on_change: Callable[[], None] = lambda: None
        #: Called with a task outside of agents that has read streams, and has ended.
        self.on_reader_done: Callable[[asyncio.Task[Any]], None] = lambda _: None
        self._feeds: dict[tuple[str, tuple[str, ...]], Feed] = {}
        #: Feeds of agents that have returned: only their positions count.
        self.ended: list[Feed] = []
        self._streams: WeakKeyDictionary[asyncio.Task[Any], list[Stream]] = WeakKeyDictionary()
        self._numbers = count(1)
        self._gate = gate
        self._outbox = outbox
        self._dead_letters = dead_letters
        self._on_room = on_room

    def feed_of(self, stream: Stream) -> Feed:
        """Return the feed of a stream, made at its first use.

        Instances of one agent share one feed for each topic. A stream outside of agents has one of
        its own.
        """
        channel: Any = stream.channel
        agent = current_agent()
        name = stream.prefix or (agent.name if agent is not None else "")
        name = name or f"stream-{channel}-{next(self._numbers)}"
        key = (name, tuple(channel.topics))
        feed = self._feeds.get(key)
        if feed is None:
            policy = self.policies.get(name, ErrorPolicy())
            is_chunk = stream.concurrency_index is None
            plan = FeedPlan(
                name,
                key[1],
                channel.batch_decoder() if is_chunk else channel.decode_batch,
                Rejects(name, self._dead_letters, policy, FeedStats(), self.limits),
                self._gate,
                self._outbox,
                self._partitions_of,
                self._on_room,
                channel.event_time,
                self.paused,
            )
            feed = self._feeds[key] = (ChunkFeed if is_chunk else WindowFeed)(plan)
            self.on_change()
        return feed

    def add(
        self,
        name: str,
        topics: tuple[str, ...],
        decode: Callable[[RecordBatch], Decoded],
        policy: ErrorPolicy,
        make: Callable[[FeedPlan], _F],
    ) -> _F:
        """Add a feed that belongs to no stream; see ``FeedPlan`` for the arguments."""
        feed = make(
            FeedPlan(
                name,
                topics,
                decode,
                Rejects(name, self._dead_letters, policy, FeedStats(), self.limits),
                self._gate,
                self._outbox,
                self._partitions_of,
                self._on_room,
                paused=self.paused,
            )
        )
        self._feeds[name, topics] = feed
        return feed

    def streams_of(self, task: asyncio.Task[Any] | None) -> list[Stream]:
        """Return the streams that a task and its children iterate over, the latest last."""
        return list(self._streams.get(task, ())) if task is not None else []

    def note_reader(self, stream: Stream, feed: Feed) -> None:
        """Note that the running task begins to iterate over a stream."""
        task = stream.reader = asyncio.current_task()
        if task is None:
            return
        agent = _supervised.get()
        others = [other for other in self.streams_of(agent or task) if other is not stream]
        if agent is None and task not in self._streams:
            task.add_done_callback(self._on_reader_done)
        self._streams[agent or task] = [*others, stream]
        if agent is not None and agent not in feed.agents:
            feed.agents.add(agent)
            agent.add_done_callback(feed.agents.discard)
        if agent is task and task not in feed.tasks:
            feed.tasks.add(task)
            task.add_done_callback(feed.tasks.discard)

    def _on_reader_done(self, task: asyncio.Task[Any]) -> None:
        self.on_reader_done(task)

    @property
    def topics(self) -> set[str]:
        """Names of all topics that are read."""
        return {topic for feed in self._feeds.values() for topic in feed.plan.topics}

    def readers(self, topic: str, *, also_ended: bool = False) -> list[Feed]:
        """Return the feeds of a topic, also those of agents that have returned if asked to."""
        feeds = [*self._feeds.values(), *(self.ended if also_ended else ())]
        return [feed for feed in feeds if topic in feed.plan.topics]

    def progress(self, tp: TP) -> Progress | None:
        """Return how far the agents are in a partition; ``None`` if nobody reads it."""
        agents: dict[str, Place] = {}
        for feed in self.readers(tp.topic):
            if feed.owns(tp):
                place = feed.place(tp)
                known = agents.setdefault(feed.name, place)
                # One agent may read a topic twice (alone, and with others): its slower stream
                # counts.
                if place.offset < known.offset:
                    agents[feed.name] = place
        if not agents:
            return None
        slowest = min(place.offset for place in agents.values())
        for feed in self.ended:
            # An agent that has returned waits for nobody, and does not read again what it has read.
            if feed.owns(tp) and feed.position(tp) > slowest:
                agents.setdefault(feed.name, feed.place(tp))
        return progress_of(agents)

    def __iter__(self) -> Iterator[Feed]:
        """Iterate over all feeds."""
        return iter(tuple(self._feeds.values()))

    def discard(self, feed: Feed) -> None:
        """Take a feed away whose agent has ended for good: it holds no position back any more."""
        self.forget(feed)
        self.ended.append(feed)

    def forget(self, feed: Feed) -> None:
        """Take a feed away whose position nobody will ask for."""
        self._feeds = {key: value for key, value in self._feeds.items() if value is not feed}

    def _partitions_of(self, topic: str) -> int:
        return self.counts[topic]


async def run_with_policy(
    make: Callable[[], Awaitable[None]],
    streams: Callable[[], list[Stream]],
    on_error: Callable[[Exception], Awaitable[None]],
) -> None:
    """Run ``make()`` again and again until it returns: an exception is the event's.

    Args:
        make: Begins the work anew.
        streams: The streams that the work iterates over.
        on_error: Deals with an exception; what it raises ends the run.
    """
    _supervised.set(asyncio.current_task())
    while True:
        try:
            if await _is_done(make, on_error):
                return
        except asyncio.CancelledError:  # also of `on_error`, which may pause
            if not _begin_anew(streams()):
                raise


async def _is_done(
    make: Callable[[], Awaitable[None]], on_error: Callable[[Exception], Awaitable[None]]
) -> bool:
    # What the work does before it asks for its first event belongs to none.
    current_scope.set(None)
    try:
        await make()
    except AgentStoppedError:
        raise
    except asyncio.CancelledError as exc:
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        # Nobody has cancelled this task: what the event has waited for was.
        msg = "Something that the event waited for was cancelled"
        await on_error(RuntimeError(msg).with_traceback(exc.__traceback__))
        return False
    except Exception as exc:  # noqa: BLE001 - judged there: the record's, the state's, the program's
        await on_error(exc)
        return False
    return True


def _begin_anew(streams: list[Stream]) -> bool:
    """Tell whether a cancellation only means that partitions were taken away; clears up if so."""
    task = asyncio.current_task()
    if task is None:
        return False
    # All of them are asked: the question also withdraws the cancellation.
    asked = [stream.feed.was_interrupted(task) for stream in streams if stream.feed is not None]
    if not any(asked) or task.cancelling():
        return False
    for stream in streams:
        if not goes_on(stream):
            stream.hand_back()
    return True


async def fail_in_hand(streams: list[Stream], exc: Exception) -> bool:
    """Let the event in hand of a stream meet its policy: of whose reader has failed, or the latest.

    Events of other streams that the work has in hand are undone and handed out again, unless a
    child task still works on them.
    """
    has_failed = False
    latest_first = [*reversed(streams)]
    for stream in sorted(latest_first, key=lambda stream: _own_error(stream) is None):
        if goes_on(stream):
            continue
        if has_failed or (stream.reader is not None and stream.reader.cancelled()):
            stream.hand_back()
        else:
            has_failed = await stream.fail(_own_error(stream) or exc)
    return has_failed


def goes_on(stream: Stream) -> bool:
    """Tell whether a child of the running task reads the stream, and has not ended."""
    reader = stream.reader
    return reader is not None and reader is not asyncio.current_task() and not reader.done()


def _own_error(stream: Stream) -> Exception | None:
    """Return what has ended the child task that read the stream."""
    reader = stream.reader
    if reader is None or not reader.done() or reader.cancelled():
        return None
    error = reader.exception()
    return error if isinstance(error, Exception) else None
