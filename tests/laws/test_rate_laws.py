"""Token buckets against fractions, and what a limit lets pass in any span of time."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.rate import Rate
from streamapp.core.rows import Rows
from streamapp.operators.limit import RateLimit, Wait

SMALL = st.integers(1, 7)
RATES = st.builds(Rate, SMALL, SMALL, SMALL)
GAPS = st.lists(st.integers(0, 5), max_size=40)

BY_KEY = True


def passed(rate: Rate, gaps: list[int]) -> list[int]:
    """Return the times of those that pass, of one that comes after each gap."""
    now, level, times = 0, rate.full(0), []
    for gap in gaps:
        now += gap
        level = rate.filled(level, now)
        if not rate.wait_ms(level):
            level = rate.less(level)
            times.append(now)
    return times


@given(RATES, GAPS)
def test_levels_are_those_of_exact_fractions(rate: Rate, gaps: list[int]) -> None:
    now, level, times = 0, Fraction(rate.burst), []
    for gap in gaps:
        now += gap
        level = min(level + Fraction(gap * rate.rate, rate.per_ms), Fraction(rate.burst))
        if level >= 1:
            level -= 1
            times.append(now)
    assert passed(rate, gaps) == times


@given(RATES, GAPS)
def test_no_span_of_time_sees_more_than_burst_and_rate(rate: Rate, gaps: list[int]) -> None:
    times = passed(rate, gaps)
    for first, start in enumerate(times):
        for last, end in enumerate(times[first:], first):
            most = rate.burst + Fraction((end - start) * rate.rate, rate.per_ms)
            assert last - first + 1 <= most


@given(RATES, st.integers(0, 20), st.integers(1, 9))
def test_after_the_wait_and_not_before_it_may_pass(rate: Rate, used: int, tokens: int) -> None:
    level = rate.less(rate.full(0), used)
    wait_ms = rate.wait_ms(level, tokens)
    assert rate.wait_ms(rate.filled(level, wait_ms), tokens) == 0
    if wait_ms:
        assert rate.wait_ms(rate.filled(level, wait_ms - 1), tokens) == 1


@given(RATES, st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3)), max_size=12))
def test_delay_loses_nothing_keeps_order_and_ends(
    rate: Rate, groups: list[tuple[str, int]]
) -> None:
    keys = [key for key, count in groups for _ in range(count)]
    origins = [origin for origin, (_, count) in enumerate(groups) for _ in range(count)]
    numbers = list(range(len(keys)))
    rows = Rows(keys, numbers, numbers, numbers, origins)
    now = 0
    limit = RateLimit(rate.rate, rate.per_ms, rate.burst, BY_KEY, "delay", lambda: now)
    out: list[object] = []
    for _ in range(len(groups) + 1):
        brought, wait = offered(limit, rows)
        out += brought.values
        if wait is None:
            break
        assert wait.ms > 0
        assert all(origin < wait.origin for origin in brought.origins)
        rows = rows.part(len(brought), len(rows))
        assert rows.origins[0] == wait.origin
        now += wait.ms
    assert out == numbers


def offered(limit: RateLimit, rows: Rows) -> tuple[Rows, Wait | None]:
    try:
        return limit.process(rows), None
    except Wait as wait:
        return wait.brought, wait
