"""Brings what the group member has to the event loop.

A thread polls all the time, because liveness in the group hangs on it; when the loop is behind, it
asks for events of the group only, so that records wait in the broker and not in memory.

Where the broker can ring the loop, the loop reads by itself what has just been written: a thread
would have to be woken, and to share the interpreter with the loop while it reads. What is more than
the loop should read in one go is the thread's, until that has caught up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from streamapp.core.batch import RecordBatch
from streamapp.errors import StreamappError
from streamapp.transport.at_once import RingsLoop

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
#: Seconds after which the loop looks without a ring: bounds the delay after one that was lost.
_LOOK_S = 0.1
#: Records of a look from which on the loop does not look for the next ring at once, but after so
#: many seconds, or so many times as long as that look took: that part of its time goes to reading.
_FEW, _BREATH_S, _BREATHS = 8, 0.002, 4
#: Records and bytes of one read from which on the next one is the thread's: the loop would be held
#: up by the disk and by decoding, for some milliseconds.
_MANY_RECORDS, _MANY_BYTES = 1_000, 1 << 20


class _Turn(Enum):
    """Who may read records: one follows the other, so that no batch overtakes another.

    The thread gives its turn away, the loop takes it when it has handled what the thread had read;
    the loop gives it back.
    """

    THREAD = auto()
    NOBODY = auto()
    LOOP = auto()


class Intake:
    """Polls ``member`` until ``stop``; calls ``deliver`` (and ``on_error``) on the event loop."""

    def __init__(
        self,
        member: Member,
        batch_max: int,
        deliver: Callable[[list[MemberEvent]], None],
        on_error: Callable[[Exception], None],
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begin; ``is_busy`` tells whether agents have yet to take up what was delivered."""
        self._member = member
        self._batch_max = batch_max
        self._deliver = deliver
        self._on_error = on_error
        self._is_busy = is_busy
        self._loop = asyncio.get_running_loop()
        self._on_the_way = 0
        self._guard = Lock()
        self._stopped = Event()
        self._hushed: asyncio.Future[None] | None = None
        self._is_hushed = False
        self._rings = member if isinstance(member, RingsLoop) else None
        self._bell = self._rings.hand_over() if self._rings is not None else None
        self._turn = _Turn.THREAD
        #: Records of the loop's last look, and its seconds.
        self._last_count, self._last_took_s = 0, 0.0
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
        self._loop.call_soon(self._look)

    def stop(self) -> None:
        """End the thread and wait for it. Blocks for one poll at most."""
        self._stopped.set()
        self._member.wake()
        self._thread.join()
        self._call(self._ignore_bell)

    # --- the loop --------------------------------------------------------------------------------

    def _on_ring(self) -> None:
        """Look at once, or a little later while records come fast or agents are behind.

        To read a few records for each ring takes longer than to work on them.
        """
        if self._last_count >= _FEW or self._is_busy():
            self._last_count = 0
            self._ignore_bell()
            pause_s = max(_BREATH_S, _BREATHS * self._last_took_s)
            self._loop.call_later(pause_s, self._after_breath)
        else:
            self._look()

    def _after_breath(self) -> None:
        self._heed_bell()
        self._look()

    def _look(self) -> None:
        """Deliver what there is, if the loop is the one who reads."""
        if self._rings is None or self._turn is not _Turn.LOOP or self._stopped.is_set():
            return
        begun = time.perf_counter()
        try:
            batches = self._rings.poll_nowait(0 if self._is_hushed else self._batch_max)
        except StreamappError:
            # The thread meets it too, says so, and tries again from time to time.
            self._leave_to_thread()
            return
        except Exception as exc:  # noqa: BLE001 - a bug of ours: the worker must not outlive it
            self._on_error(exc)
            return
        self._last_count = sum(map(len, batches))
        self._last_took_s = time.perf_counter() - begun
        if batches:
            self._hand_over([*batches])
            if _are_many(batches):
                self._leave_to_thread()

    def _leave_to_thread(self) -> None:
        self._ignore_bell()
        self._turn = _Turn.THREAD
        self._member.wake()

    def _take_over(self) -> None:
        self._turn = _Turn.LOOP
        self._heed_bell()
        # What was written until now has rung for nobody.
        self._look()

    def _heed_bell(self) -> None:
        is_ours = self._turn is _Turn.LOOP and not self._stopped.is_set()
        if self._bell is not None and is_ours:
            self._loop.add_reader(self._bell, self._on_ring)

    def _ignore_bell(self) -> None:
        if self._bell is not None:
            self._loop.remove_reader(self._bell)

    def _handle(self, events: list[MemberEvent]) -> None:
        try:
            self._hand_over(events)
        finally:
            with self._guard:
                was_behind = self._on_the_way >= _AHEAD
                self._on_the_way -= 1
            if was_behind:
                self._member.wake()

    def _hand_over(self, events: list[MemberEvent]) -> None:
        try:
            self._deliver(events)
        except Exception as exc:  # noqa: BLE001 - the records would be missing without a word
            self._on_error(exc)

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped.is_set():
            hushed, self._hushed = self._hushed, None
            if hushed is not None:
                # In the loop's order this comes after all that was handed over before.
                self._call(_resolve, hushed)
            is_behind = self._is_hushed or self._on_the_way >= _AHEAD
            is_reading = self._turn is _Turn.THREAD and not is_behind
            try:
                events = self._poll(is_behind=is_behind, is_reading=is_reading)
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
            if is_reading and self._bell is not None and not _are_many(events):
                self._turn = _Turn.NOBODY
                self._call(self._take_over)

    def _poll(self, *, is_behind: bool, is_reading: bool) -> list[MemberEvent]:
        if is_behind:
            return self._member.poll(_BUSY_POLL_S, 0)
        if is_reading:
            return self._member.poll(_POLL_S if self._bell is None else 0, self._batch_max)
        events = self._member.poll(_LOOK_S, 0)
        self._call(self._look)
        return events

    def _call(self, function: Callable[..., None], *args: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)


def _are_many(events: Sequence[MemberEvent]) -> bool:
    batches = [event for event in events if isinstance(event, RecordBatch)]
    return (
        sum(map(len, batches)) >= _MANY_RECORDS
        or sum(batch.size_bytes for batch in batches) >= _MANY_BYTES
    )


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
