"""Times in bulk: arrays that NumPy shares."""

from __future__ import annotations

import numpy as np
import pytest

from streamapp.core.int_columns import as_numpy, bounds, greatest, ints, of_numpy

_LENGTHS = [1, 63, 64, 500]


@pytest.mark.parametrize("length", _LENGTHS)
def test_bounds_are_those_of_a_list(length: int) -> None:
    numbers = [(index * 7919) % 1000 - 500 for index in range(length)]
    assert bounds(ints(numbers)) == (min(numbers), max(numbers))
    assert greatest(ints(numbers)) == greatest(numbers) == max(numbers)
    assert {type(number) for number in bounds(ints(numbers))} == {int}


@pytest.mark.parametrize("numbers", [[], [-(1 << 63), (1 << 63) - 1, 0], [-7, 1 << 40] * 99])
def test_there_and_back(numbers: list[int]) -> None:
    assert as_numpy(numbers).tolist() == as_numpy(ints(numbers)).tolist() == numbers
    assert [*of_numpy(as_numpy(numbers))] == numbers
    assert [*of_numpy(as_numpy(numbers * 2)[::2])] == (numbers * 2)[::2]


def test_numpy_shares_the_memory() -> None:
    column = ints([1, 2])
    assert np.shares_memory(as_numpy(column), as_numpy(column))


@pytest.mark.parametrize("length", _LENGTHS)
@pytest.mark.parametrize("wrong", [1.0, "1", None])
def test_other_things_are_refused(wrong: object, length: int) -> None:
    with pytest.raises(TypeError):
        ints([*range(length), wrong])


@pytest.mark.parametrize("length", _LENGTHS)
def test_what_counts_as_a_whole_number(length: int) -> None:
    wide = [*range(length), True, np.int64(7)]
    assert [*ints(wide)] == [*range(length), 1, 7]


@pytest.mark.parametrize("length", _LENGTHS)
@pytest.mark.parametrize("wrong", [1 << 63, -(1 << 63) - 1])
def test_too_large_is_refused(wrong: int, length: int) -> None:
    with pytest.raises(OverflowError):
        ints([*range(length), wrong])
