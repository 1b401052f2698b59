"""The index of due timers: complete below its horizon, bounded, and it asks for more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.timers import Due, DueIndex

PLACES = st.builds(Due, st.integers(-2, 6), st.sampled_from([b"", b"a", b"b"]))
STEPS = st.lists(st.tuples(st.sampled_from(["add", "discard", "fire"]), PLACES), max_size=60)


def first_due(index: DueIndex, rows: set[Due], now_ms: int) -> Due | None:
    """Ask the index as its owner does: load what it wants, drop what is gone."""
    while True:
        if count := index.wants(now_ms):
            start = index.horizon
            assert start is not None
            index.load(sorted(row for row in rows if row >= start)[:count])
        due = index.first()
        if due is None or due.at_ms > now_ms:
            return None
        if due in rows:
            return due
        index.discard(due)


@given(STEPS, st.integers(1, 4), st.sets(PLACES))
def test_first_is_the_least_of_all_rows(
    steps: list[tuple[str, Due]], page: int, rows: set[Due]
) -> None:
    index, rows = DueIndex(page), set(rows)
    for what, place in steps:
        if what == "add":
            rows.add(place)
            index.add(place)
        elif what == "discard":
            rows.discard(place)  # the index may go on naming it
        else:
            due = first_due(index, rows, place.at_ms)
            expected = min((row for row in rows if row.at_ms <= place.at_ms), default=None)
            assert due == expected
            if due is not None:
                rows.discard(due)
                index.discard(due)
        assert len(index) <= 2 * page
    assert first_due(index, rows, 10) == min(rows, default=None)


def test_a_new_index_knows_nothing_and_asks_at_any_time() -> None:
    index = DueIndex(3)
    assert index.wants(-1_000_000) == 4
    index.load([])
    assert index.horizon is None
    assert index.wants(1_000_000) == 0
    assert index.first() is None


def test_what_is_not_due_is_not_loaded() -> None:
    index = DueIndex(1)
    index.load([Due(1, b"a"), Due(5, b"b")])
    index.discard(Due(1, b"a"))
    assert index.wants(4) == 0
    assert index.wants(5) == 2


def test_a_full_index_drops_its_later_half() -> None:
    index = DueIndex(2)
    index.load([])
    for at_ms in (5, 4, 3, 2, 1):
        index.add(Due(at_ms, b"k"))
    assert len(index) == 2
    assert index.horizon == Due(3, b"k")
    index.add(Due(3, b"k"))
    assert len(index) == 2


def test_adding_twice_is_adding_once() -> None:
    index = DueIndex()
    index.load([])
    index.add(Due(1, b"k"))
    index.add(Due(1, b"k"))
    index.discard(Due(1, b"k"))
    index.discard(Due(1, b"k"))
    assert index.first() is None
