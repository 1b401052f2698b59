"""Durations as people write them, as whole milliseconds. Refuses what it would have to round.

A duration is a ``timedelta``, a number of seconds, or text: numbers with units, largest unit first
or not (``"250ms"``, ``"5s"``, ``"1.5h"``, ``"1m30s"``), or a bare number of seconds (``"5"``).
"""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction

from streamapp.errors import ConfigError

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)\s*", re.ASCII)
_TEXT = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
_HINT = 'Write "250ms", "5s", "1m30s", "2h" or a number of seconds'


def to_ms(value: str | float | timedelta) -> int:
    """Convert a duration to milliseconds, exactly.

    A float means the decimal number that it prints as: ``0.1`` is 100 ms.

    Raises:
        ConfigError: Not a duration, negative, or not a whole number of milliseconds.
    """
    exact = _exact_ms(value)
    if exact is None:
        message = f"{value!r} is not a duration"
        raise ConfigError(message, hint=_HINT)
    if exact < 0:
        message = f"{value!r} is a negative duration"
        raise ConfigError(message, hint=_HINT)
    if exact.denominator != 1:
        message = f"{value!r} is not a whole number of milliseconds"
        raise ConfigError(message, hint="Time is kept in integer milliseconds; choose a multiple")
    return exact.numerator


def _exact_ms(value: str | float | timedelta) -> Fraction | None:
    """Return the duration in milliseconds as an exact number; ``None`` when it is none."""
    if isinstance(value, timedelta):
        return Fraction(value // timedelta(microseconds=1), 1_000)
    if isinstance(value, str):
        return _parse(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return Fraction(str(value)) * 1_000
    except ValueError:  # nan and inf have no fraction
        return None


def _parse(text: str) -> Fraction | None:
    """Return the milliseconds that ``text`` names; ``None`` when it names none."""
    if _SECONDS.fullmatch(text):
        return Fraction(text) * 1_000
    if not _TEXT.fullmatch(text):
        return None
    return sum(
        (Fraction(number) * _UNIT_MS[unit] for number, unit in _PART.findall(text)), Fraction()
    )
