"""How memory holds the value of a row: as it is where that is safe, as bytes where it is not.

Never holds a value that the commit could not write, or that reads back as another one. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, Union, cast, get_args, get_origin

import msgspec

from streamapp.errors import DecodeError, EncodeError, TooLargeError
from streamapp.serde.codecs import value_decoder, value_encoder
from streamapp.serde.ordered_keys import decode_key

#: Characters of a text that memory shares as it is: as JSON it stays far below the codec's bound.
_SHORT_TEXT = 4_096
#: Bytes that a log adds to a row, and how long keys are for which no row is looked at twice.
_ROW_BYTES = 100
KEY_ROOM: Final = 4_000
_NUMBERS = ({int}, {float})
_encode_scalar = msgspec.json.Encoder().encode


class Mark(Enum):
    """What a layer says instead of a value."""

    MISSING = "this layer does not know"
    ABSENT = "there is no such row"


MISSING: Final = Mark.MISSING
ABSENT: Final = Mark.ABSENT


class Packed:
    """A mutable value, as its bytes: each reader gets an object of its own."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


def check_row(table: str, key: bytes, data: bytes, max_bytes: int) -> None:
    """Refuse a row that its changelog would refuse, in the event that writes it.

    Args:
        table: Its name.
        key: The ordered bytes of the key.
        data: The bytes of the value.
        max_bytes: What the changelog takes.

    Raises:
        TooLargeError: The row is larger.
    """
    size = len(key) + len(data) + _ROW_BYTES
    if size > max_bytes:
        msg = f"Table {table}, key {decode_key(key)!r:.80}: a row of {size:,} bytes is too large"
        hint = f"Its changelog takes {max_bytes:,}: keep less, or raise its max.message.bytes"
        raise TooLargeError(msg, hint=hint)


@dataclass(frozen=True, slots=True)
class RowCodec:
    """How a table's values become bytes, and which of them memory may share as they are."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    atoms: Mapping[type, Callable[[Any], bool]]
    #: The declared record, if it is one: many of them are encoded at once.
    record: type[msgspec.Struct] | None = None
    #: Types of numbers that a field of the record can be read again with, where that is known.
    numbers: Mapping[str, Collection[type]] = field(default_factory=dict)

    def hold(self, value: object) -> object:
        """Return the form in which memory keeps a value; encodes one that it may not share now.

        Raises:
            EncodeError: The value cannot be stored.
        """
        may_share = self.atoms.get(type(value))
        if may_share is not None and may_share(value):
            return value
        return Packed(self.encode(value))

    def may_share(self, values: Collection[object]) -> bool:
        """Tell whether memory may share all of these as they are; a ``False`` may be wrong."""
        kinds = {*map(type, values)}
        if kinds == {int} and int in self.atoms:
            numbers = cast("Collection[int]", values)
            return -(1 << 63) <= min(numbers) <= max(numbers) < 1 << 63
        # The sum is not finite where one of them is not.
        return kinds == {float} and float in self.atoms and math.isfinite(sum(cast("Any", values)))

    def is_same(self, one: object, other: object) -> bool:
        """Tell whether two held values are one; ``1``, ``1.0`` and ``True`` are three."""
        return one is other or self.pack(one) == self.pack(other)

    def pack(self, held: object) -> bytes | None:
        """Return the bytes of a held value; ``None`` for a deleted row."""
        if held is ABSENT:
            return None
        # A scalar that memory shares has passed the checks of ``encode``.
        return held.data if type(held) is Packed else _encode_scalar(held)

    def pack_all(self, held: Sequence[object]) -> list[bytes | None]:
        """Return ``pack`` of each; a third of the time if all are integers, or all are floats."""
        if {*map(type, held)} in _NUMBERS:
            return [*_encode_scalar(held)[1:-1].split(b",")]
        return [*map(self.pack, held)]

    def unpack(self, data: bytes | None) -> object:
        """Return the held form of stored bytes."""
        if data is None:
            return ABSENT
        if not self.atoms:
            return Packed(data)
        value = self.decode(data)
        return value if type(value) in self.atoms else Packed(data)


def _is_short_text(text: str) -> bool:
    # Longer text may exceed the codec's bound, other text may hold a lone surrogate.
    return len(text) < _SHORT_TEXT and text.isascii()


#: JSON's scalars, each with what a value must be so that encoding it later cannot fail: a row that
#: the commit cannot write would hold all others up.
_SHARED: Final[dict[type, Callable[[Any], bool]]] = {
    bool: lambda _: True,
    float: math.isfinite,
    int: lambda number: -(1 << 63) <= number < 1 << 63,
    str: _is_short_text,
    type(None): lambda _: True,
}


def row_codec(value_type: Any = Any, *, is_timed: bool = False) -> RowCodec:  # noqa: ANN401 - any annotation
    """Return how the values of a declared type are kept, as JSON.

    Memory shares scalars only where reading them back gives them as they were written: none that is
    of another type than declared, and none where rows carry their time (``is_timed``).

    Raises:
        ConfigError: The type has no form in JSON.
    """
    is_open = value_type in (Any, None)
    kinds = () if is_timed else _SHARED if is_open else {value_type} & _SHARED.keys()
    encode: Callable[[Any], bytes] = value_encoder(value_type, "json")
    decode = value_decoder(value_type, "json")
    if not is_open and value_type not in _SHARED:
        encode = _readable(encode, decode)
    atoms = {kind: _SHARED[kind] for kind in kinds}
    if isinstance(value_type, type) and issubclass(value_type, msgspec.Struct):
        return RowCodec(encode, decode, atoms, value_type, _numbers_of(value_type))
    return RowCodec(encode, decode, atoms)


def _numbers_of(record: type[msgspec.Struct]) -> dict[str, Collection[type]]:
    numbers: dict[str, Collection[type]] = {}
    for one in msgspec.structs.fields(record):
        is_union = get_origin(one.type) in (Union, UnionType)
        kinds = get_args(one.type) if is_union else (one.type,)
        if all(kind in (int, float, NoneType) for kind in kinds):
            # An integer is a fine float.
            numbers[one.name] = {*kinds, int} if float in kinds else {*kinds}
    return numbers


def _readable(
    encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]
) -> Callable[[Any], bytes]:
    """Refuse what could be written, but not read again: nobody checks a record's fields before."""

    def encode_readable(value: Any) -> bytes:  # noqa: ANN401 - any value
        data = encode(value)
        try:
            decode(data)
        except DecodeError as exc:
            message = f"it could not be read again: {exc.message}"
            hint = "Write what the table declares as its value_type"
            raise EncodeError(message, hint=hint) from exc
        return data

    return encode_readable
