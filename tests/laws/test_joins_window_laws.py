"""Interval joins against all pairs of all records, however the records come in batches."""

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st
from support.join_models import Driver, JsonCodec, Record, arrivals, window_join, with_marks

from streamapp.operators.join import JoinKind, WindowJoin

CUTS = (1, 7, 100)
KINDS: tuple[JoinKind, ...] = ("inner", "left", "outer")
#: Rows that only take room go in steps of 100 ms: only large scales see that.
SCALES = st.sampled_from([1, 50])


def join(before: int, after: int, kind: JoinKind) -> Driver:
    return Driver(
        lambda view: WindowJoin(
            before,
            after,
            kind,
            lambda left, right: (left, right),
            view,
            (JsonCodec(), JsonCodec()),
        )
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Record], tuple[int, int, JoinKind]]:
    scale = draw(SCALES)
    before, after = draw(st.integers(-5, 5)), draw(st.integers(-5, 5))
    assume(before + after >= 0)
    records = draw(arrivals(scale=scale))
    return records, (before * scale, after * scale, draw(st.sampled_from(KINDS)))


@given(cases(), st.sampled_from(CUTS), st.sampled_from(["", "drain", "trim", "restart"]))
def test_results_are_those_of_all_pairs(case: Any, cut: int, after_batch: str) -> None:
    records, spec = case
    driver = join(*spec)
    results, late = window_join(records, *spec)
    assert driver.run(records, cut, after_batch) == results
    assert driver.late["dropped"] == late
    assert driver.most <= 2


@given(cases(), st.sampled_from(CUTS))
def test_nothing_is_left_when_all_time_has_passed(case: Any, cut: int) -> None:
    records, spec = case
    driver = join(*spec)
    driver.run(records, cut, "drain")
    assert driver.operator.size == 0
    assert [key for key in driver.view.rows if b"sequence" not in key] == []


@given(cases(), st.integers(0, 5), st.lists(st.integers(0, 5), min_size=60, max_size=60))
def test_order_inside_of_the_bound_changes_nothing(case: Any, bound: int, jitter: Any) -> None:
    records, spec = case
    named = [(n, r.side, r.key, r.time) for n, r in enumerate(records)]

    def shuffled(delays: list[int]) -> list[Record]:
        # A record that comes with a delay of at most the bound is never late.
        order = sorted(named, key=lambda one: (one[3] + min(delays[one[0]], bound), one[0]))
        marked = with_marks([one[1:] for one in order], bound)
        return [r._replace(value=one[0]) for r, one in zip(marked, order, strict=True)]

    one, other = join(*spec), join(*spec)
    first, again = one.run(shuffled(jitter[:30]), 7), other.run(shuffled(jitter[30:]), 7)
    assert sorted(map(repr, first)) == sorted(map(repr, again))
    assert one.late == other.late == {}
