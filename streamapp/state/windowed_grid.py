"""Where the windows of a windowed table lie, and how its rows are named. Pure.

A window is ``[start, start + size)`` in ms since 1970; starts are the multiples of the step, also
below zero. The row of key ``k`` in it is ``(k, start)`` in the table; a tuple key is flattened:
``(a, b, start)``.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import isfinite
from typing import Any, Literal, NamedTuple

import msgspec

from streamapp.core.duration import to_ms
from streamapp.core.times import plus
from streamapp.core.windows import MOST_WINDOWS, floor_to
from streamapp.errors import ConfigError, InputError, UsageError
from streamapp.serde.ordered_keys import PLAIN_KEYS

Row = tuple[Any, ...]
Unit = Literal["s", "ms"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PER_SECOND = {"s": 1_000, "ms": 1}
#: Beyond the start of every window; what is between is the windows of one key.
_BEFORE, _AFTER = -(1 << 70), 1 << 70


class Window(NamedTuple):
    """``[start_ms, end_ms)``, in ms since 1970."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class WindowGrid:
    """Windows of ``size_ms`` that start every ``step_ms``; the size need be no multiple of it.

    ``expires_ms``: how far event time may pass the end of a window before its rows are gone;
    ``None`` keeps them.
    """

    size_ms: int
    step_ms: int
    expires_ms: int | None = None

    def starts(self, time_ms: int) -> range:
        """Return the starts of all windows that a time lies in, oldest first."""
        before = floor_to(time_ms - self.size_ms, self.step_ms, 0)
        return range(before + self.step_ms, time_ms + 1, self.step_ms)

    def latest(self, time_ms: int) -> int:
        """Return the start of the last window to open of those that a time lies in."""
        return floor_to(time_ms, self.step_ms, 0)

    def window(self, start_ms: int) -> Window:
        """Return the window of a start."""
        return Window(start_ms, start_ms + self.size_ms)

    def is_over(self, start_ms: int, now_ms: int) -> bool:
        """Tell whether the rows of a window are gone at an event time."""
        if self.expires_ms is None:
            return False
        return plus(start_ms + self.size_ms, self.expires_ms) <= now_ms

    def end_of(self, row: object) -> int:
        """Return the end of a row's window.

        Raises:
            UsageError: This is no row of a window.
        """
        start = row[-1] if isinstance(row, tuple) and len(row) > 1 else None
        if type(start) is not int or start % self.step_ms:
            msg = f"{row!r:.80} is no row of a table with windows"
            raise UsageError(msg, hint="Write through what tumbling() or hopping() has returned")
        return plus(start, self.size_ms)


def declared(name: str, size: Any, step: Any, expires: Any) -> WindowGrid:
    """Return the grid of a table's declaration.

    Raises:
        ConfigError: A duration is none, not in whole milliseconds, or does not fit the others.
    """
    lengths = []
    for word, duration in (("size", size), ("step", step), ("expires", expires)):
        try:
            lengths.append(None if word == "expires" and duration is None else to_ms(duration))
        except ConfigError as exc:
            msg = f"Table {name}, {word} of its windows: {exc.message}"
            raise ConfigError(msg, hint=exc.hint) from None
        if lengths[-1] == 0:
            msg = f"Table {name}: {word}={duration!r} of its windows is nothing"
            raise ConfigError(msg, hint="Give a duration, like 60 or '1m'")
    size_ms, step_ms, expires_ms = lengths
    assert size_ms is not None and step_ms is not None  # noqa: S101, PT018 - for the type checker
    if step_ms > size_ms:
        msg = f"Table {name}: step={step!r} is longer than size={size!r}"
        raise ConfigError(msg, hint="Events between two windows would count in none")
    if size_ms > step_ms * MOST_WINDOWS:
        msg = f"Table {name}: each event would change {size_ms // step_ms} windows"
        raise ConfigError(msg, hint=f"Choose a step of at least size / {MOST_WINDOWS}")
    return WindowGrid(size_ms, step_ms, expires_ms)


def row_of(key: Hashable, start_ms: int) -> Row:
    """Return the row of a key in a window.

    Raises:
        InputError: A tuple of less than two parts could not be told from a plain key.
    """
    if type(key) is not tuple:
        return (key, start_ms)
    if len(key) > 1:
        return (*key, start_ms)
    msg = f"{key!r} cannot be a key of a table with windows"
    raise InputError(msg, hint="Use a tuple of two parts or more, or no tuple")


def rows_of(key: Hashable) -> tuple[Row, Row]:
    """Return the bounds ``[first, last)`` of all rows of a key.

    Rows of longer tuple keys may lie between: compare ``key_of``.
    """
    return row_of(key, _BEFORE), row_of(key, _AFTER)


def key_of(row: Row, key_type: Any) -> Any:
    """Return the key of a row; ``key_type`` gives keys that are no plain value their class back."""
    if len(row) > 2:  # noqa: PLR2004 - a key and a start
        return row[:-1]
    key = row[0]
    if key_type is Any or key_type in PLAIN_KEYS:
        return key
    try:
        return msgspec.convert(key, key_type)
    except msgspec.ValidationError:
        return key  # a plain value, as it was given


def time_ms(when: object, unit: Unit = "s") -> int:
    """Return a moment as ms since 1970, rounded down: windows begin and end at whole ones.

    A moment is a ``datetime`` or ISO 8601 text, each with its zone, or a number of ``unit`` since
    1970. A float means the decimal number that it prints as.

    Raises:
        InputError: It is none of these.
    """
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            raise _no_moment(when) from None
    if isinstance(when, datetime) and when.tzinfo is not None:
        return (when - _EPOCH) // timedelta(milliseconds=1)
    if isinstance(when, int) and not isinstance(when, bool):
        return when * _PER_SECOND[unit]
    if isinstance(when, float) and isfinite(when):
        return Fraction(str(when)) * _PER_SECOND[unit] // 1
    raise _no_moment(when)


def _no_moment(when: object) -> InputError:
    return InputError(
        f"{when!r:.80} is no moment",
        hint="Give a datetime or ISO 8601 text with its zone, or a number since 1970",
    )
