"""The packed form of consecutive records of one partition: columns first, then the bytes.

It knows nothing of files. A column that carries no information (dense offsets, no key at all, no
header at all) costs nothing. The base offset lives outside, so that packing needs no lock.

Layout, little endian: ``flags u8, count u32``; then, as the flags say, ``offset - base`` (u32
each), timestamps (i64 each), key lengths, value lengths (i32 each, -1 is null), header lengths (i32
each); then all keys, all values, all headers. The headers of a record: per header ``name length
u16, value length u32, name, value``.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from streamapp.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamapp.core.batch import Headers

_HEAD = struct.Struct("<BI")
_HEADER = struct.Struct("<HI")
_WHERE = struct.Struct("<qqI")
_SPARSE, _KEYS, _VALUES, _HEADERS = 1, 2, 4, 8
_PLAIN = _KEYS | _VALUES
_NULL = -1
#: Records of a row up to which calls cost more than what they do: it is read by few of them.
_FEW = 32
#: The numbers of such a row: times and lengths.
_NUMBERS = [struct.Struct(f"<{count}q{2 * count}i") for count in range(_FEW + 1)]
_SWAP = sys.byteorder == "big"


class Columns(NamedTuple):
    """Records as columns of equal length; ``headers`` is ``None`` when no record has any."""

    offsets: Sequence[int]
    timestamps: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers] | None


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed batch that does not know its base offset yet; ``last`` is relative to it."""

    count: int
    last: int
    data: bytes
    crc: int

    def seal(self, base: int) -> int:
        """Return the checksum of the bytes and of the place where they are stored."""
        return zlib.crc32(_WHERE.pack(base, base + self.last, self.count), self.crc)


def pack(columns: Columns) -> Packed:
    """Pack at least one record; only the differences between the offsets are kept."""
    offsets, count = columns.offsets, len(columns.offsets)
    base, last = offsets[0], offsets[-1] - offsets[0]
    flags = 0
    parts: list[bytes] = []
    if last != count - 1:
        flags |= _SPARSE
        parts.append(_ints("I", [offset - base for offset in offsets]))
    parts.append(_ints("q", columns.timestamps))
    bodies: list[bytes] = []
    for flag, column in ((_KEYS, columns.keys), (_VALUES, columns.values)):
        if column.count(None) < count:
            flags |= flag
            lengths, body = _pack_bytes(column)
            parts.append(lengths)
            bodies.append(body)
    if columns.headers is not None and any(columns.headers):
        flags |= _HEADERS
        lengths, body = _pack_bytes([_pack_headers(headers) for headers in columns.headers])
        parts.append(lengths)
        bodies.append(body)
    data = b"".join((_HEAD.pack(flags, count), *parts, *bodies))
    return Packed(count, last, data, zlib.crc32(data))


def unpack(data: bytes, base: int, last: int, crc: int) -> Columns:
    """Return the records of a row.

    Raises:
        BrokerError: The bytes are not those that were written at this place.
    """
    if len(data) < _HEAD.size:
        msg = "the batch is cut short"
        raise BrokerError(msg)
    flags, count = _HEAD.unpack_from(data)
    if zlib.crc32(_WHERE.pack(base, last, count), zlib.crc32(data)) != crc:
        msg = "the checksum of the batch is wrong"
        raise BrokerError(msg)
    small = _unpack_small(data, base, count) if flags == _PLAIN and count <= _FEW else None
    return small or _unpack_any(data, base, flags, count)


def _unpack_small(data: bytes, base: int, count: int) -> Columns | None:
    """Return dense records with key and value but no headers; ``None`` if a key or value is null.

    Rows of one to a few records are what single sends leave: there are many of them.
    """
    numbers = _NUMBERS[count].unpack_from(data, _HEAD.size)
    lengths = numbers[count:]
    if _NULL in lengths:
        return None
    ends = accumulate(lengths, initial=_HEAD.size + _NUMBERS[count].size)
    texts = [data[start:end] for start, end in pairwise(ends)]
    offsets = range(base, base + count)
    return Columns(offsets, numbers[:count], texts[:count], texts[count:], None)


def _unpack_any(data: bytes, base: int, flags: int, count: int) -> Columns:
    at = _HEAD.size
    offsets: Sequence[int] = range(base, base + count)
    if flags & _SPARSE:
        deltas, at = _read_ints("I", data, at, count)
        offsets = [base + delta for delta in deltas]
    timestamps, at = _read_ints("q", data, at, count)
    lengths = []
    for flag in (_KEYS, _VALUES, _HEADERS):
        column = None
        if flags & flag:
            column, at = _read_ints("i", data, at, count)
        lengths.append(column)
    keys, at = _unpack_bytes(data, at, lengths[0], count)
    values, at = _unpack_bytes(data, at, lengths[1], count)
    headers = None
    if lengths[2] is not None:
        packed, at = _unpack_bytes(data, at, lengths[2], count)
        headers = [_unpack_headers(one or b"") for one in packed]
    return Columns(offsets, timestamps, keys, values, headers)


def _ints(code: str, numbers: Sequence[int]) -> bytes:
    packed = array(code, numbers)
    if _SWAP:
        packed.byteswap()
    return packed.tobytes()


def _read_ints(code: str, data: bytes, at: int, count: int) -> tuple[list[int], int]:
    numbers = array(code)
    end = at + count * numbers.itemsize
    numbers.frombytes(data[at:end])
    if _SWAP:
        numbers.byteswap()
    return numbers.tolist(), end


def _pack_bytes(column: Sequence[bytes | None]) -> tuple[bytes, bytes]:
    if None not in column:
        return _ints("i", list(map(len, column))), b"".join(column)  # type: ignore[arg-type]  # no None in it
    lengths = [_NULL if one is None else len(one) for one in column]
    return _ints("i", lengths), b"".join([one for one in column if one is not None])


def _unpack_bytes(
    data: bytes, at: int, lengths: list[int] | None, count: int
) -> tuple[Sequence[bytes | None], int]:
    if lengths is None:
        return [None] * count, at
    if _NULL not in lengths:
        # One call for all of them takes two thirds of the time of slices.
        cut = struct.Struct("%ds" * count % tuple(lengths))
        return cut.unpack_from(data, at), at + cut.size
    column: list[bytes | None] = []
    for length in lengths:
        if length == _NULL:
            column.append(None)
        else:
            column.append(data[at : at + length])
            at += length
    return column, at


def _pack_headers(headers: Headers) -> bytes:
    parts: list[bytes] = []
    for name, value in headers:
        encoded = name.encode()
        parts += (_HEADER.pack(len(encoded), len(value)), encoded, value)
    return b"".join(parts)


def _unpack_headers(data: bytes) -> Headers:
    headers: list[tuple[str, bytes]] = []
    at = 0
    while at < len(data):
        name_length, value_length = _HEADER.unpack_from(data, at)
        start = at + _HEADER.size
        end = start + name_length
        at = end + value_length
        headers.append((data[start:end].decode(), data[end:at]))
    return tuple(headers)
