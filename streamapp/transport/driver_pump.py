"""The one thread that polls a reader or a member, and its bridge to the event loop.

It must never run the engine's code: it hands lists over and takes commands, both in order.
Because a command runs between two polls and its answer travels the way the events do, whatever
arrives after the answer to a ``seek`` was read from the new position.
"""

from __future__ import annotations

from collections import deque
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from streamapp.transport.broker import Member, MemberEvent, Reader

_T = TypeVar("_T")

#: Seconds: bounds how long a stop waits for a broker whose ``wake`` came to nothing.
_POLL_S = 0.5
#: Records: bounds the memory of one poll, and how long one partition holds up the others.
_POLL_RECORDS = 1_000


class Pump:
    """Polls one source from ``start`` to ``stop``; all methods are called on the event loop."""

    def __init__(
        self,
        source: Member | Reader,
        deliver: Callable[[Sequence[MemberEvent]], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """Call ``deliver`` with what each poll returned, or ``fail`` once, on the event loop."""
        self.source = source
        self._deliver = deliver
        self._fail = fail
        self._commands: deque[Callable[[], None]] = deque()
        self._is_stopping = False
        self._thread = Thread(target=self._run, name="streamapp-pump", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start polling; results arrive on ``loop``."""
        self._loop = loop
        self._thread.start()

    async def call(self, command: Callable[[], _T]) -> _T:
        """Run a command between two polls and return what it returns; not after ``stop``."""
        answer: asyncio.Future[_T] = self._loop.create_future()
        self.submit(lambda: self._answer(command, answer))
        return await answer

    def submit(self, command: Callable[[], None]) -> None:
        """Run a command between two polls, some time soon."""
        self._commands.append(command)
        self.source.wake()

    def _answer(self, command: Callable[[], _T], answer: asyncio.Future[_T]) -> None:
        try:
            result = command()
        except Exception as exc:  # noqa: BLE001 - whoever awaits the answer gets it
            self._loop.call_soon_threadsafe(_fail_future, answer, exc)
        else:
            self._loop.call_soon_threadsafe(_resolve_future, answer, result)

    def stop(self) -> None:
        """End the thread and wait for it; commands given before still run. Blocks."""
        self._is_stopping = True
        self.source.wake()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._run_commands()
                events = self.source.poll(_POLL_S, _POLL_RECORDS)
                if events:
                    self._loop.call_soon_threadsafe(self._deliver, events)
            self._run_commands()
        except Exception as exc:  # noqa: BLE001 - handed to the loop, which crashes the worker
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._fail, exc)

    def _run_commands(self) -> None:
        while self._commands:
            self._commands.popleft()()


def _resolve_future(future: asyncio.Future[_T], result: _T) -> None:
    if not future.done():
        future.set_result(result)


def _fail_future(future: asyncio.Future[_T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
