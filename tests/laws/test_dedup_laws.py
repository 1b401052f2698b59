"""Deduplication against a list of all records that passed."""

from collections import Counter
from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from support.join_models import Driver, MapView, Record, Result, arrivals, rows_of

from streamapp.operators.dedup import Dedup, dedup_view

CUTS = (1, 7, 100)


def naive(records: list[Record], within: int) -> tuple[list[Result], int]:
    """Return what passes, and how many of that was late."""
    passed: list[Record] = []
    late = 0
    for record in records:
        known = [
            other
            for other in passed
            if (other.key, identity(other.value)) == (record.key, identity(record.value))
            and other.time + within > record.mark
            and abs(other.time - record.time) <= within
        ]
        if not known:
            passed.append(record)
            late += record.time <= record.mark
    return [Result(record.key, record.time, record.value) for record in passed], late


def identity(value: int) -> int:
    return value % 2


def dedup(within: int) -> Driver:
    return Driver(lambda view: Dedup(identity, within, view))


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Record], int]:
    scale = draw(st.sampled_from([1, 50]))
    return draw(arrivals(sides=1, scale=scale)), draw(st.integers(0, 6)) * scale


@given(cases(), st.sampled_from(CUTS), st.sampled_from(["", "drain", "trim", "restart"]))
def test_what_passes_is_what_no_record_before_was_near(
    case: tuple[list[Record], int], cut: int, after_batch: str
) -> None:
    records, within = case
    driver = dedup(within)
    results, late = naive(records, within)
    assert driver.run(records, cut, after_batch) == results
    assert driver.late == Counter(passed=late)
    assert driver.most <= 2
    if after_batch != "restart":
        assert isinstance(driver.operator, Dedup)
        assert driver.operator.dropped == len(records) - len(results)


@given(cases(), st.sampled_from(CUTS))
def test_nothing_is_left_when_all_time_has_passed(case: tuple[list[Record], int], cut: int) -> None:
    records, within = case
    driver = dedup(within)
    driver.run(records, cut, "drain")
    assert (driver.operator.size, driver.view.rows) == (0, {})


@given(arrivals(sides=1))
def test_a_table_shows_each_id_with_the_times_that_passed(records: list[Record]) -> None:
    view = MapView()
    operator = Dedup(identity, 10_000, view)
    passed = operator.process(rows_of(records))
    view.apply(operator.drain())
    shown = dict(filter(None, (dedup_view(*row) for row in view.rows.items())))
    assert shown == {
        (key, identity(cast("int", value))): [time]
        for key, time, value in zip(passed.keys, passed.times, passed.values, strict=True)
    }
