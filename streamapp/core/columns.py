"""Columns: one field of many records as an array, its type taken from the field's annotation.

``int`` is ``int64``, ``float`` ``float64``, ``bool`` ``bool_``, anything else Python objects. A
field that may be ``None`` is a masked array, which leaves those rows out of sums and comparisons.
The type never depends on the records in hand, so code works alike on every batch. Arrays are
read-only.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Final, NamedTuple, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from streamapp.core.aggregates.inputs import Floats, Ints, Objects, objects_of
from streamapp.core.aggregates.values import Check, InputsError, read
from streamapp.core.columned import known_column
from streamapp.core.text_array import TextArray, text_array
from streamapp.core.text_column import TextColumn
from streamapp.errors import InputError, UsageError

#: A column: a plain array, or a masked one where the field may be ``None``.
Mask = npt.NDArray[np.bool_]
Column = Ints | Floats | Mask | Objects
AnyColumn = TypeVar("AnyColumn", Column, Ints, Mask)

#: Types with an array of their own, and what a value of such a column may be.
_NUMBERS: Final[dict[object, tuple[str, frozenset[type]]]] = {
    bool: ("bool", frozenset({bool})),
    int: ("int64", frozenset({int})),
    float: ("float64", frozenset({float, int})),
}
#: Kinds of arrays whose numbers are added as those of Python, but for sums beyond 64 bits.
_ADDED_ALIKE: Final = frozenset({"i8", "f8"})


@dataclass(frozen=True, slots=True)
class ColumnType:
    """What a column holds: ``base`` is the annotation without ``None``."""

    base: object = object
    has_gaps: bool = False


class Slots(NamedTuple):
    """Keys numbered in the order in which they first appear: row ``i`` has ``keys[rows[i]]``."""

    keys: list[Hashable]
    rows: Ints


def column_type(annotation: object) -> ColumnType:
    """Return the type of column of an annotation; ``float | None`` has gaps."""
    if get_origin(annotation) in (Union, UnionType):
        given = get_args(annotation)
        others = [one for one in given if one is not NoneType]
        if len(others) == 1 and len(others) < len(given):
            return ColumnType(others[0], has_gaps=True)
    return ColumnType(annotation)


def field_types(declared: object) -> dict[str, ColumnType]:
    """Return the columns of a class with annotated fields; none of anything else."""
    if not isinstance(declared, type):
        return {}
    hints = get_type_hints(declared)
    return {name: column_type(hint) for name, hint in hints.items() if not name.startswith("_")}


def fields(name: str, records: Sequence[object]) -> Sequence[object]:
    """Return one field of each record (an attribute, or what a mapping has under that name).

    ``None`` where a record is ``None``, and where a mapping has no such key.

    Raises:
        InputError: A record has no such attribute.
    """
    known = known_column(records, name)
    if known is not None:
        return known
    try:
        return read(name, Check.ANYTHING, records)
    except InputsError as error:
        there = [one for one in records if one is not None]
        if len(there) == len(records):
            raise cast("Exception", error.__cause__) from error
    present = iter(fields(name, there))
    return [None if one is None else next(present) for one in records]


def column(values: Sequence[object], of: ColumnType, name: str) -> Column:
    """Return values as a read-only array of their type.

    Raises:
        InputError: A value is of another type, or an integer beyond 64 bits; names the column.
    """
    number = _NUMBERS.get(of.base)
    if number is None:
        return text_array(values) if isinstance(values, TextColumn) else frozen(objects_of(values))
    if isinstance(values, array):
        found = np.array(values, number[0])
        return masked(found, np.zeros(len(found), np.bool_)) if of.has_gaps else frozen(found)
    if not of.has_gaps:
        return frozen(_numbers(values, number, name))
    gaps = [value is None for value in values]
    blank = cast("type", of.base)()
    present = [blank if value is None else value for value in values] if any(gaps) else values
    return masked(_numbers(present, number, name), np.array(gaps, np.bool_))


def masked(data: Column, gaps: Mask) -> Column:
    """Return a read-only column with these gaps."""
    whole: object = np.ma.MaskedArray(frozen(data), mask=frozen(gaps))
    return cast("Column", whole)


def frozen(array: AnyColumn) -> AnyColumn:
    """Make an array read-only, and return it."""
    array.flags.writeable = False
    return array


def part(values: Column, rows: Ints) -> Column:
    """Return some rows of a column, read-only."""
    if isinstance(values, TextArray) and values.known is not None:
        return text_array(values.known.pick(rows.tolist()))
    taken: object = values[rows]
    if isinstance(taken, np.ma.MaskedArray):
        return masked(taken.data, np.ma.getmaskarray(taken))
    return frozen(cast("Column", taken))


def listed(values: object) -> Sequence[object]:
    """Return a column (or any iterable) as Python's own objects; ``None`` for what is masked."""
    if isinstance(values, np.ndarray):
        return cast("list[object]", values.tolist())
    return values if isinstance(values, Sequence) else [*cast("Iterable[object]", values)]


def exact(amounts: object, length: int) -> Ints | Floats | None:
    """Return ``length`` numbers as an array; ``None`` if no array adds them as Python does."""
    if type(amounts) is float or (type(amounts) is int and abs(amounts) < 1 << 63):
        return np.full(length, amounts)
    is_array = type(amounts) is np.ndarray and amounts.dtype.str[1:] in _ADDED_ALIKE
    return cast("Ints | Floats", amounts) if is_array else None


def chosen(mask: object, length: int) -> Ints:
    """Return the indices of the rows that a mask chooses; a gap chooses nothing.

    Raises:
        UsageError: It is no array of ``length`` booleans.
    """
    given = np.asarray(mask.filled(False) if isinstance(mask, np.ma.MaskedArray) else mask)  # noqa: FBT003 - NumPy's name
    if given.dtype != np.bool_ or given.shape != (length,):
        message = f"A mask of {given.dtype} {given.shape} cannot choose among {length} rows"
        raise UsageError(message, hint="Compare columns, as in batch.where(batch.amount > 10)")
    return np.flatnonzero(given)


def texts_of(values: object) -> TextColumn | None:
    """Return the texts that a column is of, where it pays to look at their numbers."""
    known = values.known if isinstance(values, TextArray) else None
    return known if known is not None and known.repeats else None


def numbered(column: object) -> Slots:
    """Number the keys in a column (or any iterable), in the order in which they first appear."""
    texts = texts_of(column)
    if texts is not None:
        names, rows = texts.numbered()
        return Slots(cast("list[Hashable]", names), frozen(rows))
    keys, slots = listed(column), _Numbers()
    index = np.fromiter(map(slots.__getitem__, keys), np.int64, len(keys))
    return Slots([*slots], frozen(index))


class _Numbers(dict[Hashable, int]):
    """Gives each new key the next number."""

    def __missing__(self, key: Hashable) -> int:
        number = self[key] = len(self)
        return number


def _numbers(values: Sequence[object], number: tuple[str, frozenset[type]], name: str) -> Column:
    kind, allowed = number
    others = {*map(type, values)} - allowed
    if others:
        wrong = next(value for value in values if type(value) in others)
        message = f"Column {name!r} of {kind} cannot hold {wrong!r:.80}"
        raise InputError(message, hint="Declare the field as what its records hold")
    try:
        found: object = np.fromiter(values, kind, len(values))
    except OverflowError as error:
        message = f"Column {name!r}: an integer is beyond 64 bits"
        raise InputError(message, hint="Declare the field as a float or a str") from error
    return cast("Column", found)
