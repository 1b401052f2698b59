"""JSON exactly as RFC 8259 has it, with the bounds that protect a worker.

Never loses a number: integers are exact up to 4,300 digits and refused above, NaN and Infinity are
refused in both directions. Nesting is at most 128 levels; of repeated names the last one counts.
Fields that the declared type does not name are skipped, though their grammar, encoding and nesting
are checked: whether a text is accepted depends on the fields in use only by these fields' types.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from streamapp.serde.coders import Decoder
from streamapp.serde.hooks import decode_hook, encode_hook, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Order of names in keys: dicts and sets sorted, records as declared.
STABLE_ORDER: Literal["deterministic"] = "deterministic"
#: Levels of arrays and objects: well below the interpreter's own bound, which depends on how deep
#: the caller is and would make the same bytes good or bad by chance.
MAX_DEPTH = 128
#: A text that nests deeper has that many openings and as many closings.
_SHORTEST_TOO_DEEP = 2 * (MAX_DEPTH + 1)

# Possessive, and the closing quote optional: linear in time on hostile text.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_OPENING = ord("[")
_ROUNDS = 8
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# A double whose exponent is all ones, behind MessagePack's mark of a double.
_NON_FINITE_DOUBLE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")

_TO_MSGPACK = msgspec.msgpack.Encoder(enc_hook=encode_hook).encode


@dataclass(frozen=True, slots=True)
class JsonDecoder(Decoder):
    """Strict JSON to a declared type, or to plain values."""

    def check(self, data: bytes) -> None:
        """Refuse what is too long, no UTF-8, or nested too deep."""
        if len(data) > self.max_bytes:
            Decoder.check(self, data)
        # The parser looks at the encoding of the strings it keeps, and not of those it skips.
        if not data.isascii():
            data.decode()
        if len(data) >= _SHORTEST_TOO_DEEP:
            check_depth(data)

    def check_many(self, values: Sequence[bytes]) -> None:
        """Do as ``check`` for each; short ASCII texts, the usual case, cost two loops in C."""
        longest = max(map(len, values), default=0)
        if longest > self.max_bytes:
            Decoder.check_many(self, values)
        if not all(map(bytes.isascii, values)):
            for value in values:
                value.decode()
        if longest >= _SHORTEST_TOO_DEEP:
            for value in values:
                check_depth(value)


def json_decoder(declared: Any, max_bytes: int) -> JsonDecoder:  # noqa: ANN401 - any annotation
    """Return the decoder of a type; ``None`` and ``Any`` give plain values."""
    wanted = Any if declared is None else declared
    read = msgspec.json.Decoder(wanted, dec_hook=decode_hook).decode
    what = "JSON" if wanted is Any else f"JSON for {type_name(declared)}"
    return JsonDecoder(read, what, max_bytes)


def json_writer(order: Literal["deterministic"] | None) -> Callable[[Any], bytes]:
    """Return the function that writes JSON; it raises whatever msgspec or a check raises.

    NaN and Infinity, which msgspec would write as ``null``, and what is too deep to be read again
    are refused with ``ValueError``.
    """
    encode = msgspec.json.Encoder(enc_hook=encode_hook, order=order).encode

    def write(value: Any) -> bytes:  # noqa: ANN401 - any value
        data = encode(value)
        # Not `in`: it tries the needle as a number first, which takes longer than the search.
        if data.find(b"null") >= 0:
            _check_finite(value)
        if len(data) >= _SHORTEST_TOO_DEEP:
            check_depth(data)
        return data

    return write


_encode_lines = msgspec.json.Encoder(enc_hook=encode_hook).encode_lines
_write = json_writer(None)


def json_lines(values: Sequence[object]) -> list[bytes]:
    """Return the JSON of each value, as ``json_writer(None)`` writes it; they are encoded at once.

    Raises:
        Exception: Whatever ``json_writer`` raises for the first value that it refuses.
    """
    text = _encode_lines(values)
    lines = text.split(b"\n")  # none in a line: JSON escapes them, but what is raw may have some
    lines.pop()
    if len(lines) != len(values) or max(map(len, lines), default=0) >= _SHORTEST_TOO_DEEP:
        return [*map(_write, values)]
    if text.find(b"null") >= 0:
        for value in compress(values, [line.find(b"null") >= 0 for line in lines]):
            _check_finite(value)
    return lines


def check_depth(data: bytes) -> None:
    """Raise ``ValueError`` if the text nests deeper than the bound; linear, stops at the first.

    A malformed text may pass: the parser refuses it.
    """
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    brackets = _STRING.sub(b"", data).translate(_AS_ARRAYS, _ALL_BUT_BRACKETS)
    # Each round takes the innermost level away, in C: little is left of a wide, flat text.
    for _ in range(_ROUNDS):
        brackets = brackets.replace(b"[]", b"")
    depth = _ROUNDS
    for bracket in brackets:
        depth += 1 if bracket == _OPENING else -1
        if depth > MAX_DEPTH:
            message = f"nested deeper than {MAX_DEPTH} levels"
            raise ValueError(message)


def _check_finite(value: object) -> None:
    """Look at a value whose JSON has a ``null``."""
    if _may_be_non_finite(value):
        _refuse_non_finite(value)


def _may_be_non_finite(value: object) -> bool:
    """Tell quickly, and never wrongly "no": MessagePack keeps what JSON turned into ``null``."""
    try:
        return _NON_FINITE_DOUBLE.search(_TO_MSGPACK(value)) is not None
    except (OverflowError, TypeError, ValueError):
        return True  # an integer beyond 64 bits, for one: look closely


def _refuse_non_finite(value: object) -> None:
    for path, number in _floats(msgspec.to_builtins(value, enc_hook=_plain), "$"):
        if not math.isfinite(number):
            message = f"JSON has no {number!r} (at {path}); send null or leave the field out"
            raise ValueError(message)


def _plain(value: object) -> object:
    return None if isinstance(value, msgspec.Raw) else encode_hook(value)


def _floats(node: object, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(node, float):
        yield path, node
    elif isinstance(node, dict):
        for name, item in node.items():
            yield from _floats(item, f"{path}.{name}")
    elif isinstance(node, list | tuple | set | frozenset):
        for index, item in enumerate(node):
            yield from _floats(item, f"{path}[{index}]")
