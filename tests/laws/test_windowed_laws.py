"""Windowed tables equal a dict in which every window of every event is found by looking at all.

Times lie in a small grid around 1970, so that the bounds of windows and of their lives are met.
"""

from __future__ import annotations

import operator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.windowed import WindowedBench

from streamapp.state.windowed_grid import WindowGrid, time_ms

#: Beyond all times and sizes of the laws.
FAR = 60
TIMES = st.integers(-15, 15)
KEYS = st.sampled_from(["a", "b", 1, ("a", 1), ("a", 1, 0)])
ACTIONS = st.sampled_from(["add", "set", "delete"])


class UndoneError(Exception):
    """What a failing event raises."""


@dataclass(frozen=True)
class Event:
    """Writes at a time: ``(key, what, number)``; then it fails or not."""

    time: int
    writes: list[tuple[Any, str, int]]
    fails: bool
    is_tracked: bool


@st.composite
def grids(draw: st.DrawFn) -> tuple[int, int, int | None]:
    size = draw(st.integers(1, 9))
    return size, draw(st.integers(1, size)), draw(st.none() | st.integers(1, 7))


EVENTS = st.builds(
    Event,
    TIMES,
    st.lists(st.tuples(KEYS, ACTIONS, st.integers(1, 3)), max_size=3),
    st.booleans(),
    st.booleans(),
)  # fmt: skip
#: Events, and what the engine does between them.
STEPS = st.lists(EVENTS | st.sampled_from(["cut", "flush", "reopen", "sweep"]), max_size=14)


@dataclass
class Model:
    """The rows that live, as a dict; starts of windows are found by trying all."""

    size: int
    step: int
    expires: int | None
    now: int = -FAR
    rows: dict[tuple[Any, int], int] = field(default_factory=dict)

    def starts(self, time: int) -> list[int]:
        multiples = [n * self.step for n in range(-FAR, FAR)]
        return [start for start in multiples if start <= time < start + self.size]

    def advance(self, time: int) -> None:
        self.now = max(self.now, time)
        self.rows = {row: value for row, value in self.rows.items() if self.lives(row[1])}

    def lives(self, start: int) -> bool:
        return self.expires is None or self.now < start + self.size + self.expires

    def write(self, time: int, key: Any, what: str, number: int) -> None:
        for start in filter(self.lives, self.starts(time)):
            if what == "delete":
                self.rows.pop((key, start), None)
            else:
                old = self.rows.get((key, start), 0) if what == "add" else 0
                self.rows[key, start] = old + number

    def value(self, key: Any, time: int) -> int:
        """Return the value in the window that opened last of those that the time lies in."""
        return self.rows.get((key, self.starts(time)[-1]), 0)

    def items(self, time: int) -> dict[Any, int]:
        last = self.starts(time)[-1]
        return {key: value for (key, start), value in self.rows.items() if start == last}

    def windows(self, key: Any) -> list[tuple[tuple[int, int], int]]:
        mine = sorted(start for of, start in self.rows if of == key)
        return [((start, start + self.size), self.rows[key, start]) for start in mine]


def run(bench: WindowedBench, model: Model, event: Event) -> None:
    """Run an event on both; what it sees at its end must be the same."""
    model.advance(event.time)
    kept = dict(model.rows)
    with bench.record(event.time, tracks_always=event.is_tracked):
        table = bench.windowed
        for key, what, number in event.writes:
            if what == "add":
                table[key] += number
            elif what == "set":
                table[key] = number
            else:
                with suppress(KeyError):
                    del table[key]
            model.write(event.time, key, what, number)
            assert table[key].current() == model.value(key, event.time)
            assert list(table[key].windows()) == model.windows(key)
            assert table[key].delta("4ms") == model.value(key, event.time - 4)
            assert table.relative_to_stream()[key].value() == model.value(key, model.now)
        assert dict(table.items()) == model.items(event.time)
        if event.fails:
            model.rows = kept
            raise UndoneError


def do(bench: WindowedBench, model: Model, step: Event | str) -> None:
    if isinstance(step, Event):
        with suppress(UndoneError):
            run(bench, model, step)
    elif step == "sweep":
        bench.table.sweep(0, bench.now_ms, b"", 100)
    else:
        getattr(bench, step)()


@given(grids(), STEPS, st.sampled_from([1 << 20, 700]))
def test_table_equals_the_dict_after_every_step(
    grid: tuple[int, int, int | None], steps: list[Event | str], cache_bytes: int
) -> None:
    bench, model = WindowedBench(*grid, cache_bytes=cache_bytes), Model(*grid)
    for step in steps:
        do(bench, model, step)
        assert dict(bench.table.items()) == {
            (*key, start) if isinstance(key, tuple) else (key, start): value
            for (key, start), value in model.rows.items()
        }
        for time in range(-20, 20, 3):
            assert bench.windowed["a"].at(time / 1_000) == model.value("a", time)
            assert dict(bench.windowed.items().at(time / 1_000)) == model.items(time)


@given(grids(), STEPS)
def test_what_is_stored_in_the_end_is_what_lives(
    grid: tuple[int, int, int | None], steps: list[Event | str]
) -> None:
    bench, model = WindowedBench(*grid), Model(*grid)
    for step in steps:
        do(bench, model, step)
    bench.reopen()
    bench.table.sweep(0, bench.now_ms, b"", 1_000)
    bench.reopen()
    assert len(list(bench.store.scan(b"", b"\xff" * 9))) == len(model.rows)
    for key, start in model.rows:
        assert bench.windowed[key].at(Fraction(start, 1_000).__float__()) == model.rows[key, start]


@given(grids(), TIMES | st.integers(-(1 << 63), (1 << 63) - 1))
def test_windows_of_a_time_are_all_that_hold_it(
    shape: tuple[int, int, int | None], time: int
) -> None:
    grid = WindowGrid(*shape)
    starts = list(grid.starts(time))
    near = range(time - 2 * grid.size_ms, time + 2 * grid.size_ms)
    assert starts == [
        start
        for start in near
        if start % grid.step_ms == 0 and start <= time < start + grid.size_ms
    ]
    assert starts[-1] == grid.latest(time)
    for start in starts:
        assert grid.window(start).start_ms <= time < grid.window(start).end_ms


@given(grids(), TIMES, TIMES)
def test_a_window_is_over_its_life_after_its_end(
    shape: tuple[int, int, int | None], start: int, now: int
) -> None:
    size, _, expires = shape
    assert WindowGrid(*shape).is_over(start, now) == (
        expires is not None and start + size + expires <= now
    )


@given(st.integers(-(1 << 44), 1 << 44), st.integers(0, 999))
def test_float_seconds_fall_into_their_millisecond(ms: int, part: int) -> None:
    decimal = Fraction(ms, 1_000)
    assert time_ms(float(decimal)) == ms
    if abs(ms) < 1 << 30:
        assert time_ms(float(decimal + Fraction(part, 1_000_000))) == ms


def test_the_model_would_notice() -> None:
    model = Model(10, 4, 2)
    assert model.starts(13) == [4, 8, 12]
    model.write(13, "a", "add", 1)
    model.advance(16)
    assert [start for _, start in model.rows] == [8, 12]
    assert operator.itemgetter(0)(model.windows("a")) == ((8, 18), 1)
