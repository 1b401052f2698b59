"""What a limit on the rate lets pass, by a clock in the hands of the test."""

import pytest

from streamapp.core.rows import Rows
from streamapp.operators.limit import RateLimit, Wait

TOGETHER, BY_KEY = False, True


class Clock:
    def __init__(self) -> None:
        self.ms = 0

    def __call__(self) -> int:
        return self.ms


def rows_of(keys: str, origins: list[int] | None = None) -> Rows:
    numbers = list(range(len(keys)))
    return Rows(list(keys), numbers, numbers, numbers, origins or numbers)


def test_what_is_beyond_is_dropped_and_counted() -> None:
    clock = Clock()
    limit = RateLimit(2, 100, 2, TOGETHER, "drop", clock)
    assert limit.process(rows_of("abcd")).values == [0, 1]
    clock.ms = 50
    out = limit.process(rows_of("abcd"))
    assert (out.keys, out.values, out.origins) == (["a"], [0], [0])
    assert limit.dropped == 5


def test_rows_that_all_pass_are_passed_on_as_they_are() -> None:
    rows = rows_of("ab")
    assert RateLimit(2, 100, 2, TOGETHER, "drop", Clock()).process(rows) is rows


def test_each_key_has_its_own_rate() -> None:
    limit = RateLimit(1, 100, 1, BY_KEY, "drop", Clock())
    assert limit.process(rows_of("aabab")).values == [0, 2]


def test_the_first_row_without_a_token_waits_and_all_behind_it() -> None:
    clock = Clock()
    limit = RateLimit(1, 100, 2, TOGETHER, "delay", clock)
    with pytest.raises(Wait) as caught:
        limit.process(rows_of("abc"))
    wait = caught.value
    assert (wait.brought.values, wait.origin, wait.ms) == ([0, 1], 2, 100)
    clock.ms = 100
    assert limit.process(rows_of("c")).values == [0]


def test_rows_of_one_origin_wait_together() -> None:
    clock = Clock()
    limit = RateLimit(1, 100, 2, TOGETHER, "delay", clock)
    with pytest.raises(Wait) as caught:
        limit.process(rows_of("abc", [4, 7, 7]))
    assert (caught.value.brought.values, caught.value.origin) == ([0], 7)


def test_another_key_waits_behind_one_that_must_so_that_order_is_kept() -> None:
    limit = RateLimit(1, 100, 1, BY_KEY, "delay", Clock())
    with pytest.raises(Wait) as caught:
        limit.process(rows_of("aab"))
    assert caught.value.brought.values == [0]


def test_keys_that_have_been_silent_take_no_room() -> None:
    clock = Clock()
    limit = RateLimit(1, 10, 1, BY_KEY, "drop", clock)
    many = Rows(range(5_000), range(5_000), range(5_000), range(5_000), range(5_000))
    limit.process(many)
    assert limit.size == 5_000
    clock.ms = 10
    limit.process(rows_of("a"))
    assert limit.size == 1
