"""The sessions of a key in memory."""

from __future__ import annotations

from collections.abc import Hashable
from enum import IntEnum

from streamapp.core.aggregates import Acc
from streamapp.core.times import FOREVER_MS
from streamapp.operators.keyed_state import Held


class Stage(IntEnum):
    """Where a session stands. The numbers are part of the state's format."""

    OPEN = 0
    CLOSED = 1
    REOPENED = 2


class OneSession:
    """A session in memory. ``[first, last]`` are event times, both included.

    ``shown`` holds the rows that consumers have and that are void: ``(first, last, packed acc)``.
    ``is_current``: consumers have it as it is. ``is_calm``: it has not changed since it was last
    stored or emitted. ``tick_ms`` is the watermark of its next periodic update.
    """

    __slots__ = ("acc", "first", "is_calm", "is_current", "last", "shown", "stage", "tick_ms")

    def __init__(self, first: int, last: int, acc: Acc) -> None:
        self.first = first
        self.last = last
        self.acc = acc
        self.stage = Stage.OPEN
        self.tick_ms = FOREVER_MS
        self.is_current = False
        self.is_calm = False
        self.shown: tuple[tuple[int, int, list[object]], ...] = ()


class Sessions(Held):
    """The sessions of a key in the order of time; ``only`` is the one, if there is just one."""

    __slots__ = ("only", "sessions")

    def __init__(self, key: Hashable) -> None:
        super().__init__(key)
        self.sessions: list[OneSession] = []
        self.only: OneSession | None = None

    def put(self, sessions: list[OneSession]) -> None:
        """Replace the sessions."""
        self.sessions = sessions
        self.only = sessions[0] if len(sessions) == 1 else None
