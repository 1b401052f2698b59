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


@pytest.mark.parametrize("numbers", [[], [-(1 << 63), (1 << 63) - 1, 0]])
def test_there_and_back(numbers: list[int]) -> None:
    assert as_numpy(numbers).tolist() == as_numpy(ints(numbers)).tolist() == numbers
    assert [*of_numpy(as_numpy(numbers))] == numbers
    assert [*of_numpy(as_numpy(numbers * 2)[::2])] == (numbers * 2)[::2]


def test_numpy_shares_the_memory() -> None:
    column = ints([1, 2])
    assert np.shares_memory(as_numpy(column), as_numpy(column))


@pytest.mark.parametrize("wrong", [1.0, "1", None])
def test_other_things_are_refused(wrong: object) -> None:
    with pytest.raises(TypeError):
        ints([1, wrong])


def test_too_large_is_refused() -> None:
    with pytest.raises(OverflowError):
        ints([1 << 63])
