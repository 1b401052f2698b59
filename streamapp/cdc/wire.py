"""Strict JSON of untrusted change events: bytes to plain values within a bounded depth.

Integers of any size stay exact. NaN, Infinity, numbers out of range and malformed text are
refused; of two equal names in an object the last one counts (RFC 8259 leaves it open).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from streamapp.errors import DecodeError, TooLargeError

#: A JSON object with its values as plain Python values.
Fields: TypeAlias = dict[str, Any]

#: Levels of nesting. Bounds the recursion of everything that walks a row later on.
MAX_DEPTH = 128

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="deterministic").encode


def decode(raw: bytes, what: str) -> Any:  # noqa: ANN401 - any JSON value is a legal answer
    """Decode one JSON text.

    Args:
        raw: The whole key or value of a record.
        what: What ``raw`` is, for the text of errors (``"value"``).

    Raises:
        DecodeError: It is not JSON.
        TooLargeError: It nests deeper than ``MAX_DEPTH``.
    """
    try:
        value = _decode(raw)
    except RecursionError:
        raise _too_deep(what) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        message = f"The {what} of the change event is not JSON: {exc}; it starts {raw[:60]!r}"
        raise DecodeError(
            message, hint="Use Debezium's JSON converter (JsonConverter) for keys and values."
        ) from exc
    # Brackets inside of strings count too, so this only says that a closer look is needed.
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise _too_deep(what)
    return value


def encode(value: object) -> str:
    """Encode as compact JSON with sorted names: equal values give equal texts."""
    return _encode(value).decode()


def _is_deeper(value: object, levels: int) -> bool:
    """Tell whether containers nest more than ``levels`` deep; iterative, O(values)."""
    layer = [value]
    for _ in range(levels):
        layer = [inner for outer in layer for inner in _children(outer)]
        if not layer:
            return False
    return True


def _children(value: object) -> list[object]:
    """Return the containers directly inside of ``value`` itself, or nothing for a scalar."""
    if isinstance(value, dict):
        return [inner for inner in value.values() if isinstance(inner, dict | list)]
    if isinstance(value, list):
        return [inner for inner in value if isinstance(inner, dict | list)]
    return []


def _too_deep(what: str) -> TooLargeError:
    return TooLargeError(f"The {what} of the change event nests deeper than {MAX_DEPTH} levels")
