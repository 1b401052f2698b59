"""A buffer of a pipeline: bytes, views, marks, what cannot be kept."""

from __future__ import annotations

import pytest
from support.operator_driver import DictState

from streamapp.core.buffer import Bounds, Excess
from streamapp.core.rate import Rate
from streamapp.core.rows import Rows
from streamapp.errors import EncodeError, TooLargeError
from streamapp.operators.buffer import BufferRows, Limits, buffer_view
from streamapp.operators.limit import Wait
from streamapp.operators.operator import RowError
from streamapp.pipelines.codecs import StateCodec


class Bench:
    def __init__(self, bounds: Bounds, excess: Excess = "block") -> None:
        self.now = 0
        self.limits = Limits(bounds, Rate(1, 100, 1), excess)
        self.state = DictState()
        self.buffer = self.begin()

    def begin(self) -> BufferRows:
        return BufferRows(self.limits, StateCodec(), self.state, lambda: self.now)


def rows_of(*values: object, key: object = "k") -> Rows:
    numbers = [*range(len(values))]
    times = [number * 10 for number in numbers]
    return Rows([key] * len(values), times, values, [7] * len(values), numbers)


def test_rows_leave_as_they_came_under_the_watermark_of_the_one_at_work() -> None:
    bench = Bench(Bounds(3))
    out = bench.buffer.process(rows_of({"a": 1}, {"a": 2}, key=("x", 1)))
    assert (out.keys, out.times, out.values, out.marks) == ([("x", 1)], [0], [{"a": 1}], [7])
    bench.now = 100
    out = bench.buffer.process(rows_of({"a": 3}))
    assert (out.keys, out.times, out.values) == ([("x", 1)], [10], [{"a": 2}])


def test_what_is_held_is_found_again_and_shown() -> None:
    bench = Bench(Bounds(3))
    bench.buffer.process(rows_of("a", "b", "c", key=5))
    bench.state.apply(bench.buffer)
    shown = [buffer_view(*row) for row in sorted(bench.state.rows.items())]
    assert shown == [
        (1, {"key": 5, "time_ms": 10, "value": "b"}),
        (2, {"key": 5, "time_ms": 20, "value": "c"}),
    ]
    again = bench.begin()
    assert again.size == 2
    assert again.on_commit().values == ["b"]
    assert bench.state.apply(again) == 1
    assert len(bench.state.rows) == 1


def test_bytes_are_bounded() -> None:
    bench = Bench(Bounds(100, 60), "drop_newest")
    assert bench.buffer.process(rows_of("a", *["b" * 10] * 9)).values == ["a"]
    assert 1 <= bench.buffer.size <= 3
    assert bench.buffer.held.size_bytes <= 60
    assert bench.buffer.size + bench.buffer.dropped == 9


def test_bounds_that_were_made_smaller_lose_nothing() -> None:
    bench = Bench(Bounds(5))
    bench.buffer.process(rows_of(1, 2, 3, 4))
    bench.state.apply(bench.buffer)
    bench.limits = Limits(Bounds(1), Rate(1, 100, 1), "drop_newest")
    assert bench.begin().size == 3


def test_the_source_waits_for_the_next_row_that_may_leave() -> None:
    bench = Bench(Bounds(1))
    with pytest.raises(Wait) as caught:
        bench.buffer.process(rows_of(1, 2, 3))
    assert (caught.value.brought.values, caught.value.origin, caught.value.ms) == ([1], 2, 100)


@pytest.mark.parametrize(
    ("value", "why"), [((1, 2), EncodeError), ("x" * 100, TooLargeError)], ids=["type", "size"]
)
def test_a_row_that_cannot_be_kept_is_in_error_and_changes_nothing(
    value: object, why: type[Exception]
) -> None:
    bench = Bench(Bounds(9, 50), "fail")
    with pytest.raises(RowError) as caught:
        bench.buffer.process(rows_of("a", value))
    assert isinstance(caught.value.__cause__, why)
    assert (caught.value.brought.values, caught.value.origin) == (["a"], 1)
    assert bench.buffer.size == 0
