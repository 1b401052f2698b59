"""What an event loop may do by itself with a member of some brokers, instead of waking a thread.

Both are for little at a time: whoever calls them looks to it that it is little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from streamapp.core.batch import TP, OutRecord, RecordBatch
from streamapp.transport.broker import Position


@runtime_checkable
class RingsLoop(Protocol):
    """A ``Member`` that lets an event loop read, sooner than a thread could be woken for it."""

    def hand_over(self) -> int | None:
        """Return a file that is readable when there may be records, or there is none: ``None``.

        ``poll`` does not wait for records from now on, only for events of the group.
        """

    def poll_nowait(self, max_records: int) -> list[RecordBatch]:
        """Return what records there are; the file is readable if there are more, else no more.

        It waits for nobody, but may read from the disk: what is much is better left to ``poll``.
        Called on the event loop.
        """


@runtime_checkable
class CommitsAtOnce(Protocol):
    """A ``Member`` whose small commits are done sooner than a thread is woken for them."""

    def commit_at_once(
        self, records: Sequence[OutRecord], positions: Mapping[TP, Position]
    ) -> list[int] | None:
        """Commit like ``Member.commit``, or write nothing and return ``None``.

        It waits until what it writes is durable, and a millisecond for others at most. Called on
        the event loop.
        """
