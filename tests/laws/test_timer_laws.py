"""Timers against a dict: what is due next, whatever events in hand have set or cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tables import TableBench

from streamapp.core.timers import Due, DueIndex
from streamapp.engine.policy import ErrorPolicy
from streamapp.engine.timers import Timer, Timers, TimerSpec
from streamapp.serde.ordered_keys import encode_key
from streamapp.state.rows import ABSENT
from streamapp.state.scope import EventScope, Instant, Outcome, current_scope

KEYS = ["a", "b", 7]
_EVENT = st.integers(0, 2)
_KEY = st.sampled_from(KEYS)
_AT = st.integers(-1, 4)
STEP = st.one_of(
    st.tuples(st.just("set"), _EVENT, _KEY, _AT),
    st.tuples(st.just("cancel"), _EVENT, _KEY),
    st.tuples(st.just("get"), _EVENT, _KEY),
    st.tuples(st.just("finish"), _EVENT),
    st.tuples(st.just("undo"), _EVENT),
    st.tuples(st.just("fire"), _AT),
    st.tuples(st.just("rearm"), _AT, _KEY, _AT),
    st.tuples(st.just("cut")),
    st.tuples(st.just("rotate")),
    st.tuples(st.just("reopen")),
)

KINDS = ["set", "cancel", "get", "finish", "undo", "fire", "rearm", "cut", "rotate", "reopen"]
WEIGHTS = [30, 8, 3, 25, 4, 6, 12, 3, 3, 1]


async def nobody(timer: Timer) -> None:
    raise AssertionError(timer)


@dataclass
class Event:
    """An event in hand of an agent, and what it has done: ``None`` at a key is a cancellation."""

    scope: EventScope
    done: dict[Any, tuple[int, Any] | None] = field(default_factory=dict)


class World:
    """Timers of one partition, three agents with an event each, and the dict they must equal."""

    def __init__(self, page: int, *, tracks_always: bool) -> None:
        self.bench = TableBench(cache_bytes=1_000)
        self.page = page
        self.model: dict[Any, tuple[int, Any]] = {}
        self.fired = self.conflicts = 0
        self.numbers = iter(range(1_000_000))
        self._open()
        self.events = [Event(EventScope(tracks_always=tracks_always)) for _ in range(3)]
        for event in self.events:
            event.scope.enter(Instant(0), 0, 1)

    def _open(self) -> None:
        spec = TimerSpec("t", nobody, ErrorPolicy())
        self.timers = Timers(spec, self.bench.table)
        self.waiting = self.timers.waiting(0)
        self.waiting.index = DueIndex(self.page)

    def step(self, what: str, *args: Any) -> None:
        getattr(self, what)(*args)

    # --- agents ----------------------------------------------------------------------------------

    def set(self, number: int, key: Any, at_ms: int) -> None:
        event, value = self.events[number], next(self.numbers)
        with inside(event.scope):
            self.timers.set(key, at=at_ms, value=value)
        event.done[key] = (at_ms, value)

    def cancel(self, number: int, key: Any) -> None:
        event = self.events[number]
        with inside(event.scope):
            was_there = self.timers.cancel(key)
            assert self.timers.get(key) is None
        if event.done.get(key) is not None:
            assert was_there
        event.done[key] = None

    def get(self, number: int, key: Any) -> None:
        event = self.events[number]
        with inside(event.scope):
            found = self.timers.get(key)
        if key in event.done:
            mine = event.done[key]
            assert found == (None if mine is None else Timer(key, *mine))

    def finish(self, number: int) -> None:
        event = self.events[number]
        done, event.done = event.done, {}
        if event.scope.finish() is Outcome.DONE:
            self._apply(done)
        else:
            self.conflicts += 1

    def undo(self, number: int) -> None:
        self.events[number].scope.undo()
        self.events[number].done = {}

    # --- what fires ------------------------------------------------------------------------------

    def fire(self, now_ms: int) -> None:
        """Fire what is due, and nothing else."""
        while self._fire_one(now_ms, {}):
            pass

    def rearm(self, now_ms: int, key: Any, at_ms: int) -> None:
        """Fire the first that is due, with a handler that sets a timer."""
        self._fire_one(now_ms, {key: (at_ms, next(self.numbers))})

    def _fire_one(self, now_ms: int, sets: dict[Any, tuple[int, Any]]) -> bool:
        rows = {
            Due(at, encode_key(key)): key for key, (at, _) in self.model.items() if at <= now_ms
        }
        due = self.waiting.first(now_ms)
        assert due == min(rows, default=None)
        if due is None:
            return False
        scope = EventScope()
        scope.enter(Instant(due.at_ms), 0, 1)
        with inside(scope):
            value = self.timers.remove(due)
            assert value is not ABSENT
            for key, (at_ms, number) in sets.items():
                self.timers.set(key, at=at_ms, value=number)
        assert scope.finish() is Outcome.DONE
        scope.leave()
        self.fired += 1
        timer = self.timers.timer(due, value)
        assert self.model.pop(timer.key) == (timer.at_ms, timer.value)
        self._apply(dict(sets))
        return True

    # --- the commit, the cache, a restart --------------------------------------------------------

    def cut(self) -> None:
        self.bench.cut()
        self.bench.flush()

    def rotate(self) -> None:
        self.bench.table.shards[0].rotate()

    def reopen(self) -> None:
        for number in range(3):
            self.undo(number)
            self.events[number].scope.let_go()
        self.bench.reopen()
        self._open()

    def _apply(self, done: dict[Any, tuple[int, Any] | None]) -> None:
        self.model.update({key: mine for key, mine in done.items() if mine is not None})
        for key in [key for key, mine in done.items() if mine is None]:
            self.model.pop(key, None)

    def check(self) -> None:
        """The rows of finished events are those of the model, in both orders."""
        rows = {raw: value for _, raw, value in self.timers.table.rows(0)}
        by_key = {encode_key(key): at_ms for key, (at_ms, _) in self.model.items()}
        by_time = {(at, encode_key(key)): value for key, (at, value) in self.model.items()}
        assert rows == {**by_key, **by_time}


@contextmanager
def inside(scope: EventScope) -> Iterator[None]:
    token = current_scope.set(scope)
    try:
        yield
    finally:
        current_scope.reset(token)


def run(steps: list[tuple[Any, ...]], page: int, *, tracks_always: bool) -> World:
    world = World(page, tracks_always=tracks_always)
    for step in steps:
        world.step(*step)
        world.check()
    for number in range(3):
        world.finish(number)
    world.fire(10)
    assert world.model == {}
    world.check()
    return world


def random_steps(draw: Random) -> list[tuple[Any, ...]]:
    """Draw steps of which most meet rows and each other."""

    def step() -> tuple[Any, ...]:
        what = draw.choices(KINDS, WEIGHTS)[0]
        arguments = {
            "set": (draw.randrange(3), draw.choice(KEYS), draw.randint(-1, 4)),
            "cancel": (draw.randrange(3), draw.choice(KEYS)),
            "get": (draw.randrange(3), draw.choice(KEYS)),
            "finish": (draw.randrange(3),),
            "undo": (draw.randrange(3),),
            "fire": (draw.randint(-1, 4),),
            "rearm": (draw.randint(-1, 4), draw.choice(KEYS), draw.randint(-1, 4)),
        }
        return (what, *arguments.get(what, ()))

    return [step() for _ in range(80)]


@given(st.lists(STEP, max_size=50), st.integers(1, 3), st.booleans())
def test_what_is_due_is_what_finished_events_left(
    steps: list[tuple[Any, ...]], page: int, tracks_always: bool
) -> None:
    run(steps, page, tracks_always=tracks_always)


@pytest.mark.parametrize("start", range(0, 400, 100))
def test_many_more_histories_fire_often_and_agree(start: int) -> None:
    draws = [Random(seed) for seed in range(start, start + 100)]
    worlds = [
        run(random_steps(draw), draw.randint(1, 3), tracks_always=draw.random() < 0.3)
        for draw in draws
    ]
    assert sum(world.fired for world in worlds) > 500
    assert sum(world.conflicts for world in worlds) > 50
