"""Keeps several worker processes running: starts again what dies, ends all of them together.

It never looks into them. A worker hears of the supervisor's own death by the end of a pipe, so that
none of them outlives it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

#: Exit status of a mistake that a restart would only repeat: wrong settings, a missing module.
_USAGE = 2
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a worker is started again, and when not any more; in seconds.

    The pause doubles from the first to the longest one. A worker that dies younger than ``young_s``
    for the ``tries``-th time in a row would do so for ever. ``stop_s`` is longer than a worker
    needs to end its events (10 s), commit and hand its partitions over.
    """

    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    young_s: float = 10.0
    tries: int = 5
    stop_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again after a pause; ``deaths`` counts the young ones in a row."""

    pause_s: float
    deaths: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End all of them, with this exit status."""

    reason: str
    status: int


def after_death(limits: Limits, deaths: int, status: int, lived_s: float) -> Restart | GiveUp:
    """Decide what follows from the death of a worker.

    Args:
        limits: The bounds.
        deaths: How often in a row it had died young before.
        status: Exit status, negative: the signal that killed it.
        lived_s: How long it ran.
    """
    if status == _USAGE:
        return GiveUp("says that it cannot run like this", _USAGE)
    if lived_s >= limits.young_s:
        return Restart(limits.first_pause_s, 0)
    deaths += 1
    if deaths >= limits.tries:
        reason = f"ended {deaths} times, each within {limits.young_s:g} s of its start"
        return GiveUp(reason, 1)
    return Restart(min(limits.first_pause_s * 2 ** (deaths - 1), limits.longest_pause_s), deaths)


@dataclass(slots=True)
class _Slot:
    """A worker's place: its process, or the time at which it gets one."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    deaths: int = 0


@dataclass(slots=True)
class Supervisor:
    """Runs ``count`` workers until it is told to stop; ``start`` makes the process of a number."""

    count: int
    start: Callable[[int], subprocess.Popen[bytes]]
    limits: Limits = field(default_factory=Limits)
    _slots: list[_Slot] = field(default_factory=list)
    _stops: int = 0

    def run(self) -> int:
        """Return the exit status: 0 after SIGTERM or SIGINT if all workers have ended well."""
        with _signals(self._on_signal) as wait:
            self._slots = [_Slot(number) for number in range(1, self.count + 1)]
            given_up = None
            while not self._stops and given_up is None:
                wait(self._start_due())
                given_up = self._bury()
            if given_up is not None:
                _say(f"{given_up.reason}: giving up")
            is_clean = self._end(wait)
        if given_up is not None:
            return given_up.status
        return 0 if is_clean else 1

    def _on_signal(self, number: int) -> None:
        if number != signal.SIGCHLD:
            self._stops += 1

    def _start_due(self) -> float | None:
        """Start those whose pause is over; return the seconds until the next one is due."""
        now = time.monotonic()
        for slot in self._slots:
            if slot.process is None and slot.since <= now:
                slot.process, slot.since = self.start(slot.number), now
        waiting = [slot.since - now for slot in self._slots if slot.process is None]
        return min(waiting, default=None)

    def _bury(self) -> GiveUp | None:
        for slot in self._slots:
            if slot.process is None or (status := slot.process.poll()) is None:
                continue
            now = time.monotonic()
            who = f"Worker {slot.number} (pid {slot.process.pid}, {_ended(status)})"
            decision = after_death(self.limits, slot.deaths, status, now - slot.since)
            slot.process = None
            if isinstance(decision, GiveUp):
                return replace(decision, reason=f"{who} {decision.reason}")
            slot.deaths, slot.since = decision.deaths, now + decision.pause_s
            _say(f"{who}: started again in {decision.pause_s:g} s")
        return None

    def _end(self, wait: Callable[[float | None], None]) -> bool:
        """End all, by force if they do not or a second signal says so; tell if all ended well."""
        running = [slot.process for slot in self._slots if slot.process is not None]
        for process in running:
            process.terminate()
        stops, deadline = self._stops, time.monotonic() + self.limits.stop_s
        while any(process.poll() is None for process in running):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or self._stops > stops:
                break
            wait(left_s)
        for process in running:
            if process.poll() is None:
                _say(f"Worker of pid {process.pid} does not end: killed")
                process.kill()
        return all(process.wait() in {0, -signal.SIGTERM} for process in running)


def end_with(supervisor: int) -> None:
    """End this worker as SIGTERM does when the pipe of its supervisor ends.

    Args:
        supervisor: The descriptor of the pipe's reading end.
    """

    def watch() -> None:
        with contextlib.suppress(OSError):
            os.read(supervisor, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="streamapp-supervisor", daemon=True).start()


@contextlib.contextmanager
def _signals(handle: Callable[[int], None]) -> Iterator[Callable[[float | None], None]]:
    """Handle signals in the body; it gets what waits for the next one, or for some seconds."""
    inner, outer = socket.socketpair()
    with inner, outer, selectors.DefaultSelector() as selector:
        inner.settimeout(0)
        outer.settimeout(0)
        selector.register(inner, selectors.EVENT_READ)
        before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        descriptor = signal.set_wakeup_fd(outer.fileno())

        def wait(seconds: float | None) -> None:
            selector.select(seconds)
            with contextlib.suppress(BlockingIOError):
                for number in inner.recv(4_096):
                    handle(number)

        try:
            yield wait
        finally:
            signal.set_wakeup_fd(descriptor)
            for number, handler in before.items():
                signal.signal(number, handler)


def _ended(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"status {status}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
