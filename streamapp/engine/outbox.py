"""Records that wait for the commit which makes them, their offsets and their tables one step."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamapp.core.batch import OutRecord


class Outbox:
    """Outputs of finished events, in the order in which the events finished."""

    __slots__ = ("_records", "send", "wanted")

    def __init__(self) -> None:
        self._records: list[OutRecord] = []
        #: Sends at once what need not wait for a commit, and returns the rest.
        self.send: Callable[[Sequence[OutRecord]], Sequence[OutRecord]] | None = None
        #: Set while records wait: the committer need not wait for the end of its interval.
        self.wanted = asyncio.Event()

    def add(self, records: Sequence[OutRecord]) -> None:
        """Put the outputs of a finished event, if it has any."""
        if records and self.send is not None:
            records = self.send(records)
        if records:
            self._records.extend(records)
            self.wanted.set()

    def take(self) -> list[OutRecord]:
        """Take all that waits."""
        records, self._records = self._records, []
        self.wanted.clear()
        return records

    def __len__(self) -> int:
        """Return how many records wait."""
        return len(self._records)
