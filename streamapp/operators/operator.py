"""What a pipeline asks of an operator: rows in, rows out, work at a watermark, state as bytes.

An operator belongs to one partition of one pipeline and is called by one task, never in the middle
of an await. The contract that makes results independent of where a batch was cut:

- before a row is processed whose mark has reached ``next_due_ms``, the caller calls ``advance``
  with that mark, again and again until ``next_due_ms`` is beyond it: what falls due at once may
  come in pieces, and nothing else is asked for between two of them;
- ``dues`` tells how far ``process`` may go before the caller has to look again (an operator that
  ``advances_itself`` does without);
- ``process`` judges lateness row by row against ``Rows.marks``;
- state that was drained is found again through ``StateView``, so an operator may forget it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from streamapp.core.rows import NO_ROWS, Rows
from streamapp.core.times import FOREVER_MS, NEVER_MS


class StateView(Protocol):
    """The operator's rows as of its last ``drain``: an ordered map of bytes."""

    def get(self, key: bytes) -> bytes | None:
        """Return the row, or ``None``."""

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over ``(key, row)`` with keys in ``[start, end)``, in key order."""


class RowError(Exception):
    """A row of ``process`` cannot be used; rows of earlier origins have been processed.

    ``origin`` is ``Rows.origins`` of the row; no row of that origin, and none after it, has had an
    effect. ``brought`` is what ``process`` would have returned for the rows before. ``__cause__``
    is what happened.
    """

    def __init__(self, origin: int, brought: Rows = NO_ROWS) -> None:
        super().__init__(origin)
        self.origin = origin
        self.brought = brought


@dataclass(frozen=True, slots=True)
class Failed:
    """A result that could not be made: what it would have been of, and why."""

    key: Hashable
    time_ms: int
    of: object
    error: Exception


#: "late" with what became of the row (dropped, side, corrected, passed), or "dropped" with why.
SetAside = Literal["late", "dropped"]


class Operator:
    """A step with (or without) state; see the module for the order of the calls.

    ``next_due_ms`` is the least watermark at which ``advance`` has work to do because of what the
    state holds, also of rows that were only restored (maybe less, if it ``advances_itself``);
    ``late`` counts rows that came too late, by what became of them (``dropped``, ``side``,
    ``corrected``).
    """

    #: Whether the operator has state, and so a table of the application.
    has_state = True
    #: Whether ``process`` may bring something at once (not only ``advance``).
    is_immediate = True

    #: Whether what ``process`` brings may have other times than the rows that it comes from.
    shifts_times = False

    #: Whether the operator can do by itself what falls due between the rows of ``process``; it
    #: does so where ``advances_itself`` is set, and brings the results, with their marks, in order.
    can_advance_itself = False

    def __init__(self) -> None:
        self.advances_itself = False
        self.next_due_ms: int = FOREVER_MS
        self.late: Counter[str] = Counter()
        #: Results that a function of the application refused since ``take_failed``.
        self._failed: list[Failed] = []

    @property
    def set_aside(self) -> Counter[tuple[SetAside, str]]:
        """Rows that did not go on as usual since the operator was made: what, and why or where."""
        return Counter({("late", where): count for where, count in self.late.items()})

    def process(self, rows: Rows, side: int = 0) -> Rows:
        """Take rows in and return what can be said at once. ``side`` is the input of a join.

        Raises:
            RowError: A row cannot be used.
        """
        raise NotImplementedError

    def restore(self, watermark_ms: int) -> None:
        """Go on from a state that was kept, at this watermark; called before all else."""
        del watermark_ms

    def dues(self, rows: Rows, side: int = 0, last_ms: int = FOREVER_MS) -> Sequence[int] | None:
        """Return for each row the least watermark at which ``advance`` has work because of it.

        ``None`` when rows make no such work up to the watermark ``last_ms``. ``NEVER_MS`` for a row
        that makes work at once (it is late, but allowed, for a window that has fired).
        """
        del rows, side, last_ms
        return None

    def advance(self, watermark_ms: int) -> Rows:
        """Do what is due at this watermark, or a first part of it, and return what that brings.

        Results have marks of ``NEVER_MS`` (the caller sets them) and the time of their window's
        last instant; that of a session is its end. While more is due, ``next_due_ms`` is not
        beyond the watermark: call again. Safe to repeat: a watermark that was worked on has no more
        work.
        """
        del watermark_ms
        return NO_ROWS

    def due_by(self, watermark_ms: int) -> int:
        """Return about how many results ``advance`` would bring at this watermark, in pieces.

        Not less for a greater watermark. 0 from those that know no pieces.
        """
        del watermark_ms
        return 0

    def on_commit(self) -> Rows:
        """Return the updates of what has changed since the last call: one emission per commit."""
        return NO_ROWS

    def take_late(self) -> Rows:
        """Return the rows for the side output of late data since the last call."""
        return NO_ROWS

    def take_failed(self) -> Sequence[Failed]:
        """Return the results since the last call that could not be made; no row is to blame."""
        failed = [*self._failed]
        self._failed.clear()
        return failed

    def drain(self) -> Mapping[bytes, bytes | None]:
        """Return what changed in the state since the last call; ``None`` deletes a row.

        The caller makes it visible in the ``StateView`` before it calls anything else.
        """
        return {}

    def trim(self, rows: int) -> None:
        """Keep no more than about so many rows in memory; called after ``drain``."""
        del rows

    @property
    def size(self) -> int:
        """Number of rows of state in memory."""
        return 0

    @property
    def changed(self) -> int:
        """Number of rows that the next ``drain`` will bring, or an estimate."""
        return 0


#: What ``dues`` says of a row that makes work at once.
AT_ONCE = NEVER_MS
