"""Token buckets in whole numbers: no rate drifts, however long it runs. Pure: time is passed in.

A level counts parts of tokens: a token is ``per_ms`` parts, and each millisecond brings ``rate``
parts, up to ``burst`` tokens. So every level is exact, and so is the time until it is reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from streamapp.errors import ConfigError


class Level(NamedTuple):
    """What a bucket held at a time, in parts of tokens; less than none while it is in debt."""

    parts: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Rate:
    """``rate`` tokens in each ``per_ms``, and at most ``burst`` at once.

    In any ``n`` ms no more than ``burst + n * rate / per_ms`` tokens are taken one by one.

    Raises:
        ConfigError: One of them is not at least 1.
    """

    rate: int
    per_ms: int
    burst: int

    def __post_init__(self) -> None:
        given = (self.rate, self.per_ms, self.burst)
        if {*map(type, given)} != {int} or min(given) < 1:
            msg = (
                f"A rate cannot be {self.rate!r} in {self.per_ms} ms with bursts of {self.burst!r}"
            )
            raise ConfigError(msg, hint="Let each of them be a whole number of at least 1")

    def full(self, now_ms: int) -> Level:
        """Return the level of a bucket that nothing was taken from."""
        return Level(self.burst * self.per_ms, now_ms)

    def filled(self, level: Level, now_ms: int) -> Level:
        """Return the level as of now. A clock that was set back brings nothing, and takes nothing.

        From then on the bucket fills by the new time, not only when the old one is reached again.
        """
        gained = max(now_ms - level.at_ms, 0) * self.rate
        return Level(min(level.parts + gained, self.burst * self.per_ms), now_ms)

    def is_full(self, level: Level) -> bool:
        """Tell whether a bucket is as if nothing had been taken from it."""
        return level.parts >= self.burst * self.per_ms

    def wait_ms(self, level: Level, tokens: int = 1) -> int:
        """Return in how many ms so many tokens may be taken, if none is taken before.

        More than ``burst`` may be taken once the bucket is full: they leave a debt.
        """
        missing = min(tokens, self.burst) * self.per_ms - level.parts
        return max(-(-missing // self.rate), 0)

    def less(self, level: Level, tokens: int = 1) -> Level:
        """Return the level without tokens for which ``wait_ms`` is 0."""
        return Level(level.parts - tokens * self.per_ms, level.at_ms)
