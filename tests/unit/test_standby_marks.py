"""Marks of a store that follows a changelog: what it has, and as of when."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from support.engine_app import Bench

from streamapp.core.batch import TP, OutRecord
from streamapp.engine.restore import (
    RestoreProgress,
    ShardPlan,
    Target,
    find_starts,
    is_stale,
    prepare,
    renew,
)
from streamapp.state.changelog import TOMBSTONES_KEPT_MS, changelog_topic
from streamapp.state.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG = TP("bench-t-changelog", 0)


class Follower:
    """A store that follows one changelog by hand, record by record."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.store = MemoryStore()
        uid = bench.broker.create_topic(changelog_topic("bench", "t", 1)).uid
        self.plans = {LOG: ShardPlan("t", 0, LOG, uid)}
        self.reader = bench.broker.reader()
        self.starts = find_starts(bench.broker, self.store, self.plans)
        prepare(self.store, self.plans, self.starts)
        self.reader.assign({LOG: self.starts[LOG].offset})

    def write(self, key: bytes, ago_ms: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        self.bench.broker.append([OutRecord(LOG, key, b"1", now_ms - ago_ms)])

    def step(self, most: int) -> None:
        target = Target(self.store, self.plans, RestoreProgress())
        target.apply(self.reader.poll(1.0, most), self.starts)

    @property
    def is_stale(self) -> bool:
        return is_stale(self.store, self.plans.values())

    def trusted(self) -> int | None:
        """Return the offset that a takeover goes on from; ``None`` if it begins anew."""
        start = find_starts(self.bench.broker, self.store, self.plans)[LOG]
        return None if start.mark is None else start.offset


@pytest.fixture
def follower() -> Iterator[Follower]:
    follower = Follower(Bench())
    yield follower
    follower.reader.close()
    follower.bench.broker.close()


def test_takeover_goes_on_behind_the_last_record(follower: Follower) -> None:
    for key in (b"a", b"b", b"c"):
        follower.write(key, ago_ms=1_000)
    follower.step(2)
    assert follower.trusted() == 2
    follower.step(2)
    assert follower.trusted() == 3
    assert not follower.is_stale


def test_who_is_a_day_behind_begins_anew(follower: Follower) -> None:
    """Deletions of that time may be gone from the log before it comes to them."""
    follower.write(b"a", ago_ms=TOMBSTONES_KEPT_MS + 60_000)
    follower.write(b"b", ago_ms=0)
    follower.step(1)
    assert follower.is_stale
    assert follower.trusted() is None


def test_silent_log_is_followed_as_of_now(follower: Follower) -> None:
    follower.write(b"a", ago_ms=TOMBSTONES_KEPT_MS + 60_000)
    follower.step(1)
    assert follower.is_stale
    renew(follower.store, follower.plans.values())
    assert not follower.is_stale
    follower.write(b"b", ago_ms=0)
    assert follower.trusted() == 1


def test_clock_of_another_machine_that_is_ahead_makes_no_mark_younger(follower: Follower) -> None:
    follower.write(b"a", ago_ms=-10 * TOMBSTONES_KEPT_MS)
    begun_ms = time.time_ns() // 1_000_000
    follower.step(1)
    start = find_starts(follower.bench.broker, follower.store, follower.plans)[LOG]
    assert start.mark is not None
    assert begun_ms <= start.mark.at_ms <= time.time_ns() // 1_000_000
