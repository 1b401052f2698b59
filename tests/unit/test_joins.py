"""Joins, case by case: whose time a result has, what is late, and what an error leaves behind."""

from collections.abc import Sequence
from typing import Any

import pytest
from support.join_models import LEFT, RIGHT, JsonCodec, MapView, Result, results_of

from streamapp.core.rows import Rows
from streamapp.core.times import FOREVER_MS, NEVER_MS
from streamapp.errors import ConfigError, InputError
from streamapp.operators.expiring import TIMER
from streamapp.operators.join import AsOfJoin, JoinKind, Pair, TableJoin, WindowJoin, join_view
from streamapp.operators.operator import RowError
from streamapp.serde.ordered_keys import encode_key

CODECS = (JsonCodec(), JsonCodec())


def rows(*records: tuple[Any, int, Any], mark: int = NEVER_MS, origins: Sequence[int] = ()) -> Rows:
    keys, times, values = zip(*records, strict=True)
    return Rows(keys, times, values, [mark] * len(records), origins or range(len(records)))


def window_join(
    kind: JoinKind = "inner", *, view: MapView | None = None, combine: Any = Pair
) -> WindowJoin:
    """Join left records with right ones from 5 ms before to 10 ms after them."""
    return WindowJoin(5, 10, kind, combine, view or MapView(), CODECS)


def as_of(*, view: MapView | None = None, combine: Any = Pair) -> AsOfJoin:
    return AsOfJoin(10, combine, view or MapView(), CODECS)


def ratio(left: int, right: int) -> float:
    return left / right


@pytest.mark.parametrize(("right_ms", "met"), [(94, 0), (95, 1), (110, 1), (111, 0)])
def test_both_ends_of_the_interval_belong_to_it(right_ms: int, met: int) -> None:
    join = window_join()
    join.process(rows(("k", 100, "l")), LEFT)
    out = results_of(join.process(rows(("k", right_ms, "r")), RIGHT))
    assert out == [Result("k", max(100, right_ms), Pair("l", "r"))] * met


def test_keys_do_not_meet() -> None:
    join = window_join()
    join.process(rows(("a", 1, 1), ((b"x", 2), 1, 2)), LEFT)
    out = join.process(rows(("b", 1, 3), ((b"x", 2), 1, 4)), RIGHT)
    assert (out.keys, out.values) == ([(b"x", 2)], [Pair(2, 4)])


def test_a_result_has_the_mark_and_origin_of_the_row_that_completes_it() -> None:
    join = window_join()
    join.process(rows(("k", 100, "l"), ("k", 101, "m")), LEFT)
    out = join.process(rows(("x", 0, 0), ("k", 100, "r"), mark=80, origins=[3, 9]), RIGHT)
    assert (out.marks, out.origins) == ([80, 80], [9, 9])
    assert out.values == [Pair("l", "r"), Pair("m", "r")]


def test_an_unmatched_row_comes_at_the_last_instant_of_its_partners() -> None:
    join = window_join("left")
    row = rows(("k", 100, "l"))
    assert join.dues(row, LEFT) == [110]
    join.process(row, LEFT)
    assert join.next_due_ms <= 110
    assert len(join.advance(109)) == 0
    assert results_of(join.advance(110)) == [Result("k", 110, Pair("l", None))]
    assert (len(join.advance(110)), join.size, join.next_due_ms) == (0, 0, FOREVER_MS)


def test_an_outer_join_tells_of_both_sides_in_the_order_of_their_instants() -> None:
    join = window_join("outer")
    join.process(rows(("a", 100, "l")), LEFT)
    join.process(rows(("b", 104, "r"), ("a", 200, "s")), RIGHT)
    out = results_of(join.advance(1_000))
    assert [(one.time, one.value) for one in out] == [
        (109, Pair(None, "r")),
        (110, Pair("l", None)),
        (205, Pair(None, "s")),
    ]


def test_a_row_that_no_partner_can_wait_for_is_late() -> None:
    join = window_join()
    join.process(rows(("k", 10, "l"), mark=25), LEFT)
    assert (join.late, join.size) == ({"dropped": 1}, 0)
    join.process(rows(("k", 11, "l"), mark=25), LEFT)
    assert join.late == {"dropped": 1}


def test_a_row_behind_the_watermark_finds_the_partners_that_wait() -> None:
    join = window_join()
    join.process(rows(("k", 110, "r")), RIGHT)
    out = join.process(rows(("k", 100, "l"), mark=114), LEFT)
    assert out.values == [Pair("l", "r")]
    assert len(join.process(rows(("k", 100, "l"), mark=115), LEFT)) == 0


def test_a_partner_that_was_found_is_remembered_over_a_restart() -> None:
    view = MapView()
    join = window_join("outer", view=view)
    join.process(rows(("k", 100, "l"), ("k", 101, "m")), LEFT)
    view.apply(join.drain())
    join.process(rows(("k", 111, "r")), RIGHT)
    view.apply(join.drain())
    again = window_join("outer", view=view)
    assert results_of(again.advance(1_000)) == [Result("k", 110, Pair("l", None))]


@pytest.mark.parametrize("failing", [1, 2])
def test_an_error_leaves_no_trace_of_its_origin_and_those_after_it(failing: int) -> None:
    join = window_join(combine=ratio)
    join.process(rows(("a", 1, 8)), LEFT)
    values = [4, 2, 1, 8]
    values[failing] = 0
    batch = rows(*(("a", 1, value) for value in values), origins=[5, 6, 6, 7])
    with pytest.raises(RowError) as caught:
        join.process(batch, RIGHT)
    assert caught.value.origin == 6
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert results_of(caught.value.brought) == [Result("a", 1, 2.0)]
    assert join.process(rows(("a", 1, 16)), LEFT).values == [4.0]


def test_a_row_that_is_not_kept_does_not_take_the_one_behind_it_along() -> None:
    join = window_join()
    late, good = ("k", 10, "l"), ("k", 100, "m")
    join.process(rows(late, good, mark=20), LEFT)
    assert join.process(rows(("k", 100, "r"), mark=20), RIGHT).values == [Pair("m", "r")]


@pytest.mark.parametrize("bad", [("\ud800", 1, 1), ("b", 1, object())])
@pytest.mark.parametrize("side", [LEFT, RIGHT])
@pytest.mark.parametrize("make", [window_join, as_of])
def test_a_key_or_value_that_cannot_be_kept_is_an_error_of_its_record(
    make: Any, side: int, bad: tuple[Any, int, Any]
) -> None:
    view = MapView()
    join = make(view=view)
    with pytest.raises(RowError) as caught:
        join.process(rows(("x", 1, 1), ("a", 1, 1), bad, origins=[0, 1, 1]), side)
    assert isinstance(caught.value.__cause__, InputError)
    assert (caught.value.origin, join.size, len(join._held._buckets)) == (1, 1, 1)
    assert {key[0] for key in kept(view, join)} == {"x"}


def kept(view: MapView, join: WindowJoin | AsOfJoin) -> list[Any]:
    """Return what a table of the join's state shows of keys, sides and times."""
    view.apply(join.drain())
    return [shown[0] for row in view.rows.items() if (shown := join_view(CODECS)(*row))]


def test_the_order_of_arrival_outlives_a_restart() -> None:
    view = MapView()
    join = window_join(view=view)
    join.process(rows(("k", 100, "first"), ("k", 100, "second")), LEFT)
    view.apply(join.drain())
    again = window_join(view=view)
    again.process(rows(("k", 100, "third")), LEFT)
    view.apply(again.drain())
    out = window_join(view=view).process(rows(("k", 100, "r")), RIGHT)
    assert out.values == [Pair("first", "r"), Pair("second", "r"), Pair("third", "r")]


def test_rows_alone_at_one_instant_come_in_the_order_of_arrival() -> None:
    join = window_join("left")
    join.process(rows(("b", 100, 1), ("a", 100, 2)), LEFT)
    assert join.advance(110).values == [Pair(1, None), Pair(2, None)]


def test_as_of_what_only_the_next_left_record_needs_is_kept() -> None:
    join = as_of()
    join.process(rows(("k", 0, "l"), ("j", 0, "l")), LEFT)
    join.process(rows(("k", 0, "a"), ("k", 2, "b"), ("j", -9, "c")), RIGHT)
    join.advance(0)
    join.process(rows(("k", 1, 1), ("j", 1, 2), mark=0), LEFT)
    assert join.advance(1).values == [Pair(1, "a"), Pair(2, "c")]


def test_a_table_shows_what_waits() -> None:
    view = MapView()
    join = window_join(view=view)
    join.process(rows((("a", 1), 7, {"n": 1})), RIGHT)
    view.apply(join.drain())
    shown = list(filter(None, (join_view(CODECS)(*row) for row in view.rows.items())))
    assert shown == [((("a", 1), "right", 7), {"n": 1})]


def test_what_came_and_went_between_two_drains_leaves_no_trace() -> None:
    join = as_of()
    join.process(rows(("k", 5, "l")), LEFT)
    join.advance(5)
    assert [key for key in join.drain() if b"sequence" not in key] == []


def test_the_as_of_partner_is_the_latest_at_or_before_the_time() -> None:
    join = as_of()
    join.process(rows(("k", 5, "old"), ("k", 9, "a"), ("k", 9, "b"), ("k", 11, "new")), RIGHT)
    join.process(rows(("k", 10, 1), ("k", 11, 2), ("k", 4, 3), ("k", 21, 4), ("k", 22, 5)), LEFT)
    assert results_of(join.advance(10)) == [
        Result("k", 4, Pair(3, None)),
        Result("k", 10, Pair(1, "b")),
    ]
    assert results_of(join.advance(100)) == [
        Result("k", 11, Pair(2, "new")),
        Result("k", 21, Pair(4, "new")),
        Result("k", 22, Pair(5, None)),
    ]


def test_as_of_the_left_side_is_late_at_the_watermark_the_right_one_when_it_is_too_old() -> None:
    join = as_of()
    join.process(rows(("k", 50, "l"), mark=50), LEFT)
    join.process(rows(("k", 40, "r"), mark=50), RIGHT)
    assert (join.late, join.size) == ({"dropped": 2}, 0)
    join.process(rows(("k", 41, "r"), mark=50), RIGHT)
    join.process(rows(("k", 51, "l"), mark=50), LEFT)
    assert join.advance(51).values == [Pair("l", "r")]


@pytest.mark.parametrize("join", [window_join("left", combine=ratio), as_of(combine=ratio)])
def test_what_combine_refuses_at_a_watermark_is_told_and_the_rest_comes(join: Any) -> None:
    join.process(rows(("a", 100, 1), ("b", 100, 6)), LEFT)
    join.process(rows(("b", 100, 2)), RIGHT)
    out = join.advance(1_000)
    assert list(out.values) in ([], [3.0])
    (failed,) = join.take_failed()
    assert (failed.key, failed.of) == ("a", Pair(1, None))
    assert isinstance(failed.error, TypeError)
    assert join.take_failed() == []


def test_a_table_is_read_at_each_record() -> None:
    table = {"a": 2, "b": 0}
    join = TableJoin(table.get, "inner", ratio)
    out = join.process(rows(("x", 1, 1), ("a", 2, 8), mark=-4))
    assert (out.keys, out.times, out.values) == (["a"], [2], [4.0])
    assert (out.marks, out.origins) == ([-4], [1])
    table["a"] = 4
    assert join.process(rows(("a", 2, 8))).values == [2.0]
    left = TableJoin(table.get, "left", Pair)
    assert left.process(rows(("x", 1, 1))).values == [Pair(1, None)]


@pytest.mark.parametrize(("bad_at", "brought"), [(1, [4.0]), (2, [4.0]), (0, [])])
def test_an_error_of_a_table_join_keeps_the_results_of_earlier_origins(
    bad_at: int, brought: list[float]
) -> None:
    keys = ["a", "a", "a", "a"]
    keys[bad_at] = "b"
    batch = rows(*((key, 1, 8) for key in keys), origins=[3, 4, 4, 5])
    with pytest.raises(RowError) as caught:
        TableJoin({"a": 2, "b": 0}.get, "inner", ratio).process(batch)
    assert (caught.value.origin, caught.value.brought.values) == ([3, 4, 4][bad_at], brought)


def test_a_join_that_joins_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="from 10 ms to 5 ms"):
        WindowJoin(-10, 5, "inner", Pair, MapView(), CODECS)
    with pytest.raises(ConfigError, match="-1 ms"):
        AsOfJoin(-1, Pair, MapView(), CODECS)


@pytest.mark.parametrize("after_ms", [3, 10, 40])
def test_rows_that_wait_go_by_the_bounds_of_the_application_of_today(after_ms: int) -> None:
    """Those whose bounds had been made less waited for ever."""
    view = MapView()
    before = WindowJoin(0, 10, "left", Pair, view, CODECS)
    before.process(rows(("a", 100, "l"), ("b", 105, "m")), LEFT)
    view.apply(before.drain())
    join = WindowJoin(0, after_ms, "left", Pair, view, CODECS)
    found: list[Result] = []
    for watermark_ms in (99, 109, 120, 150):
        while join.next_due_ms <= watermark_ms:
            found += results_of(join.advance(watermark_ms))
    wanted = [Result("a", 100 + after_ms, Pair("l", None))]
    assert found == [*wanted, Result("b", 105 + after_ms, Pair("m", None))]
    view.apply(join.drain())
    assert (join.size, [raw for raw in view.rows if raw.startswith(encode_key((TIMER,)))]) == (
        0,
        [],
    )
