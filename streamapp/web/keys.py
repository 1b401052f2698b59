"""Keys in requests: a path segment or a JSON text becomes a key of the table's type. Pure.

The JSON form (``?key=``) can say every key; a path segment is short for keys that are plain text or
numbers. A key is never guessed across types: ``"7"`` and ``7`` are two keys.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import msgspec

from streamapp.serde.hooks import decode_hook, type_name

#: Digits of an integer in a path: Python refuses to parse more than some thousands.
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,99})")
_BOOLS = {"true": True, "false": False}


def _read_int(text: str) -> int:
    if not _INTEGER.fullmatch(text) or text == "-0":
        raise ValueError(text)
    return int(text)


def _read_float(text: str) -> float:
    return msgspec.json.decode(text, type=float)


def _read_bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


_READERS: dict[object, Callable[[str], object]] = {
    str: str,
    int: _read_int,
    float: _read_float,
    bytes: _read_bytes,
    bool: _BOOLS.__getitem__,
}


def expected(key_type: object) -> str:
    """Name the key type for a human."""
    if key_type is Any:
        return "a text or an integer"
    words: dict[object, str] = {
        str: "a text",
        int: "an int",
        float: "a float",
        bytes: "bytes in base64url",
        bool: "true or false",
    }
    return words.get(key_type) or f"JSON of {type_name(key_type)}"


def keys_of_segment(text: str, key_type: object) -> tuple[object, ...]:
    """Return the keys that a path segment may mean, in the order in which to try them.

    Raises:
        ValueError: It is none of the table's keys.
    """
    if key_type is Any:
        return (text, int(text)) if _INTEGER.fullmatch(text) and text != "-0" else (text,)
    reader = _READERS.get(key_type)
    if reader is None:
        raise ValueError(text)
    try:
        return (reader(text),)
    except (KeyError, msgspec.MsgspecError) as exc:
        raise ValueError(text) from exc


def key_of_json(text: str, key_type: object) -> object:
    """Return the key that a JSON text says; where the type is undeclared, an array is a tuple.

    Raises:
        ValueError: It is no JSON, or not of the type.
    """
    try:
        key = msgspec.json.decode(text, type=key_type, dec_hook=decode_hook)
    except (msgspec.MsgspecError, RecursionError, NotImplementedError) as exc:
        raise ValueError(text) from exc
    return tuple(key) if key_type is Any and isinstance(key, list) else key
