"""Where agents wait between two events when the engine must hold them; never inside of an event."""

from __future__ import annotations

import asyncio
from typing import Final

#: Longest time, in seconds, that one event may run alone: an event that waits for another agent
#: would otherwise hold it for ever.
ALONE_FOR_S: Final = 5.0


class Gate:
    """Holds readers for reasons; open while there is none.

    ``closed`` is read after every event, so it is a plain attribute. A reader that the gate is
    closed for (``for_one``) passes: it runs alone.
    """

    __slots__ = ("_changed", "_one", "_reasons", "closed")

    def __init__(self) -> None:
        self.closed = False
        self._reasons: set[str] = set()
        self._one: object = None
        self._changed = asyncio.Event()

    def close(self, reason: str) -> None:
        """Hold all readers until ``open`` is called with the same reason."""
        self._reasons.add(reason)
        self.closed = True

    def open(self, reason: str) -> None:
        """Withdraw a reason; safe to repeat."""
        self._reasons.discard(reason)
        self._update()

    def close_for_one(self, reader: object) -> None:
        """Hold all readers but this one, for at most ``ALONE_FOR_S`` seconds."""
        if self._one is None:
            self._one = reader
            self.closed = True
            asyncio.get_running_loop().call_later(ALONE_FOR_S, self.open_for_all, reader)

    def open_for_all(self, reader: object) -> None:
        """End of ``close_for_one``; a no-op for any other reader."""
        if self._one is reader:
            self._one = None
            self._update()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why readers are held, for status pages."""
        return (*sorted(self._reasons), *(("an event runs alone",) if self._one else ()))

    async def wait(self, reader: object) -> None:
        """Return as soon as the reader may go on."""
        while self._reasons or (self._one is not None and self._one is not reader):
            self._changed.clear()
            await self._changed.wait()

    def _update(self) -> None:
        self.closed = bool(self._reasons) or self._one is not None
        self._changed.set()
