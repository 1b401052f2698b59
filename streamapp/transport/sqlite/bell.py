"""Doorbells: a commit wakes every waiting reader, in this process or in another.

A waiter binds a datagram socket in the folder ``bells``; whoever commits sends a datagram to each.
A ring may be lost (a full queue, a writer killed before ringing), so waiters also look at the file
from time to time; a ring only makes that sooner.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
import uuid
from pathlib import Path

#: Longest sleep with a bell: bounds the delay after a lost ring.
_RUNG_S = 0.1

#: Longest sleep without one (a folder that cannot hold sockets): bounds the latency of a record.
_POLL_S = 0.01

#: A change of the folder younger than this may hide another within the same tick of its clock.
_TICK_NS = 1_000_000_000


#: What a ring says: a waiter of records need not look for changes of its group at each of them.
RECORDS, CHANGES = b"", b"!"


class Bells:
    """Rings all bells of a folder; thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fd: int | None = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # A socket's address has 108 bytes; folders may have longer names.
        short = Path(f"/proc/self/fd/{self._fd}")
        self._base = short if short.exists() else folder
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        self._names: list[str] = []
        self._changed_ns = -1

    def address(self, name: str) -> str:
        """Return where the bell of that name is rung."""
        return f"{self._base}/{name}"

    def ring(self, why: bytes = CHANGES, but: Bell | None = None) -> None:
        """Wake all waiters; never blocks, never fails: those who miss it look by themselves.

        Args:
            why: ``RECORDS`` were written, or there are other ``CHANGES``.
            but: The bell of somebody whom this does not concern.
        """
        if self._fd is None:
            return
        changed_ns = os.fstat(self._fd).st_mtime_ns
        if changed_ns != self._changed_ns:
            is_old = time.time_ns() - changed_ns > _TICK_NS
            self._changed_ns = changed_ns if is_old else -1
            self._names = [path.name for path in self.folder.iterdir()]
        for name in self._names:
            if but is None or name != but.name:
                self.ring_one(name, why)

    def close(self) -> None:
        """Stop ringing; safe to repeat."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
            self._socket.close()

    def ring_one(self, name: str, why: bytes) -> None:
        """Wake one waiter, as ``ring`` does."""
        try:
            self._socket.sendto(why, self.address(name))
        except ConnectionRefusedError:
            # Its process was killed.
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._fd)
        except OSError:
            # Gone, or its queue is full and it was rung already.
            return


class Bell:
    """One waiter's bell. ``wait`` is called by one thread, ``nudge`` and ``wake`` by any."""

    def __init__(self, bells: Bells) -> None:
        name = self.name = uuid.uuid4().hex[:16]
        self._bells = bells
        self._is_handed_over = False
        self._path = bells.folder / name
        self._inner, self._outer = socket.socketpair()
        self._inner.settimeout(0)
        self._outer.settimeout(0)
        self._bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._bell.settimeout(0)
        self._poll = select.poll()
        self._poll.register(self._inner, select.POLLIN)
        self._is_bound = False
        self._is_woken = False
        with contextlib.suppress(OSError):
            self._bell.bind(bells.address(name))
            self._poll.register(self._bell, select.POLLIN)
            self._is_bound = True

    def wait(self, timeout_s: float) -> bool:
        """Sleep until a ring, ``wake``, the time-out or the bound of a nap.

        Returns:
            Whether ``wake`` was called since the last wait.
        """
        nap_s = max(0.0, min(timeout_s, _RUNG_S if self._is_bound else _POLL_S))
        ready = {fd for fd, _ in self._poll.poll(nap_s * 1_000)}
        for one in (self._bell, self._inner):
            if one.fileno() in ready:
                _drain(one)
        is_woken, self._is_woken = self._is_woken, False
        return is_woken

    def hand_over(self) -> int | None:
        """Return the file in which somebody else sees rings from now on; not during ``wait``.

        ``None``: there is none, and all stays as it is.
        """
        if not self._is_bound:
            return None
        self._poll.unregister(self._bell)
        self._is_handed_over = True
        return self._bell.fileno()

    def drain(self) -> bool:
        """Forget the rings until now; tell whether one of them was for ``CHANGES``."""
        return _drain(self._bell)

    def nudge(self) -> None:
        """Do to whoever waits what a ring does."""
        if self._is_handed_over:
            self._bells.ring_one(self.name, RECORDS)
        else:
            self.interrupt()

    def interrupt(self) -> None:
        """End the current ``wait``, or the next one."""
        with contextlib.suppress(OSError):
            self._outer.send(b"\0")

    def wake(self) -> None:
        """End the current wait, or the next one, and let it say so."""
        self._is_woken = True
        self.interrupt()

    def close(self) -> None:
        """Take the bell down; safe to repeat, not during ``wait``."""
        self._path.unlink(missing_ok=True)
        for one in (self._bell, self._inner, self._outer):
            one.close()


def _drain(one: socket.socket) -> bool:
    is_changed = False
    with contextlib.suppress(BlockingIOError):
        while True:
            is_changed |= one.recv(64) == CHANGES
    return is_changed
