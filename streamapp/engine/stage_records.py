"""What a stage reads of records beside their values and times: keys, and what only tells a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamapp.errors import DecodeError
from streamapp.operators.keys import no_key
from streamapp.pipelines.clock import WATERMARK_HEADER
from streamapp.pipelines.kept_keys import first_lost
from streamapp.serde.ordered_keys import decode_key

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from streamapp.core.batch import RecordBatch
    from streamapp.pipelines.plan import InputPlan

#: Stands for the key of a record whose key nobody asks for.
_NO_KEY: Final = ""


def keys_of(
    batch: RecordBatch, of_input: InputPlan, start: int, stop: int
) -> tuple[Sequence[Hashable], Exception | None]:
    """Return the keys of records up to the first that has none that can be used."""
    if not of_input.needs_keys:
        return [_NO_KEY] * (stop - start), None
    keys: list[Hashable] = []
    for raw in batch.keys[start:stop]:
        try:
            keys.append(_key_of(raw, of_input))
        except DecodeError as exc:
            return _kept(keys, of_input, exc)
    return _kept(keys, of_input, None)


def _kept(
    keys: Sequence[Hashable], of_input: InputPlan, failed: Exception | None
) -> tuple[Sequence[Hashable], Exception | None]:
    """Return the keys up to the first that an operator could not keep, if one would have to."""
    place = first_lost(keys) if of_input.keeps_keys else None
    if place is None:
        return keys, failed
    hint = "Give the record another one with .key_by(...) or .group_by(...)"
    return keys[:place], no_key(keys[place], hint)


def _key_of(raw: bytes | None, of_input: InputPlan) -> Hashable:
    if of_input.is_regrouped:
        return _NO_KEY if raw is None else decode_key(raw)
    if raw is None:
        if not of_input.requires_keys:
            return None
        msg = "The record has no key"
        raise DecodeError(msg, hint="Give it one with .key_by(...) or .group_by(...)")
    return of_input.topic.decode_key(raw)


def signals_of(batch: RecordBatch, start: int, stop: int) -> list[int]:
    """Return which of the records ``[start, stop)`` only tell of a watermark."""
    if batch.headers is None:
        return []
    return [
        place
        for place, value in enumerate(batch.values[start:stop])
        if value is None
        and batch.keys[start + place] is None  # a deletion has the key that it was given
        and any(name == WATERMARK_HEADER for name, _ in batch.headers[start + place])
    ]
