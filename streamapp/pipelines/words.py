"""The words for windows: durations are ``"5s"``, ``timedelta`` or seconds, checked here."""

from __future__ import annotations

from datetime import timedelta

from streamapp.core.duration import to_ms
from streamapp.core.windows import (
    MOST_WINDOWS,
    Count,
    Global,
    Hopping,
    Lateness,
    Session,
    Sliding,
    Tumbling,
)
from streamapp.errors import ConfigError

Duration = str | float | timedelta


def tumbling(size: Duration, *, offset: Duration = 0, late: Duration = 0) -> Tumbling:
    """Windows of one size, one after the other; they start at ``offset`` modulo ``size``.

    ``late`` is how long a window still takes records after it has closed.

    Raises:
        ConfigError: A duration is none, or the offset is not below the size.
    """
    size_ms = _positive("tumbling", "size", size)
    return Tumbling(size_ms, _offset("tumbling", offset, size_ms), Lateness(to_ms(late)))


def hopping(
    size: Duration, slide: Duration, *, offset: Duration = 0, late: Duration = 0
) -> Hopping:
    """Windows of one size that start every ``slide``; the size need be no multiple of it.

    Raises:
        ConfigError: A duration is none, the slide is greater than the size (records between two
            windows would be in none) or so small that a record would lie in more than 10,000 of
            them, or the offset is not below the slide.
    """
    size_ms, slide_ms = _positive("hopping", "size", size), _positive("hopping", "slide", slide)
    if slide_ms > size_ms:
        msg = f"hopping: slide={slide!r} is greater than size={size!r}"
        raise ConfigError(msg, hint="Records between two windows would be in none")
    if size_ms > slide_ms * MOST_WINDOWS:
        msg = f"hopping: each record would lie in {size_ms // slide_ms} windows"
        raise ConfigError(msg, hint=f"Choose a slide of at least size / {MOST_WINDOWS}")
    return Hopping(size_ms, slide_ms, _offset("hopping", offset, slide_ms), Lateness(to_ms(late)))


def sliding(size: Duration, *, late: Duration = 0) -> Sliding:
    """Look back from each record: the window of a record at ``t`` is ``[t - size, t]``.

    Raises:
        ConfigError: A duration is none.
    """
    return Sliding(_positive("sliding", "size", size), Lateness(to_ms(late)))


def session(gap: Duration, *, late: Duration = 0) -> Session:
    """Group records of one key that are at most ``gap`` apart.

    Raises:
        ConfigError: A duration is none.
    """
    return Session(_positive("session", "gap", gap), Lateness(to_ms(late)))


def count_window(count: int) -> Count:
    """Group every ``count`` records of a key, in the order of their arrival.

    Raises:
        ConfigError: The count is no whole number of at least 1.
    """
    return Count(_count("count_window", count))


def global_window(*, count: int | None = None, every: Duration | None = None) -> Global:
    """Keep one window for all time, which emits every ``count`` records and/or every ``every``.

    Raises:
        ConfigError: There is no trigger, or one is wrong.
    """
    if count is None and every is None:
        msg = "global_window has no trigger"
        raise ConfigError(msg, hint='Give count=100 and/or every="10s", or it never emits')
    return Global(
        None if count is None else _count("global_window", count),
        None if every is None else _positive("global_window", "every", every),
    )


def _positive(word: str, name: str, value: Duration) -> int:
    ms = to_ms(value)
    if ms == 0:
        msg = f"{word}: {name}={value!r} is zero"
        raise ConfigError(msg, hint="It must be at least one millisecond")
    return ms


def _offset(word: str, offset: Duration, below_ms: int) -> int:
    ms = to_ms(offset)
    if ms >= below_ms:
        msg = f"{word}: offset={offset!r} is not below {below_ms} ms"
        raise ConfigError(msg, hint="Windows repeat: take what is left of the division")
    return ms


def _count(word: str, count: object) -> int:
    if type(count) is not int or count < 1:
        msg = f"{word}: count={count!r}"
        raise ConfigError(msg, hint="It must be a whole number of at least 1")
    return count
