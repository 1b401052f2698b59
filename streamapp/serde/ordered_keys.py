"""Table keys as bytes whose order is the order of the keys; used by the store and the changelog.

Every key begins with a tag of its kind, so keys of different kinds never meet: ``1``, ``1.0``,
``True`` and ``"1"`` are four keys. Order inside a kind is the natural one (numbers by value, text
by code point), which is what prefix and range scans rely on. The layout is part of the changelog
format: it may be extended, never changed.

======  ==========================================================================================
tag     key
======  ==========================================================================================
0x01    ``None``
0x02/3  ``False`` / ``True``
0x13-6  ``int``: huge negative, 64-bit negative, 64-bit not negative, huge; big-endian
0x20    ``float``: IEEE 754, sign folded; NaN is refused
0x30    ``bytes``, to the end
0x40    ``str``: UTF-8, to the end
0x50    ``tuple``: parts in order, text and bytes escaped (00 -> 00 FF) and ended by 00 01; a tuple
        inside of it (``encode_under`` only) is its tag and parts, ended likewise
0x60    anything else that msgspec encodes, as JSON with sorted names; read back through the type
======  ==========================================================================================
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Sequence
from typing import Any, cast

import msgspec

from streamapp.errors import InputError

#: Kinds whose values may be keys of a ``dict`` as they are: equal values are the same key.
PLAIN_KEYS = frozenset({str, int, bytes})

_NONE, _FALSE, _TRUE = b"\x01", b"\x02", b"\x03"
_HUGE_NEGATIVE, _NEGATIVE, _POSITIVE, _HUGE = b"\x13", b"\x14", b"\x15", b"\x16"
_FLOAT, _BYTES, _STR, _TUPLE = b"\x20", b"\x30", b"\x40", b"\x50"
#: Tag of the keys that are text.
TEXT = _STR
#: Tag of the keys that are no plain value: their type is not in their bytes.
JSON_KEY = b"\x60"
_END = b"\x00\x01"
#: What no text of ASCII has; it does not begin as it ends, so what is around it cannot shift it.
_CUT = b"\xff\xfe"
_U64 = 1 << 64
_double = struct.Struct(">Q")
_json = msgspec.json.Encoder(order="deterministic")


def encode_key(key: object) -> bytes:
    """Return the ordered bytes of a table key.

    Raises:
        InputError: The key is NaN, holds a lone surrogate or is of a kind that cannot be encoded.
    """
    if type(key) is str:
        return _STR + _utf8(key)
    if type(key) is bytes:
        return _BYTES + key
    if type(key) is tuple:
        return _TUPLE + b"".join([_part(part) for part in key])
    return _scalar(key)


def encode_keys(keys: Collection[object]) -> list[bytes]:
    """Return ``encode_key`` of each key; a fifth of the time if all are ASCII text.

    Raises:
        InputError: As ``encode_key``.
    """
    if {*map(type, keys)} == {str}:
        texts = cast("Collection[str]", keys)
        if "".join(texts).isascii():
            return _all_between(_STR, texts, b"")
    return [*map(encode_key, keys)]


def decode_key(data: bytes, key_type: object = Any) -> Any:  # noqa: ANN401 - keys are the user's
    """Return the key of ``encode_key``'s bytes; ``key_type`` shapes keys of the JSON kind."""
    tag = data[:1]
    if tag == _STR:
        return data[1:].decode()
    if tag == _BYTES:
        return data[1:]
    if tag == JSON_KEY:
        return msgspec.json.decode(data[1:], type=cast("Any", key_type))
    if tag == _TUPLE:
        parts, at = [], 1
        while at < len(data):
            part, at = _read_part(data, at)
            parts.append(part)
        return tuple(parts)
    return _read_scalar(data, 0)[0]


def encode_under(head: bytes, key: object) -> bytes:
    """Return the bytes of a tuple that continues a tuple's bytes (``head``) with one more part.

    For rows of operators, whose keys may be tuples themselves: those are kept as one part.

    Raises:
        InputError: As ``encode_key``.
    """
    if type(key) is str:
        return head + _STR + _utf8(key).replace(b"\x00", b"\x00\xff") + _END
    if type(key) is tuple:
        return head + _TUPLE + b"".join(_part(part) for part in key) + _END
    return head + _part(key)


def encode_all_under(head: bytes, keys: Collection[object], tail: bytes = b"") -> list[bytes]:
    """Return ``encode_under(head, key) + tail`` of each key; a tenth of the time if all are text.

    Raises:
        InputError: As ``encode_key``.
    """
    if {*map(type, keys)} == {str}:
        texts = cast("Collection[str]", keys)
        whole = "".join(texts)
        if whole.isascii() and "\0" not in whole:
            return _all_between(head + _STR, texts, _END + tail)
    return [encode_under(head, key) + tail for key in keys]


def _all_between(head: bytes, texts: Collection[str], tail: bytes) -> list[bytes]:
    """Return ``head + text + tail`` of each text; all are ASCII."""
    if _CUT in head or _CUT in tail:
        return [head + text.encode() + tail for text in texts]
    # One text, whose characters are the bytes, cut up again: a text has no byte of a cut.
    between = (tail + _CUT + head).decode("latin-1").join(texts)
    return b"".join((head, between.encode("latin-1"), tail)).split(_CUT)


def encode_with_last(keys: Collection[object], last: Sequence[object]) -> list[bytes]:
    """Return the bytes of tuples: a key (or the parts of one that is a tuple), and a last part.

    Fast where the keys are text and the last parts repeat.

    Raises:
        InputError: As ``encode_key``.
    """
    if tuple in {*map(type, keys)}:
        parts = (key if isinstance(key, tuple) else (key,) for key in keys)
        return [encode_key((*key, end)) for key, end in zip(parts, last, strict=True)]
    ends = {end: _part(end) for end in {*last}}
    if len(ends) == 1:
        return encode_all_under(_TUPLE, keys, *ends.values())
    heads = encode_all_under(_TUPLE, keys)
    return [head + ends[end] for head, end in zip(heads, last, strict=True)]


def encode_prefix(prefix: str | bytes) -> bytes:
    """Return the bytes with which every ``str`` (or ``bytes``) key with this prefix begins."""
    return _STR + _utf8(prefix) if isinstance(prefix, str) else _BYTES + prefix


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        msg = f"Table key {ascii(text)[:80]} is not valid Unicode"
        raise InputError(msg, hint="Remove the lone surrogate from the key") from exc


def _scalar(key: object) -> bytes:
    if key is None:
        return _NONE
    if isinstance(key, bool):
        return _TRUE if key else _FALSE
    if type(key) is int:
        return _int(key)
    if type(key) is float:
        return _FLOAT + _double.pack(_fold(key))
    try:
        return JSON_KEY + _json.encode(key)
    except (TypeError, ValueError) as exc:
        msg = f"A {type(key).__name__} cannot be a table key: {exc}"
        raise InputError(
            msg, hint="Use str, int, bytes, float, bool, a tuple of these, or a Record"
        ) from exc


def _int(number: int) -> bytes:
    if 0 <= number < 1 << 63:
        return _POSITIVE + number.to_bytes(8, "big")
    if -(1 << 63) <= number < 0:
        return _NEGATIVE + (number + _U64).to_bytes(8, "big")
    length = (abs(number).bit_length() + 7) // 8
    if number > 0:
        return _HUGE + length.to_bytes(4, "big") + number.to_bytes(length, "big")
    complement = (1 << 8 * length) - 1 + number
    return (
        _HUGE_NEGATIVE
        + (0xFFFFFFFF - length).to_bytes(4, "big")
        + complement.to_bytes(length, "big")
    )


def _fold(number: float) -> int:
    """Map a double to an unsigned integer of the same order (negative ones inverted)."""
    if math.isnan(number):
        msg = "NaN cannot be a table key"
        raise InputError(msg, hint="It equals nothing, so it could never be found again")
    bits: int = struct.unpack(">Q", struct.pack(">d", number + 0.0))[0]
    return bits ^ (_U64 - 1) if bits >> 63 else bits | 1 << 63


def _part(part: object) -> bytes:
    if isinstance(part, tuple):
        msg = "A tuple inside of a tuple cannot be a table key"
        raise InputError(msg, hint="Flatten the key")
    if type(part) is int:
        return _int(part)
    whole = encode_key(part)
    if whole[:1] in (_STR, _BYTES, JSON_KEY):
        return whole[:1] + whole[1:].replace(b"\x00", b"\x00\xff") + _END
    return whole


def _read_part(data: bytes, at: int) -> tuple[object, int]:
    tag = data[at : at + 1]
    if tag == _TUPLE:
        return _read_inner(data, at + 1)
    if tag not in (_STR, _BYTES, JSON_KEY):
        return _read_scalar(data, at)
    end = data.index(_END, at)
    return decode_key(tag + data[at + 1 : end].replace(b"\x00\xff", b"\x00")), end + len(_END)


def _read_inner(data: bytes, at: int) -> tuple[object, int]:
    parts: list[object] = []
    while not data.startswith(_END, at):
        part, at = _read_part(data, at)
        parts.append(part)
    return tuple(parts), at + len(_END)


def _read_scalar(data: bytes, at: int) -> tuple[object, int]:
    tag = data[at : at + 1]
    at += 1
    if tag in (_NONE, _FALSE, _TRUE):
        return {_NONE: None, _FALSE: False, _TRUE: True}[tag], at
    number = int.from_bytes(data[at : at + 8], "big")
    if tag == _POSITIVE:
        return number, at + 8
    if tag == _NEGATIVE:
        return number - _U64, at + 8
    if tag == _FLOAT:
        bits = number & ~(1 << 63) if number >> 63 else number ^ (_U64 - 1)
        return struct.unpack(">d", struct.pack(">Q", bits))[0], at + 8
    return _read_huge(data, at, tag)


def _read_huge(data: bytes, at: int, tag: bytes) -> tuple[int, int]:
    length = int.from_bytes(data[at : at + 4], "big")
    at += 4
    if tag == _HUGE:
        return int.from_bytes(data[at : at + length], "big"), at + length
    length = 0xFFFFFFFF - length
    number = int.from_bytes(data[at : at + length], "big") - ((1 << 8 * length) - 1)
    return number, at + length
