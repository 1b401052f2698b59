"""The state of aligned windows as bytes: one row for each cell and key, in the order of time.

=======  =========================================================================================
row      bytes
=======  =========================================================================================
key      ordered bytes of ``(start of the cell, key)``: a cell is a range, time is the order
value    JSON ``[2, *aggregates]``, or ``[1, pending, *aggregates]``: ``pending`` is the watermark
         at which a change that was not emitted yet is due (``FOREVER_MS``: at a commit)
=======  =========================================================================================

What has fired is no part of the state: it follows from the watermark.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final

import msgspec

from streamapp.core.aggregates import Acc, AggregateSet
from streamapp.core.times import plus
from streamapp.core.windows import Grid, Hopping, Tumbling
from streamapp.errors import StateError
from streamapp.operators.operator import StateView
from streamapp.serde.ordered_keys import decode_key, encode_all_under, encode_key, encode_under

_PENDING: Final = 1
_SETTLED: Final = 2
#: Bounds of all rows: their keys are tuples.
_FIRST, _END = encode_key(()), b"\x51"

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_decode = msgspec.json.Decoder(list[Any]).decode


@dataclass(frozen=True, slots=True)
class StateRow:
    """A row of the state, read."""

    key: Any
    pending_ms: int | None
    packed: list[Any]

    def is_pending(self, watermark_ms: int) -> bool:
        """Whether it has changed since the last update, as of a watermark."""
        return self.pending_ms is not None and self.pending_ms > watermark_ms


def head_of(start_ms: int) -> bytes:
    """Return the bytes with which the keys of a cell's rows begin."""
    return encode_key((start_ms,))


def to_bytes(packed: list[Any], pending_ms: int | None) -> bytes:
    """Return the value of a row."""
    return _encode([_SETTLED, *packed] if pending_ms is None else [_PENDING, pending_ms, *packed])


def raw_keys(start_ms: int, keys: Collection[object]) -> list[bytes]:
    """Return the keys of the rows of a cell."""
    return encode_all_under(head_of(start_ms), keys)


def all_to_bytes(
    packed: Sequence[Sequence[object]], pending_ms: Iterable[int | None] | None
) -> list[bytes]:
    """Return ``to_bytes`` of many rows; ``packed`` has a list for each slot."""
    if pending_ms is not None:
        pairs = zip(zip(*packed, strict=True), pending_ms, strict=True)
        return [to_bytes([*row], pending) for row, pending in pairs]
    lines = _encode_lines([*zip(repeat(_SETTLED), *packed)]).split(b"\n")
    lines.pop()
    return lines


def row_at(state: StateView, start_ms: int, key: object) -> StateRow | None:
    """Read the row of a key in a cell."""
    data = state.get(encode_under(head_of(start_ms), key))
    return None if data is None else _row(key, data)


def rows_of(state: StateView, start_ms: int) -> Iterator[StateRow]:
    """Read all rows of a cell, in the order of the keys."""
    for raw, data in state.scan(head_of(start_ms), head_of(start_ms + 1)):
        yield _row(decode_key(raw)[1], data)


def cells_of(state: StateView) -> Iterator[int]:
    """Find the starts of all cells in the state, in order; one seek for each."""
    at = _FIRST
    while (found := next(iter(state.scan(at, _END)), None)) is not None:
        start: int = decode_key(found[0])[0]
        yield start
        at = head_of(start + 1)


def view_of(
    spec: Tumbling | Hopping, aggregates: AggregateSet
) -> Callable[[bytes, bytes], tuple[object, dict[str, object]]]:
    """Return what reads a row for people: ``(raw key, value)`` to the key and its results.

    A row of a hopping window is a pane, not yet a window: ``start`` and ``end`` are the pane's.
    """
    width = Grid.of(spec).cell_ms

    def view(raw_key: bytes, data: bytes) -> tuple[object, dict[str, object]]:
        start, key = decode_key(raw_key)
        acc: Acc = aggregates.unpack(_row(key, data).packed)
        results = zip(aggregates.names, aggregates.results(acc), strict=True)
        return key, {"start": plus(start, 0), "end": plus(start, width), **dict(results)}

    return view


def _row(key: object, data: bytes) -> StateRow:
    version, *packed = _decode(data)
    if version not in (_PENDING, _SETTLED):
        msg = f"The state of windows has format {version}; this program reads {_SETTLED}"
        raise StateError(msg, hint="Run the release that wrote it, or reset the pipeline's state")
    pending = packed.pop(0) if version == _PENDING else None
    return StateRow(key, pending, packed)
