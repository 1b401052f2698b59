"""Times and watermarks in bulk: ``array("q")``, whose memory NumPy shares without a copy. Pure.

Such an array is a sequence of Python's own ints, so that what reads one of them gets no number of
NumPy's, which would overflow in silence. Its slices copy 8 bytes an entry and touch no object.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from streamapp.core.lists import one_list

if TYPE_CHECKING:
    from streamapp.core.windows import IntArray

#: Entries from which on NumPy pays.
_MANY: Final = 64


def ints(numbers: Sequence[object]) -> array[int]:
    """Return whole numbers as an array.

    Raises:
        TypeError: One is no whole number (a ``bool`` is one here).
        OverflowError: One does not fit 64 bits.
    """
    if isinstance(numbers, array) and numbers.typecode == "q":
        return numbers
    if len(numbers) >= _MANY and {*map(type, numbers)} == {int}:
        return of_numpy(as_numpy(cast("Sequence[int]", numbers)))  # in half of the time
    return array("q", numbers)  # type: ignore[arg-type] # what else there is, it refuses


def all_ints(parts: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return the numbers of all parts, one after the other."""
    if all(isinstance(part, array) for part in parts):
        found = array("q")
        for part in parts:
            found.extend(part)
        return found
    return one_list(parts)


def as_numpy(numbers: Sequence[int]) -> IntArray:
    """Return numbers for NumPy, to be read only; those of an ``array("q")`` without a copy."""
    import numpy as np  # noqa: PLC0415 - workers without pipelines do without it

    if isinstance(numbers, array):
        return np.frombuffer(numbers, np.int64) if numbers else np.empty(0, np.int64)
    return np.fromiter(numbers, np.int64, len(numbers))


def of_numpy(numbers: IntArray) -> array[int]:
    """Return numbers of NumPy as an array, in one copy."""
    found = array("q")
    found.frombytes(numbers.tobytes())
    return found


def bounds(numbers: array[int]) -> tuple[int, int]:
    """Return the least and the greatest of at least one number."""
    if len(numbers) < _MANY:
        return min(numbers), max(numbers)
    column = as_numpy(numbers)
    return int(column.min()), int(column.max())


def greatest(numbers: Sequence[int]) -> int:
    """Return the greatest of at least one number."""
    if isinstance(numbers, array) and len(numbers) >= _MANY:
        return int(as_numpy(numbers).max())
    return max(numbers)
