"""Plain values as JSON gives them back exactly: integers beyond 64 bits and containers as text."""

from __future__ import annotations

import json
from typing import Final, cast

_LEAST: Final = -(1 << 63)
_GREATEST: Final = (1 << 63) - 1


def pack_value(value: object) -> object:
    """Return a value that survives JSON: itself, or a list of one text that holds it."""
    if isinstance(value, list | dict) or (type(value) is int and not _LEAST <= value <= _GREATEST):
        return [json.dumps(value)]  # its integers have no bound
    return value


def unpack_value(packed: object) -> object:
    """Return the value that ``pack_value`` was given."""
    return json.loads(cast("str", packed[0])) if isinstance(packed, list) else packed
