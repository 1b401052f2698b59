"""A limit on the rate of records, by the wall clock that the caller brings."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Literal

from streamapp.core.rate import Level, Rate
from streamapp.core.rows import Rows
from streamapp.operators.operator import Operator, RowError, SetAside
from streamapp.operators.pick import picked

#: Buckets that have filled up again are as good as none: they are looked for when there are twice
#: as many as were left the last time, and at least so many.
_LEAST_LOOK = 1_024


class Wait(RowError):  # noqa: N818 - it is no error; see below
    """Not an error: the rows from ``origin`` on may pass in ``ms``, those before it have.

    The caller brings what was there before on, pauses the partition for so long, and offers the
    rows again from ``origin`` on. No error policy applies.
    """

    def __init__(self, origin: int, brought: Rows, ms: int) -> None:
        super().__init__(origin, brought)
        self.ms = ms


class RateLimit(Operator):
    """Lets ``rate`` records pass in each ``per_ms``, and at most ``burst`` at once.

    ``by_key`` limits each key for itself. What is beyond is dropped and counted (``dropped``), or
    it waits, and the whole partition behind it: order is kept. Records that come from one source
    record wait for each other, so they pass together. Levels are not kept over a restart: then all
    buckets are full.
    """

    has_state = False

    def __init__(  # noqa: PLR0913, PLR0917 - what a limit is made of
        self,
        rate: int,
        per_ms: int,
        burst: int,
        by_key: bool,
        excess: Literal["drop", "delay"],
        now_ms: Callable[[], int],
    ) -> None:
        super().__init__()
        self._rate = Rate(rate, per_ms, burst)
        self._by_key = by_key
        self._drops = excess == "drop"
        self._now_ms = now_ms
        self._levels: dict[Hashable, Level] = {}
        self._look_at = _LEAST_LOOK
        self.dropped = 0

    def process(self, rows: Rows, side: int = 0) -> Rows:
        """Let rows pass.

        Raises:
            Wait: Rows must wait; never when they are dropped instead.
        """
        del side
        now_ms = self._now_ms()
        if len(self._levels) >= self._look_at:
            self._forget(now_ms)
        return self._dropping(rows, now_ms) if self._drops else self._delaying(rows, now_ms)

    @property
    def set_aside(self) -> Counter[tuple[SetAside, str]]:
        """See ``Operator.set_aside``."""
        return Counter({("dropped", "beyond_rate"): self.dropped})

    @property
    def size(self) -> int:
        """See ``Operator.size``."""
        return len(self._levels)

    def _dropping(self, rows: Rows, now_ms: int) -> Rows:
        places = []
        for place in range(len(rows)):
            name = rows.keys[place] if self._by_key else None
            level = self._level(name, now_ms)
            if not self._rate.wait_ms(level):
                self._levels[name] = self._rate.less(level)
                places.append(place)
        self.dropped += len(rows) - len(places)
        return picked(rows, places) if len(places) < len(rows) else rows

    def _delaying(self, rows: Rows, now_ms: int) -> Rows:
        place = 0
        while place < len(rows):
            origin = rows.origins[place]
            stop = bisect_right(rows.origins, origin, place)
            asked = Counter(rows.keys[place:stop]) if self._by_key else {None: stop - place}
            levels = {name: self._level(name, now_ms) for name in asked}
            wait_ms = max(self._rate.wait_ms(levels[name], n) for name, n in asked.items())
            if wait_ms:
                raise Wait(origin, rows.part(0, place), wait_ms)
            for name, tokens in asked.items():
                self._levels[name] = self._rate.less(levels[name], tokens)
            place = stop
        return rows

    def _level(self, name: Hashable, now_ms: int) -> Level:
        level = self._levels.get(name)
        return self._rate.full(now_ms) if level is None else self._rate.filled(level, now_ms)

    def _forget(self, now_ms: int) -> None:
        self._levels = {
            name: level
            for name, level in self._levels.items()
            if not self._rate.is_full(self._rate.filled(level, now_ms))
        }
        self._look_at = max(2 * len(self._levels), _LEAST_LOOK)
