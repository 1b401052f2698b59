"""Sizes as people write them, as whole bytes. Never rounds.

A size is a number of bytes or a number with a unit: ``kB MB GB`` are powers of 1000,
``KiB MiB GiB`` powers of 1024. Case does not matter.
"""

from __future__ import annotations

import re
from fractions import Fraction

from streamapp.errors import ConfigError

_UNIT_BYTES = {
    "": 1,
    "b": 1,
    "kb": 1_000,
    "mb": 1_000_000,
    "gb": 1_000_000_000,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}
_TEXT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", re.ASCII | re.IGNORECASE)
_HINT = 'Write "64MiB", "500kB", "1GiB" or a number of bytes'


def to_bytes(value: str | int) -> int:
    """Convert a size to bytes, exactly.

    Raises:
        ConfigError: Not a size, negative, or not a whole number of bytes.
    """
    exact = _exact_bytes(value)
    if exact is None or exact < 0 or exact.denominator != 1:
        message = f"{value!r} is not a size in bytes"
        raise ConfigError(message, hint=_HINT)
    return exact.numerator


def _exact_bytes(value: str | int) -> Fraction | None:
    """Return the size as an exact number; ``None`` when it is none."""
    if isinstance(value, str):
        match = _TEXT.fullmatch(value.strip())
        unit = None if match is None else _UNIT_BYTES.get(match[2].lower())
        return None if match is None or unit is None else Fraction(match[1]) * unit
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return Fraction(value)
