"""The timers that are due next, in order: a bounded window over all that wait.

It is an index, never the truth: it may name timers that are gone (cancelled, moved, undone), and
whoever takes one looks it up. It never misses one below its ``horizon``. What waits at or above the
horizon is loaded when all below it is gone, so memory is bounded and looking costs nothing until
something is due.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, NamedTuple

from streamapp.core.times import NEVER_MS


class Due(NamedTuple):
    """A timer's place in the order: its time in ms since 1970, then its key as ordered bytes."""

    at_ms: int
    key: bytes


#: Before every timer: nothing is known of those behind it.
_BEGINNING: Final = Due(NEVER_MS, b"")


class DueIndex:
    """The waiting timers below ``horizon`` (``None``: all of them), at most ``2 * page``."""

    __slots__ = ("_page", "_places", "horizon")

    def __init__(self, page: int = 2_000) -> None:
        self.horizon: Due | None = _BEGINNING
        self._page = page
        self._places: list[Due] = []

    def __len__(self) -> int:
        """Return how many timers are indexed."""
        return len(self._places)

    def first(self) -> Due | None:
        """Return the first timer, or ``None`` if none is known below the horizon."""
        return self._places[0] if self._places else None

    def add(self, due: Due) -> None:
        """Note a timer that waits; safe to repeat. O(log n) comparisons and one move of memory."""
        if self.horizon is not None and due >= self.horizon:
            return
        at = bisect_left(self._places, due)
        if at < len(self._places) and self._places[at] == due:
            return
        self._places.insert(at, due)
        if len(self._places) > 2 * self._page:
            self.horizon = self._places[self._page]
            del self._places[self._page :]

    def discard(self, due: Due) -> None:
        """Forget a timer; safe to repeat."""
        at = bisect_left(self._places, due)
        if at < len(self._places) and self._places[at] == due:
            del self._places[at]

    def wants(self, now_ms: int) -> int:
        """Return how many timers from the horizon on must be loaded before ``first`` is right.

        0 if none: timers below the horizon are left, or those behind it are not due at ``now_ms``.
        """
        if self._places or self.horizon is None or self.horizon.at_ms > now_ms:
            return 0
        return self._page + 1

    def load(self, places: Sequence[Due]) -> None:
        """Take what waits from the horizon on, in order: as many as ``wants`` said, or all."""
        self._places = list(places[: self._page])
        self.horizon = places[self._page] if len(places) > self._page else None
