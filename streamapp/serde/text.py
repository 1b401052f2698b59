"""Keys and values that are one scalar in plain bytes: raw bytes, UTF-8 text, decimal numbers.

A number has one form only (``7``, never ``07`` or ``+7``), since the bytes of a key choose its
partition: two spellings of one key would be two rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Text(NamedTuple):
    """How one scalar type is read and written; ``accepts`` are the types it is written from."""

    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]
    accepts: tuple[type, ...]


def _write_bytes(value: bytes | bytearray | str) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


_parse_int: Callable[[bytes], int] = msgspec.json.Decoder(int).decode


def _read_int(data: bytes) -> int:
    number = _parse_int(data)
    if b"%d" % number != data:
        message = "an integer with spaces, or a negative zero"
        raise ValueError(message)
    return number


def _write_int(value: int) -> bytes:
    return b"%d" % value


def _write_float(value: float) -> bytes:
    if not math.isfinite(value):
        message = f"{value!r} has no decimal form; leave the record out or send null"
        raise ValueError(message)
    return msgspec.json.encode(float(value))


#: Undeclared: bytes as they are; text is taken as UTF-8 for convenience, as in Faust.
RAW = Text(bytes, _write_bytes, (bytes, bytearray, str))
TEXTS: dict[Any, Text] = {
    bytes: Text(bytes, bytes, (bytes, bytearray)),
    str: Text(bytes.decode, str.encode, (str,)),
    int: Text(_read_int, _write_int, (int,)),
    float: Text(msgspec.json.Decoder(float).decode, _write_float, (float, int)),
}


def write_texts(values: Sequence[Any]) -> list[bytes]:
    """Return the UTF-8 of each; what is no ``str`` raises ``TypeError``."""
    return [*map(str.encode, values)]
