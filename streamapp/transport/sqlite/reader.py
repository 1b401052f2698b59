"""Reading outside of any group."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamapp.core.batch import TP, RecordBatch
    from streamapp.transport.sqlite.bell import Bell
    from streamapp.transport.sqlite.cursor import Cursor


class SqliteReader:
    """A ``Reader`` over a cursor that sleeps on a bell."""

    def __init__(self, cursor: Cursor, bell: Bell) -> None:
        self._cursor = cursor
        self._bell = bell
        self._polling = threading.Lock()
        self._positions: dict[TP, int] = {}
        self.is_closed = False

    def assign(self, positions: Mapping[TP, int]) -> None:
        """See ``Reader.assign``.

        Raises:
            UnknownTopicError: A partition does not exist; the assignment stays as it was.
        """
        self._cursor.assign(positions)
        self._positions = dict(positions)
        self._bell.nudge()

    def positions(self) -> dict[TP, int]:
        """See ``Reader.positions``; every offset holds a record, or the one after it says so."""
        return dict(self._positions)

    def poll(self, timeout_s: float, max_records: int) -> list[RecordBatch]:
        """See ``Reader.poll``; empty at once when closed."""
        deadline = time.monotonic() + timeout_s
        with self._polling:
            while not self.is_closed:
                batches = self._cursor.fetch(max_records)
                self._positions.update((batch.tp, batch.next_offset) for batch in batches)
                left_s = deadline - time.monotonic()
                if batches or left_s <= 0 or self._bell.wait(left_s):
                    return batches
        return []

    def wake(self) -> None:
        """See ``Reader.wake``."""
        self._bell.wake()

    def close(self) -> None:
        """See ``Reader.close``; waits for a poll that is under way."""
        self.is_closed = True
        self._bell.wake()
        with self._polling:
            self._cursor.close()
            self._bell.close()
