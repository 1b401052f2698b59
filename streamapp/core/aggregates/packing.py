"""Plain values as JSON gives them back exactly: integers beyond 64 bits and containers as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, cast

_LEAST: Final = -(1 << 63)
_GREATEST: Final = (1 << 63) - 1
_AS_THEY_ARE: Final = {float, str, bool, type(None)}


def pack_value(value: object) -> object:
    """Return a value that survives JSON: itself, or a list of one text that holds it."""
    if type(value) in _AS_THEY_ARE or (type(value) is int and _LEAST <= value <= _GREATEST):
        return value
    return [json.dumps(value)]  # its integers have no bound


def pack_values(values: Sequence[object]) -> Sequence[object]:
    """Do as ``pack_value`` for each, at the cost of a look at them where all survive."""
    kinds = {*map(type, values)}
    if kinds <= _AS_THEY_ARE:
        return values
    if kinds == {int}:
        numbers = cast("Sequence[int]", values)
        if _LEAST <= min(numbers) <= max(numbers) <= _GREATEST:
            return values
    return [*map(pack_value, values)]


def unpack_value(packed: object) -> object:
    """Return the value that ``pack_value`` was given."""
    return json.loads(cast("str", packed[0])) if isinstance(packed, list) else packed
