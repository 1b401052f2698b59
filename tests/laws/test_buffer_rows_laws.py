"""Buffers of pipelines against a list: bounds, pace, order, and each row once, over crashes too."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st
from support.operator_driver import DictState

from streamapp.core.buffer import Bounds, BufferFullError, Excess
from streamapp.core.rate import Rate
from streamapp.core.rows import Rows
from streamapp.errors import TooLargeError
from streamapp.operators.buffer import BufferRows, Limits
from streamapp.operators.limit import Wait
from streamapp.operators.operator import RowError
from streamapp.pipelines.codecs import StateCodec

LIMITS = st.builds(
    Limits,
    st.builds(Bounds, st.integers(1, 4)),
    st.builds(Rate, st.integers(1, 2), st.integers(1, 5), st.integers(1, 3)),
    st.sampled_from(get_args(Excess)),
    st.integers(1, 3),
)
#: Rows that each of the next records brings, ms that go by, a commit, a crash.
EVENTS = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=5)
    | st.integers(1, 4)
    | st.sampled_from(["commit", "crash"]),
    min_size=5,
    max_size=25,
)


@dataclass
class Model:
    """What is held, and what has become of the rows before; rows are numbers in their order."""

    limits: Limits
    level: int = 0
    held: list[int] = field(default_factory=list)
    out: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    unsampled: int = 0

    def pass_time(self, ms: int | None) -> None:
        """Let time go by; ``None`` for ever so much."""
        rate = self.limits.rate
        full = rate.burst * rate.per_ms
        self.level = full if ms is None else min(self.level + ms * rate.rate, full)

    def release(self) -> None:
        while self.held and self.level >= self.limits.rate.per_ms:
            self.level -= self.limits.rate.per_ms
            self.out.append(self.held.pop(0))

    def take_in(self, rows: list[int]) -> str:
        """Take in the rows of a record; say whether it is done, must wait or has failed."""
        most, excess = self.limits.bounds.items, self.limits.excess
        self.release()
        if excess in ("block", "fail") and len(self.held) + len(rows) > most:
            if excess == "block" and len(rows) <= most:
                return "wait"
            self.failed += rows
            return "failed"
        for row in rows:
            if len(self.held) < most:
                self.held.append(row)
                continue
            self.unsampled += 1
            if excess == "drop_oldest" or (
                excess == "sample" and self.unsampled % self.limits.sample_every == 0
            ):
                self.dropped.append(self.held.pop(0))
                self.held.append(row)
            else:
                self.dropped.append(row)
        self.release()
        return "done"


class Bench:
    """The operator, its model, and the records of a source that both read."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.now = 0
        self.state = DictState()
        self.model = Model(limits)
        self.records: list[list[int]] = []
        self.next = 0
        self.out: list[object] = []
        self.begin()
        self.saved = self.save()

    def begin(self) -> None:
        self.operator = BufferRows(self.limits, StateCodec(int), self.state, lambda: self.now)
        self.model.pass_time(None)

    def save(self) -> tuple[Model, int, list[object]]:
        return deepcopy(self.model), self.next, list(self.out)

    def offer(self, sizes: list[int]) -> None:
        for size in sizes:
            first = sum(map(len, self.records))
            self.records.append([*range(first, first + size)])
        self.work()

    def work(self) -> None:
        """Offer the records that are left; those behind one that must wait are left again."""
        while self.next < len(self.records):
            told = self._process()
            if told == "wait":
                return

    def _process(self) -> str:
        start = self.next
        flat = [(n, row) for n, rows in enumerate(self.records[start:]) for row in rows]
        numbers = [row for _, row in flat]
        rows = Rows(numbers, numbers, numbers, numbers, [n for n, _ in flat])
        error: RowError | None = None
        try:
            brought = self.operator.process(rows)
        except RowError as exc:
            error, brought = exc, exc.brought
        self.out += brought.values
        done = len(self.records) - start if error is None else error.origin
        for record in self.records[start : start + done]:
            if record:
                assert self.model.take_in(record) == "done"
        self.next = start + done
        if error is None:
            return "done"
        told = self.model.take_in(self.records[self.next])
        assert told == ("wait" if isinstance(error, Wait) else "failed")
        if told == "failed":
            assert isinstance(error.__cause__, BufferFullError | TooLargeError)
            self.next += 1
        else:
            assert error.ms > 0
        return told

    def commit(self) -> None:
        self.out += self.operator.on_commit().values
        self.model.release()
        changed = self.operator.changed
        assert self.state.apply(self.operator) == changed
        assert self.operator.changed == 0
        # What a crash would bring back is what is held now.
        assert len(self.state.rows) == len(self.model.held)
        self.saved = self.save()

    def crash(self) -> None:
        saved = self.saved
        self.model, self.next, self.out = deepcopy(saved[0]), saved[1], list(saved[2])
        self.model.unsampled = 0  # which of the next rows is kept is not remembered
        self.begin()

    def check(self) -> None:
        model, held = self.model, self.operator.held
        assert self.out == model.out
        assert [row.value for row in held] == model.held
        assert len(held) <= self.limits.bounds.items
        offered = [row for record in self.records[: self.next] for row in record]
        assert sorted(model.out + model.held + model.dropped + model.failed) == offered
        assert self.out == sorted(model.out)


@given(LIMITS, EVENTS)
def test_each_row_leaves_once_at_its_pace_or_is_told_of(
    limits: Limits, events: list[list[int] | int | str]
) -> None:
    bench = Bench(limits)
    for event in events:
        if isinstance(event, list):
            bench.offer(event)
        elif isinstance(event, int):
            bench.now += event
            bench.model.pass_time(event)
        elif event == "commit":
            bench.commit()
        else:
            bench.crash()
        bench.check()


@given(LIMITS, EVENTS)
def test_the_rate_holds_over_any_time(limits: Limits, events: list[list[int] | int | str]) -> None:
    bench = Bench(limits)
    left_at: list[int] = []
    for event in events:
        if isinstance(event, list):
            bench.offer(event)
        elif isinstance(event, int):
            bench.now += event
            bench.model.pass_time(event)
        else:
            bench.commit()
        left_at += [bench.now] * (len(bench.out) - len(left_at))
    rate = limits.rate
    for first, start in enumerate(left_at):
        for count, end in enumerate(left_at[first:], 1):
            assert count <= rate.burst + (end - start) * rate.rate / rate.per_ms
