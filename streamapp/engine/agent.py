"""Agents: the user's coroutine, its instances and what becomes of its errors.

An agent is never down for an error of one event: it begins anew at once, over the same stream, with
the same event (retry) or the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, Any

import faust
from faust.agents.actor import AsyncIterableActor, AwaitableActor
from faust.agents.agent import _current_agent
from faust.types import AgentT, ChannelT
from mode.utils.futures import maybe_async

from streamapp.engine.policy import ErrorPolicy, policy_of
from streamapp.engine.rejects import AgentStoppedError
from streamapp.engine.subscriptions import fail_in_hand, goes_on, run_with_policy
from streamapp.engine.topic import Topic
from streamapp.errors import ConfigError, StateError
from streamapp.state.scope import current_scope

if TYPE_CHECKING:
    from streamapp.app import App
    from streamapp.engine.stream import Stream

log = logging.getLogger(__name__)

#: Seconds before an agent that fails outside of events begins anew: first and longest.
_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class Agent(faust.Agent):
    """An agent over a topic; over a channel or any other source it is Faust's own."""

    app: App

    def __init__(
        self, fun: Any, *, app: App, policy: ErrorPolicy | str | None = None, **kwargs: Any
    ) -> None:
        """Take Faust's arguments and an error policy.

        Raises:
            ConfigError: ``isolated_partitions``, which is not supported.
        """
        self.policy = policy_of(policy)
        self.condition = "created"
        self._instances: list[asyncio.Task[None]] = []
        if kwargs.get("isolated_partitions"):
            msg = f"Agent {getattr(fun, '__name__', fun)}: isolated_partitions is not supported"
            raise ConfigError(
                msg, hint="Use concurrency=n: order inside of a key is kept in tables"
            )
        kwargs["use_reply_headers"] = True
        super().__init__(fun, app=app, **kwargs)

    def add_error_handler(self, handler: Callable[[Any, Exception], Awaitable[None]]) -> None:
        """Call ``handler(agent, exc)`` at each failure, before the policy decides."""
        self._on_error = handler

    @property
    def is_ours(self) -> bool:
        """Whether the agent reads a topic through our engine."""
        return isinstance(self.channel, Topic)

    async def on_start(self) -> None:
        """Start the instances."""
        if not self.is_ours:
            await super().on_start()
            return
        self.app.engine.subscriptions.policies[self.name] = self.policy
        channel = None
        for index in range(self.concurrency):
            stream = self.stream(
                channel=channel, concurrency_index=index if self.concurrency > 1 else None
            )
            # All instances read one queue.
            channel = stream.channel
            task = asyncio.create_task(self._run(stream), name=f"agent-{self.name}-{index}")
            self.app.engine.watch(task)
            self._instances.append(task)
        self.condition = "running"

    async def on_stop(self) -> None:
        """Stop the instances at their next await; the event in hand has no effect."""
        if not self.is_ours:
            await super().on_stop()
            return
        for task in self._instances:
            task.cancel()
        await asyncio.gather(*self._instances, return_exceptions=True)

    def cancel(self) -> None:
        """Do nothing yet: the engine has drained the instances, ``on_stop`` ends them."""
        if not self.is_ours:
            super().cancel()

    async def ask(self, value: Any = None, *, reply_to: Any = None, **kwargs: Any) -> Any:
        """Send a value to the agent and wait for what it yields; see Faust's ``Agent.ask``."""
        topic = self._get_strtopic(reply_to or self.app.conf.reply_to)
        # Read before asking: an answer that comes at once would be missed.
        await self.app._reply_consumer.listen(topic)  # noqa: SLF001 - Faust's name for it
        return await super().ask(value, reply_to=topic, **kwargs)

    async def _barrier_send(self, barrier: Any, items: Any, reply_to: Any) -> AsyncIterator[str]:
        """Send the questions of ``map`` and ``join``; see Faust's."""
        await self.app._reply_consumer.listen(reply_to)  # noqa: SLF001 - see `ask`
        # Faust's takes a thousand answers that nobody has looked at, and `join` looks at the end.
        barrier._results = asyncio.Queue()  # noqa: SLF001 - no argument makes it larger
        async for correlation_id in super()._barrier_send(barrier, items, reply_to):
            yield correlation_id

    async def _run(self, stream: Stream) -> None:
        _current_agent.set(self)
        pause = _Pause(self.name)

        task = asyncio.current_task()
        engine = self.app.engine

        def streams() -> list[Stream]:
            return engine.subscriptions.streams_of(task)

        async def on_error(exc: Exception) -> None:
            await self._tell(exc)
            if isinstance(exc, StateError):
                await engine.on_state_error(exc)
            elif not await fail_in_hand(streams(), exc):
                await pause.after(exc)

        try:
            await run_with_policy(lambda: self._work_to_the_end(stream), streams, on_error)
        except AgentStoppedError as exc:
            self.condition = "failed"
            log.error("Agent %s stops, as its policy says: %s", self.name, exc.__cause__)  # noqa: TRY400
            engine.stop_feeds(task)
        else:
            self.condition = "completed"
            if not stream.is_read:
                log.warning(
                    "Agent %s has ended and read nothing: write `async for value in stream` in it",
                    self.name,
                )
            await engine.end_feeds(task)

    async def _tell(self, exc: Exception) -> None:
        """Tell the declared handler of a failure; what it sends does not share the event's fate."""
        if self._on_error is None:
            return
        token = current_scope.set(None)
        try:
            await self._on_error(self, exc)
        except Exception:
            log.exception("The error handler of agent %s failed", self.name)
        finally:
            current_scope.reset(token)

    async def _work_to_the_end(self, stream: Stream) -> None:
        """Work until the agent returns from an event that has read nothing that changed since."""
        is_done = False
        while not is_done:
            await self._work(stream)
            streams = self.app.engine.subscriptions.streams_of(asyncio.current_task())
            is_done = all(one.finish_in_hand() for one in streams if not goes_on(one))

    async def _work(self, stream: Stream) -> None:
        stream.reset_processors()
        # Before the agent's own code, which may wait, or fail: records would pass it by.
        stream.subscribe()
        result = self.fun(stream)
        if isinstance(result, AsyncIterable):
            actor = AsyncIterableActor(self, stream, result, loop=self.loop, beacon=self.beacon)
            ends = aclosing(result) if isinstance(result, AsyncGenerator) else nullcontext()
            # After a failure of a sink too: the agent must have let go before it begins anew.
            async with ends:
                await self._slurp(actor, aiter(actor))
        else:
            actor = AwaitableActor(self, stream, result, loop=self.loop, beacon=self.beacon)
            await actor

    async def _slurp(self, res: Any, it: AsyncIterator[Any]) -> None:
        """Send what the agent yields to its sinks and to whoever asked; see Faust's ``Agent``.

        Faust makes an event of each record to look for an asker, who is named in the headers.
        """
        stream: Any = None
        async for value in it:
            stream = stream or res.stream.get_active_stream()
            if stream.has_headers:
                await super()._slurp(res, _only(value))
            else:
                for sink in self._sinks:
                    if not (isinstance(sink, Topic) and sink.put_nowait(value)):
                        await _give(sink, value)


async def _give(sink: Any, value: Any) -> None:
    if isinstance(sink, AgentT | ChannelT):
        await sink.send(value=value)
    else:
        await maybe_async(sink(value))


async def _only(value: Any) -> AsyncIterator[Any]:
    yield value


class _Pause:
    """Growing pauses for an agent that fails without an event in hand."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seconds = _PAUSE_S

    async def after(self, exc: Exception) -> None:
        log.error(
            "Agent %s failed outside of an event and begins anew in %.1f s",
            self._name, self._seconds, exc_info=exc,
        )  # fmt: skip
        await asyncio.sleep(self._seconds)
        self._seconds = min(self._seconds * 2, _LONGEST_PAUSE_S)
