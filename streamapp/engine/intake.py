"""The thread that polls the group member and hands what comes to the event loop.

It polls all the time, because liveness in the group hangs on it; when the loop is behind, it asks
for events of the group only, so that records wait in the broker and not in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from streamapp.errors import StreamappError

if TYPE_CHECKING:
    from streamapp.transport.broker import Member, MemberEvent

#: Lists of events that may be on their way to the loop: one being handled, one ready.
_AHEAD = 2
_POLL_S = 0.5
#: Seconds of a poll while the loop is behind: how late the thread sees that records are wanted
#: again after ``listen``. When the loop has caught up it wakes the thread.
_BUSY_POLL_S = 0.005
#: Seconds between two polls of a broker that fails.
_PAUSE_S = 0.5


class Intake:
    """Polls ``member`` until ``stop``; calls ``deliver`` (and ``on_error``) on the event loop."""

    def __init__(
        self,
        member: Member,
        batch_max: int,
        deliver: Callable[[list[MemberEvent]], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._member = member
        self._batch_max = batch_max
        self._deliver = deliver
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._on_the_way = 0
        self._guard = Lock()
        self._stopped = Event()
        self._hushed: asyncio.Future[None] | None = None
        self._is_hushed = False
        self._thread = Thread(target=self._run, name="streamapp-intake", daemon=True)
        self._thread.start()

    async def hush(self) -> None:
        """Bring no records from now on; returns when those on their way have been delivered."""
        hushed = self._hushed = self._loop.create_future()
        self._is_hushed = True
        self._member.wake()
        await hushed

    def listen(self) -> None:
        """Bring records again; after ``member.seek``."""
        self._is_hushed = False

    def stop(self) -> None:
        """End the thread and wait for it. Blocks for one poll at most."""
        self._stopped.set()
        self._member.wake()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            hushed, self._hushed = self._hushed, None
            if hushed is not None:
                # In the loop's order this comes after all that was handed over before.
                self._call(_resolve, hushed)
            is_behind = self._is_hushed or self._on_the_way >= _AHEAD
            try:
                events = (
                    self._member.poll(_BUSY_POLL_S, 0)
                    if is_behind
                    else self._member.poll(_POLL_S, self._batch_max)
                )
            except StreamappError as exc:
                self._call(self._on_error, exc)
                self._stopped.wait(_PAUSE_S)
                continue
            except Exception as exc:  # noqa: BLE001 - a bug of ours: the worker must not outlive it
                self._call(self._on_error, exc)
                return
            if events:
                with self._guard:
                    self._on_the_way += 1
                self._call(self._handle, events)

    def _handle(self, events: list[MemberEvent]) -> None:
        try:
            self._deliver(events)
        except Exception as exc:  # noqa: BLE001 - the records would be missing without a word
            self._on_error(exc)
        finally:
            with self._guard:
                was_behind = self._on_the_way >= _AHEAD
                self._on_the_way -= 1
            if was_behind:
                self._member.wake()

    def _call(self, function: Callable[..., None], *args: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
