"""Strict JSON of change events: bytes to plain values, whose errors say what was being read."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from streamapp.errors import DecodeError
from streamapp.serde.coders import MAX_BYTES
from streamapp.serde.strict_json import STABLE_ORDER, json_decoder

#: A JSON object with its values as plain Python values.
Fields: TypeAlias = dict[str, Any]

_decode = json_decoder(None, MAX_BYTES)
_encode = msgspec.json.Encoder(order=STABLE_ORDER).encode


def decode(raw: bytes, what: str) -> Any:  # noqa: ANN401 - any JSON value is a legal answer
    """Decode one JSON text: integers stay exact, NaN and deep nesting are refused.

    Args:
        raw: The whole key or value of a record.
        what: What ``raw`` is, for the text of errors (``"value"``).

    Raises:
        DecodeError: It is not JSON, or beyond the bounds of ``strict_json``.
    """
    try:
        return _decode(raw)
    except DecodeError as exc:
        message = f"The {what} of the change event: {exc.message}"
        hint = "Use Debezium's JSON converter (JsonConverter) for keys and values"
        raise DecodeError(message, hint=hint) from exc


def encode(value: object) -> str:
    """Encode as compact JSON with sorted names: equal values give equal texts."""
    return _encode(value).decode()
