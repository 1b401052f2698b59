"""Records that wait for the commit which makes them, their offsets and their tables one step."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from streamapp.errors import StreamappError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamapp.core.batch import OutRecord


#: Records that leave together at most, where they need not wait for a commit. Others of the same
#: turn of the loop join them: each call into the client costs more than a record in it.
_TOGETHER = 100


class Outbox:
    """Outputs of finished events, in the order in which the events finished."""

    __slots__ = ("_leaving", "_records", "_unsent", "send", "wanted")

    def __init__(self) -> None:
        self._records: list[OutRecord] = []
        #: Of this turn of the loop, while there is ``send``.
        self._unsent: list[OutRecord] = []
        self._leaving: asyncio.Handle | None = None
        #: Sends at once what need not wait for a commit, and returns the rest.
        self.send: Callable[[Sequence[OutRecord]], Sequence[OutRecord]] | None = None
        #: Set while records wait: the committer need not wait for the end of its interval.
        self.wanted = asyncio.Event()

    def add(self, records: Sequence[OutRecord]) -> None:
        """Put the outputs of a finished event, if it has any."""
        if not records:
            return
        if self.send is None:
            self._records += records
            self.wanted.set()
            return
        self._unsent += records
        if len(self._unsent) >= _TOGETHER:
            self._leave_if_possible()
        elif self._leaving is None:
            self._leaving = asyncio.get_running_loop().call_soon(self._leave_soon)

    def _leave_soon(self) -> None:
        self._leaving = None
        self._leave_if_possible()

    def _leave_if_possible(self) -> None:
        # The events are finished: whoever makes the cut is told, and knows what to do.
        with suppress(StreamappError):
            self._leave()

    def _leave(self) -> None:
        """Send what was put, in its order, and keep what waits for the commit."""
        if not self._unsent:
            return
        rest = self._unsent if self.send is None else self.send(self._unsent)
        self._unsent = []
        if rest:
            self._records += rest
            self.wanted.set()

    def take(self) -> list[OutRecord]:
        """Send what need not wait, and take all that waits.

        Raises:
            StreamappError: There is no way to send.
        """
        self._leave()
        records, self._records = self._records, []
        self.wanted.clear()
        return records

    def drop(self) -> None:
        """Forget all that waits."""
        self._unsent, self._records = [], []
        self.wanted.clear()

    def __len__(self) -> int:
        """Return how many records wait."""
        return len(self._unsent) + len(self._records)
