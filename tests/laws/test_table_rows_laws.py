"""Rows written one by one and many at once, undone, taken and flushed in any order: a dict's."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.tables import TableBench

_KEYS = st.sampled_from(("a", "b", "é", 1))
_ONE = st.tuples(st.just("set"), _KEYS, st.integers(-5, 5))
_GONE = st.tuples(st.just("delete"), _KEYS, st.just(0))
_MANY = st.tuples(
    st.just("add"), st.lists(_KEYS, min_size=1, max_size=5), st.sampled_from((1, 2, 0.5))
)
_WORK = st.lists(st.one_of(_ONE, _GONE, _MANY), max_size=5)
#: What comes between two steps: a commit, the store's write of the oldest of them, memory that
#: forgets what is nowhere else, a new start.
_STEPS = st.lists(st.sampled_from(("cut", "flush", "forget", "reopen")), max_size=3)


def _do(table: Any, what: str, key: Any, value: Any) -> None:
    if what == "set":
        table[key] = value
    elif what == "delete":
        table.pop(key, None)
    elif isinstance(table, dict):
        for one in key:
            table[one] = table.get(one, 0) + value
    else:
        table.add(key, value)


def _step(bench: TableBench, step: str) -> None:
    if step == "cut":
        bench.cut()
    elif step == "flush" and bench._unwritten:
        first, *later = bench._unwritten
        bench._unwritten[:] = [first]
        bench.flush()
        bench._unwritten.extend(later)
    elif step == "forget":
        bench.budget._rotate()
        bench.budget._rotate()
    elif step == "reopen":
        bench.reopen()


@given(st.lists(st.tuples(_WORK, _STEPS, _WORK, st.booleans(), _STEPS), max_size=5))
def test_rows_are_those_of_the_events_that_were_finished(
    events: list[tuple[list[Any], list[str], list[Any], bool, list[str]]],
) -> None:
    bench, rows = TableBench(default=int, cache_bytes=1 << 20), dict[Any, Any]()
    for before, inside, after, fails, steps in events:
        mine = {**rows}
        with suppress(ZeroDivisionError), bench.event():
            for work in before:
                _do(bench.table, *work)
                _do(mine, *work)
            for step in inside:
                # Nobody begins anew in the middle of an event.
                _step(bench, step if step != "reopen" else "cut")
            for work in after:
                _do(bench.table, *work)
                _do(mine, *work)
            assert {key: bench.table[key] for key in mine} == mine
            if fails:
                raise ZeroDivisionError
        rows = rows if fails else mine
        for step in steps:
            _step(bench, step)
        assert dict(bench.table.items()) == rows
        assert {key: bench.table.get(key) for key in rows} == rows
    bench.reopen()
    assert dict(bench.table.items()) == rows
