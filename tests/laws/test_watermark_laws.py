"""Watermarks never go back, agree with a naive model, and never take silence for a promise."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.event_time import EventTime
from streamapp.core.int_columns import ints
from streamapp.core.times import COLUMN_LIMIT_MS, NEVER_MS
from streamapp.core.watermarks import (
    CombinedWatermark,
    Headway,
    PartitionWatermark,
    combined,
    watermark_of,
)

#: A small grid, so that boundaries meet; the ends of the range; and records without a time.
TIMES = st.integers(-6, 6) | st.sampled_from([NEVER_MS, NEVER_MS + 1, -NEVER_MS - 1])
BOUNDS = st.integers(0, 4) | st.just(COLUMN_LIMIT_MS)


def naive(times: list[int], bound_ms: int) -> int:
    """Return the watermark after these records."""
    return max([NEVER_MS, *(time - bound_ms - 1 for time in times)])


@given(st.lists(st.lists(TIMES, max_size=5), max_size=4), BOUNDS)
def test_partition_equals_the_model_wherever_batches_are_cut(
    batches: list[list[int]], bound_ms: int
) -> None:
    watermark = PartitionWatermark(bound_ms)
    marks = [mark for batch in batches for mark in watermark.before(batch)]
    times = [time for batch in batches for time in batch]
    assert marks == [naive(times[:index], bound_ms) for index in range(len(times))]
    assert watermark.watermark_ms == naive(times, bound_ms)
    assert marks == sorted(marks)
    assert watermark.watermark_ms == watermark_of(max(times, default=NEVER_MS), bound_ms)


@given(st.lists(TIMES, min_size=1, max_size=9), TIMES, BOUNDS, st.integers(64, 80))
def test_partition_equals_the_model_where_many_come_at_once(
    times: list[int], was_ms: int, bound_ms: int, count: int
) -> None:
    many = (times * count)[:count]
    watermark = PartitionWatermark(bound_ms, was_ms)
    expected = [max(was_ms, naive(many[:index], bound_ms)) for index in range(count)]
    assert [*watermark.before(many)] == expected
    again = PartitionWatermark(bound_ms, was_ms)
    assert [*again.before(ints(many))] == expected
    assert watermark.watermark_ms == max(was_ms, naive(many, bound_ms))


@given(TIMES, TIMES, TIMES)
def test_partition_goes_on_from_where_it_was(was_ms: int, told_ms: int, time_ms: int) -> None:
    watermark = PartitionWatermark(2, was_ms)
    watermark.advance_to(told_ms)
    assert watermark.watermark_ms == max(was_ms, told_ms)
    assert watermark.before([time_ms]) == [max(was_ms, told_ms)]
    assert watermark.watermark_ms == max(was_ms, told_ms, time_ms - 3)


@given(TIMES, BOUNDS, st.integers(0, 6), st.integers(1, 4), st.sampled_from(["no", "wallclock"]))
def test_silence_alone_never_takes_back(
    time_ms: int, bound_ms: int, silent_ms: int, idle_ms: int, on_idle: str
) -> None:
    how = EventTime(bound_ms=bound_ms, idle_ms=idle_ms, advance_on_idle=on_idle)
    awake, silent = how.headway(time_ms, 0), how.headway(time_ms, silent_ms)
    assert awake == Headway(watermark_of(time_ms, bound_ms))
    assert awake.watermark_ms <= silent.watermark_ms <= awake.watermark_ms + silent_ms


class Model:
    """All that was ever said, and the rule of the combined watermark in one line each."""

    def __init__(self, inputs: list[str]) -> None:
        self.known = dict.fromkeys(inputs, (NEVER_MS, False))
        self.watermark_ms = NEVER_MS

    def apply(self, step: tuple[str, str, int, bool]) -> None:
        kind, name, watermark_ms, is_idle = step
        if kind == "update":
            before = self.known.get(name, (NEVER_MS, False))[0]
            self.known[name] = (max(before, watermark_ms), is_idle)
        elif kind == "declare":
            self.known.setdefault(name, (NEVER_MS, False))
        else:
            self.known.pop(name, None)
        awake = [watermark for watermark, is_idle in self.known.values() if not is_idle]
        if awake and min(awake) > self.watermark_ms:
            self.watermark_ms = min(awake)

    @property
    def is_idle(self) -> bool:
        return all(is_idle for _, is_idle in self.known.values())


NAMES = st.sampled_from("abc")
STEPS = st.tuples(
    st.sampled_from(["update", "update", "update", "declare", "forget"]),
    NAMES,
    TIMES,
    st.booleans(),
)


def apply(combined_: CombinedWatermark, step: tuple[str, str, int, bool]) -> None:
    kind, name, watermark_ms, is_idle = step
    if kind == "update":
        assert combined_.update(name, watermark_ms, is_idle=is_idle) == combined_.watermark_ms
    elif kind == "declare":
        combined_.declare(name)
    else:
        combined_.forget(name)


@given(st.lists(NAMES, max_size=3), st.lists(STEPS, max_size=8), st.integers(0, 8))
def test_combined_equals_the_model_also_through_a_restart(
    inputs: list[str], steps: list[tuple[str, str, int, bool]], restart_at: int
) -> None:
    whole, model = CombinedWatermark(inputs), Model(inputs)
    for index, step in enumerate(steps):
        if index == restart_at:
            whole = CombinedWatermark.restored(json.loads(json.dumps(whole.snapshot())))
        before = whole.watermark_ms
        apply(whole, step)
        model.apply(step)
        assert whole.watermark_ms >= before
        assert (whole.watermark_ms, whole.is_idle) == (model.watermark_ms, model.is_idle)
        heard = [headway.watermark_ms for headway in whole.inputs.values()]
        if step[0] != "forget":
            # Idle never means infinity: nobody is ahead of all that was ever said.
            assert whole.watermark_ms <= max([NEVER_MS, before, *heard])


@given(st.lists(st.builds(Headway, TIMES, st.booleans()), max_size=4), TIMES)
def test_combination_knows_no_order(headways: list[Headway], before_ms: int) -> None:
    once = combined(headways, before_ms)
    assert once == combined(reversed(headways), before_ms)
    assert combined(headways, once.watermark_ms) == once


def test_declared_input_is_waited_for_until_it_is_heard_or_idle() -> None:
    whole = CombinedWatermark(["a", "b"])
    assert whole.update("a", 5) == NEVER_MS
    assert whole.update("b", NEVER_MS, is_idle=True) == 5
    assert not whole.is_idle


def test_input_that_comes_back_counts_again_and_takes_nothing_back() -> None:
    whole = CombinedWatermark(["a", "b"])
    whole.update("a", 5)
    whole.update("b", 3)
    assert whole.update("b", 3, is_idle=True) == 5
    assert whole.update("b", 4) == 5
    whole.update("a", 9)
    assert whole.watermark_ms == 5
    assert whole.update("b", 7) == 7


def test_idle_together_stay_where_they_are() -> None:
    whole = CombinedWatermark(["a", "b"])
    whole.update("a", 5)
    whole.update("b", 3)
    whole.update("b", 3, is_idle=True)
    assert whole.update("a", 8, is_idle=True) == 5
    assert whole.is_idle
    assert CombinedWatermark().is_idle


@pytest.mark.parametrize("snapshot", [None, {}, {"watermark_ms": "x", "inputs": {}}, []])
def test_foreign_snapshot_is_refused(snapshot: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        CombinedWatermark.restored(snapshot)
