"""Token buckets in whole numbers."""

import pytest

from streamapp.core.rate import Level, Rate
from streamapp.errors import ConfigError


def test_a_burst_passes_at_once_and_the_next_one_waits() -> None:
    rate = Rate(rate=10, per_ms=1_000, burst=3)
    level = rate.full(0)
    for _ in range(3):
        assert rate.wait_ms(level) == 0
        level = rate.less(level)
    assert rate.wait_ms(level) == 100
    assert rate.wait_ms(rate.filled(level, 99)) == 1
    assert rate.wait_ms(rate.filled(level, 100)) == 0


def test_waiting_is_rounded_up_to_a_whole_millisecond() -> None:
    rate = Rate(rate=3, per_ms=10, burst=1)
    empty = rate.less(rate.full(0))
    assert rate.wait_ms(empty) == 4
    assert rate.wait_ms(rate.filled(empty, 3)) == 1


def test_a_third_of_a_token_is_not_lost() -> None:
    rate = Rate(rate=1, per_ms=3, burst=1)
    level = rate.less(rate.full(0))
    for now_ms in (1, 2, 3):
        level = rate.filled(level, now_ms)
    assert rate.wait_ms(level) == 0


def test_no_more_than_the_burst_is_saved() -> None:
    rate = Rate(rate=1, per_ms=1, burst=2)
    assert rate.filled(rate.full(0), 1_000_000) == Level(2, 1_000_000)


def test_more_than_the_burst_waits_for_a_full_bucket_and_leaves_a_debt() -> None:
    rate = Rate(rate=1, per_ms=10, burst=2)
    level = rate.less(rate.full(0))
    assert rate.wait_ms(level, 5) == 10
    level = rate.less(rate.filled(level, 10), 5)
    assert rate.wait_ms(level) == 40
    assert not rate.is_full(rate.filled(level, 49))
    assert rate.is_full(rate.filled(level, 60))


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    rate = Rate(rate=1, per_ms=10, burst=1)
    level = rate.filled(rate.less(rate.full(1_000)), 500)
    assert rate.wait_ms(level) == 10
    assert rate.wait_ms(rate.filled(level, 510)) == 0


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-5, 1, 1)])
def test_what_is_no_rate_is_refused_with_its_numbers(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match=str(min(numbers))):
        Rate(*numbers)
