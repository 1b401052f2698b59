"""The part of an application that declares durable timers; refuses what could not work."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from inspect import iscoroutinefunction, signature, unwrap
from typing import TYPE_CHECKING, Any

from streamapp.engine.policy import policy_of
from streamapp.engine.timers import Timers, TimerSpec
from streamapp.errors import ConfigError

if TYPE_CHECKING:
    from streamapp.state.table import Table


class DeclaresTimers:
    """Stands before Faust's ``App``; ``Table`` is the application's."""

    Table: Callable[..., Table]

    @cached_property
    def timers(self) -> dict[str, Timers]:
        """The durable timers by name."""
        return {}

    def on_timer(
        self,
        name: str,
        *,
        clock: Any = "event",
        on_error: Any = None,
        key_type: Any = Any,
        partitions: int | None = None,
    ) -> Callable[[Any], Timers]:
        """Declare durable timers and what happens when one is due.

        The decorated ``async def handler(timer)`` becomes ``Timers``, on which agents ``set`` and
        ``cancel``. It runs as an event of the partition in which the timer was set.

        Args:
            name: Their name, unique in the application; part of their changelog's name.
            clock: "event": due when the watermark of the partition reaches them; "processing": by
                the worker's clock; or a function that returns ms since 1970.
            on_error: As for agents; a coroutine function gets ``(timers, exc)``.
            key_type: Type of the keys; plain types need none.
            partitions: As many as the topics have from whose events timers are set.

        Raises:
            ConfigError: The name is taken, or an option is wrong.

        Example:
            >>> @app.on_timer("payment-due")
            ... async def due(timer):
            ...     await reminders.send(key=timer.key, value=timer.value)
            >>> @app.agent(orders)
            ... async def watch(stream):
            ...     async for order in stream:
            ...         due.set(order.id, after="15m", value=order.user)
        """
        on_failure = on_error if callable(on_error) else None
        policy = policy_of(None if callable(on_error) else on_error)
        clock_ms = _clock(name, clock)

        def declare(fun: Any) -> Timers:
            _check(name, fun)
            if name in self.timers:
                msg = f"There are two timers named {name!r}"
                raise ConfigError(msg, hint="Rename one: the rows that wait go by the name")
            about = f"Timers {name}: by key when they are due, by time and key their values"
            table = self.Table(f"{name}-timers", partitions=partitions, help=about)
            spec = TimerSpec(name, fun, policy, clock_ms, key_type, on_failure)
            timers = self.timers[name] = Timers(spec, table)
            return timers

        return declare


def wall_ms() -> int:
    """Return the time of the worker's clock, in ms since 1970."""
    return time.time_ns() // 1_000_000


def _clock(name: str, clock: object) -> Callable[[], int] | None:
    if clock == "event":
        return None
    if clock == "processing":
        return wall_ms
    if callable(clock):
        return clock
    msg = f"Timer {name}: clock={clock!r}"
    raise ConfigError(msg, hint='Use "event", "processing", or a function that returns ms')


def _check(name: str, handler: Any) -> None:
    if not callable(handler) or not iscoroutinefunction(unwrap(handler)):
        msg = f"The handler of timer {name} is no coroutine function"
        raise ConfigError(msg, hint="Write `async def handler(timer)`")
    try:
        signature(handler).bind(None)
    except TypeError:
        msg = f"The handler of timer {name} cannot be called with one argument, the timer"
        raise ConfigError(msg, hint="Write `async def handler(timer)`") from None
