"""Sketches keep their bounds, whatever they are given and however they are merged."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.aggregates.lists import Frequent
from streamapp.core.aggregates.sketches import ACCURACY, EXACT_DISTINCT, Distinct, Quantiles

#: Rounding at the edge of a bucket.
SLACK = 1 + 1e-9


def distinct(values: Iterable[object]) -> Distinct:
    sketch = Distinct()
    for value in values:
        sketch.add(value)
    return sketch


def quantiles(values: Iterable[float]) -> Quantiles:
    sketch = Quantiles()
    for value in values:
        sketch.add(value)
    return sketch


def frequent(values: Iterable[object], capacity: int) -> Frequent:
    one = Frequent(capacity)
    for value in values:
        one.add(value)
    return one


# --- distinct -----------------------------------------------------------------------------------


def test_distinct_is_exact_while_small() -> None:
    assert distinct([*range(EXACT_DISTINCT), *range(EXACT_DISTINCT)]).result() == EXACT_DISTINCT
    assert distinct([]).result() == 0


def test_distinct_never_takes_more_room_than_its_registers() -> None:
    most = len(distinct(range(EXACT_DISTINCT)).pack())
    assert [len(distinct(range(n)).pack()) for n in (EXACT_DISTINCT + 1, 9_000)] == [most] * 2


@pytest.mark.parametrize("n", [EXACT_DISTINCT + 1, 1_000, 3_000, 10_000, 30_000, 100_000])
def test_distinct_estimates_within_four_standard_errors(n: int) -> None:
    assert distinct(f"user-{i}" for i in range(n)).result() == pytest.approx(n, rel=4 * 0.01625)


def test_the_error_of_distinct_is_the_promised_one() -> None:
    """Over many sets: no bias beyond the noise, and the spread of the documentation."""
    n, sets = 4_000, 60
    errors = [distinct((i, j).__repr__() for j in range(n)).result() / n - 1 for i in range(sets)]
    assert abs(sum(errors) / sets) < 4 * 0.01625 / math.sqrt(sets)
    assert math.sqrt(sum(e * e for e in errors) / sets) < 1.4 * 0.01625


def test_equal_values_count_once_and_kinds_apart() -> None:
    assert distinct([1, 1.0, True]).result() == 1
    assert distinct([0.5, "0.5", "1", 1, -1, 2**70, float(2**70), 1e140]).result() == 7
    assert distinct([0.0, -0.0, 0, False]).result() == 1


@pytest.mark.parametrize("sizes", [(100, 100), (500, 500), (10, 5_000), (5_000, 10), (900, 900)])
def test_merged_distinct_is_that_of_all_values(sizes: tuple[int, int]) -> None:
    left, right = range(sizes[0]), range(50, 50 + sizes[1])
    merged = distinct(left)
    merged.merge(distinct(right))
    assert merged.pack() == distinct([*right, *left]).pack()


@pytest.mark.parametrize("n", [0, 3, EXACT_DISTINCT, 2_000])
def test_stored_distinct_grows_alike(n: int) -> None:
    sketch = distinct(range(n))
    back = Distinct.unpack(msgspec.json.decode(msgspec.json.encode(sketch.pack())))
    for one in (sketch, back):
        for value in range(5_000, 6_000):
            one.add(value)
    assert back.pack() == sketch.pack()


def test_hashes_do_not_depend_on_the_process() -> None:
    program = (
        "from streamapp.core.aggregates.sketches import Distinct\n"
        "sketch = Distinct()\n"
        "for value in ('a', 1, 0.5): sketch.add(value)\n"
        "print(sketch.pack())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == distinct(["a", 1, 0.5]).pack()


# --- quantiles ----------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1e6, 1e6) | st.integers(-9, 9), min_size=1, max_size=40),
    st.sampled_from([0, 0.01, 0.25, 0.5, 0.9, 0.99, 1]),
)
def test_a_quantile_is_within_its_accuracy(values: list[float], q: float) -> None:
    # Magnitudes that are 6e17 times smaller than the greatest are outside of the promise.
    top = max(map(abs, values))
    values = [x for x in values if x == 0 or abs(x) > top / 1e15]
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    result = quantiles(values).result(q)
    assert result is not None
    assert abs(result - exact) <= ACCURACY * abs(exact) * SLACK


wild = st.sampled_from([0.0, 1e-140, -1e-140, 1e-9, 1.0, -1.0, 1.01, 7e8, -7e8, 1e140, -1e140])


@given(st.lists(wild, max_size=12), st.lists(wild, max_size=12))
def test_merged_quantiles_are_those_of_all_values(left: list[float], right: list[float]) -> None:
    merged = quantiles(left)
    merged.merge(quantiles(right))
    assert merged.pack() == quantiles([*right, *left]).pack()
    back = Quantiles.unpack(msgspec.json.decode(msgspec.json.encode(merged.pack())))
    assert back.pack() == merged.pack()


def test_the_space_of_quantiles_is_bounded() -> None:
    sketch = quantiles(s * 10.0**e for e in range(-140, 141) for s in (1, 3, -1, -3))
    _, positive, negative = sketch.pack()
    for store in (positive, negative):
        buckets = store[::2]  # type: ignore[index]  # a list
        assert max(buckets) - min(buckets) < 2_048
    assert sketch.result(1) == pytest.approx(3e140, rel=ACCURACY * SLACK)
    assert sketch.result(0) == pytest.approx(-3e140, rel=ACCURACY * SLACK)


def test_quantiles_of_nothing() -> None:
    assert Quantiles().result(0.5) is None


# --- frequent values ----------------------------------------------------------------------------


def test_frequent_values_are_exact_up_to_the_capacity() -> None:
    one = frequent([*"aabbbc"], 3)
    assert one.result(2) == [["b", 3], ["a", 2]]


def test_equal_counts_go_by_value_numbers_first() -> None:
    assert frequent(["b", 2, "a", 1.5, "b", 2], 9).result(9) == [
        [2, 2],
        ["b", 2],
        [1.5, 1],
        ["a", 1],
    ]


values_and_capacity = st.tuples(st.lists(st.integers(0, 7), max_size=40), st.integers(1, 4))


@given(values_and_capacity, st.lists(st.integers(0, 7), max_size=40))
def test_counts_are_too_low_by_at_most_the_share_of_the_capacity(
    values: tuple[list[int], int], others: list[int]
) -> None:
    mine, capacity = values
    one = frequent(mine, capacity)
    one.merge(frequent(others, capacity))
    exact = Counter([*mine, *others])
    bound = exact.total() / capacity
    assert len(one.counts) <= capacity
    for value, count in exact.items():
        got = one.counts.get(value, 0)
        assert count - bound <= got <= count


def test_one_heavy_value_among_many_is_found() -> None:
    values = [*range(5_000), *(["heavy"] * 600)]
    random.Random(3).shuffle(values)
    assert frequent(values, 1_000).result(1)[0][0] == "heavy"
