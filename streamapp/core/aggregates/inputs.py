"""The fields of some values, read and checked once; as lists, and as arrays when asked for."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self, TypeVar, cast

import numpy as np
import numpy.typing as npt

from streamapp.core.aggregates.values import (
    MAX_NUMBER,
    Check,
    Field,
    InputsError,
    column_of,
    one_by_one,
    passes,
    read,
)
from streamapp.core.columned import known_column

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Objects = npt.NDArray[np.object_]
#: Numbers as they are exactly: all integers of 64 bits, all floats, or Python's of both kinds.
Numbers = Ints | Floats | Objects

T = TypeVar("T")

_DTYPES: Final = {"q": np.int64, "d": np.float64}
#: Values from which on arrays pay.
_MANY: Final = 64


def objects_of(values: Sequence[object]) -> Objects:
    """Return an array of these very objects, also if they are lists."""
    return np.fromiter(values, dtype=np.object_, count=len(values))


def numbers_of(values: Sequence[object]) -> Numbers:
    """Return numbers as an array of the narrowest kind that holds them exactly."""
    kinds = {*map(type, values)}
    try:
        if kinds == {float}:
            return np.fromiter(cast("Sequence[float]", values), np.float64, len(values))
        if kinds == {int}:
            return np.fromiter(cast("Sequence[int]", values), np.int64, len(values))
    except OverflowError:  # beyond 64 bits
        pass
    return objects_of(values)


class FieldColumn:
    """One field of all values: those that are not ``None``, and where they are.

    ``numbers`` are given where they are known already; then each value has one, and ``values`` may
    be made of them.
    """

    def __init__(self, values: list[object] | None, numbers: Numbers | None = None) -> None:
        self._values = values
        self._numbers = numbers

    @property
    def values(self) -> list[object]:
        """All values; ``None`` where there is none."""
        if self._values is None:
            self._values = cast("Numbers", self._numbers).tolist()
        return self._values

    @cached_property
    def _has_gaps(self) -> bool:
        return self._numbers is None and type(None) in {*map(type, self.values)}

    @cached_property
    def _present(self) -> list[object]:
        return [x for x in self.values if x is not None] if self._has_gaps else self.values

    def take(self, indices: Sequence[int]) -> FieldColumn:
        """Return the column of these values, in this order."""
        if self._values is None and self._numbers is not None:
            return FieldColumn(None, self._numbers[np.array(indices, np.int64)])
        return FieldColumn([self.values[i] for i in indices])

    @cached_property
    def index(self) -> Ints | None:
        """Positions of the values that are there; ``None`` if all are."""
        if not self._has_gaps:
            return None
        return np.array([i for i, x in enumerate(self.values) if x is not None], np.int64)

    @property
    def numbers(self) -> Numbers:
        """The values that are there, as numbers."""
        if self._numbers is None:
            self._numbers = numbers_of(self._present)
        return self._numbers

    @cached_property
    def floats(self) -> Floats:
        """The numbers, each as the nearest float."""
        return self.numbers.astype(np.float64, copy=False)

    @cached_property
    def objects(self) -> Objects:
        """The values that are there, as they are."""
        return objects_of(self._present)


@dataclass(frozen=True, slots=True)
class Slice:
    """What a field has in a run of values: ``[low, high)`` of its arrays.

    ``where`` are the positions in the run; ``None`` if each value of the run has the field.
    """

    column: FieldColumn
    low: int
    high: int
    where: Ints | None


class Inputs:
    """One column for each field of the set, all of the length of the values; ``None``: no value."""

    def __init__(self, columns: Sequence[FieldColumn], length: int) -> None:
        self._columns = columns
        self._length = length

    @classmethod
    def read(cls, checks: Mapping[Field, Check], values: Sequence[object]) -> Self:
        """Read these fields of all values, each once.

        Raises:
            InputsError: The first value that has no such field, or whose field fails its check.
        """
        return cls(_each(_read if len(values) >= _MANY else _read_few, checks, values), len(values))

    def __len__(self) -> int:
        """Return the number of values."""
        return self._length

    @cached_property
    def lists(self) -> list[list[object]]:
        """The columns as lists."""
        return [column.values for column in self._columns]

    def row(self, index: int) -> tuple[object, ...]:
        """Return the fields of one value."""
        return tuple([fields[index] for fields in self.lists])

    def take(self, indices: Sequence[int]) -> Inputs:
        """Return the fields of these values, in this order."""
        return Inputs([column.take(indices) for column in self._columns], len(indices))

    def part(self, field: int, start: int, stop: int) -> Slice:
        """Return a field of the values ``[start, stop)``; its arrays are made once."""
        column = self._columns[field]
        if column.index is None:
            return Slice(column, start, stop, None)
        low, high = np.searchsorted(column.index, (start, stop)).tolist()
        return Slice(column, low, high, column.index[low:high] - start)


def _each(
    reader: Callable[[Field, Check, Sequence[object]], T],
    checks: Mapping[Field, Check],
    values: Sequence[object],
) -> list[T]:
    """Return each field of all values; raises the error of the first value that has one."""
    found: list[T] = []
    first: InputsError | None = None
    for field, check in checks.items():
        # Behind a field that fails the next one may do so at an earlier value, at no later one.
        before = values if first is None else values[: first.index]
        try:
            found.append(reader(field, check, before))
        except InputsError as error:
            first = error
    if first is not None:
        raise first
    return found


def _read(field: Field, check: Check, values: Sequence[object]) -> FieldColumn:
    """Do as ``read``, and keep the array with which numbers were checked."""
    if check < Check.NUMBER:
        return FieldColumn(read(field, check, values))
    known = None if callable(field) else known_column(values, field)
    if isinstance(known, array):
        given = cast("Ints | Floats", np.frombuffer(known, _DTYPES[known.typecode]))
        if _are_bounded(given):
            return FieldColumn(None, given)
    try:
        column = column_of(field, values)
        numbers = numbers_of(column)
        if _are_bounded(numbers):
            return FieldColumn(column, numbers)
        if passes(column, check):
            return FieldColumn(column)
    except Exception:  # noqa: BLE001, S110 - read one by one, it says which value and why
        pass
    return FieldColumn(one_by_one(field, check, values))


def _read_few(field: Field, check: Check, values: Sequence[object]) -> FieldColumn:
    return FieldColumn(read(field, check, values))


def _are_bounded(numbers: Numbers) -> bool:
    """Say whether all are plain numbers within the greatest one; a ``False`` may be wrong."""
    if numbers.dtype == np.float64:
        return bool(np.abs(cast("Floats", numbers)).max() <= MAX_NUMBER)  # false for NaN too
    return numbers.dtype == np.int64
