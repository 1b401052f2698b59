"""Marks of a store that follows a changelog: what it has, and as of when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.engine_app import Bench

from streamapp.core.batch import TP, OutRecord
from streamapp.engine.restore import (
    RestoreProgress,
    ShardPlan,
    Start,
    Target,
    as_of,
    find_starts,
    prepare,
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
        self.target = Target(self.store, self.plans, RestoreProgress(), as_of(self.starts))

    def write(self, *keys: bytes) -> None:
        """Append records that were written long ago."""
        self.bench.broker.append([OutRecord(LOG, key, b"1", 1_000) for key in keys])

    def step(self, most: int) -> None:
        self.target.apply(self.reader.poll(1.0, most), self.starts)

    def trusted(self) -> Start:
        """Return where a takeover goes on."""
        return find_starts(self.bench.broker, self.store, self.plans)[LOG]


@pytest.fixture
def follower() -> Iterator[Follower]:
    follower = Follower(Bench())
    yield follower
    follower.reader.close()
    follower.bench.broker.close()


def test_takeover_goes_on_behind_the_last_record(follower: Follower) -> None:
    follower.write(b"a", b"b", b"c")
    for most, offset in ((2, 2), (2, 3)):
        follower.step(most)
        assert follower.trusted().offset == offset
    assert not follower.target.is_stale


def test_age_of_the_records_does_not_matter(follower: Follower) -> None:
    """A log holds rows of all ages; who reads them in one go misses no deletion."""
    follower.write(b"a", b"b")
    follower.step(1)
    assert follower.trusted().mark is not None


def test_who_has_not_seen_the_end_for_a_day_begins_anew(follower: Follower) -> None:
    """Deletions of that time may be gone from the log before it comes to them."""
    follower.write(b"a", b"b")
    follower.target.as_of[LOG] -= TOMBSTONES_KEPT_MS + 1_000
    assert follower.target.is_stale
    follower.step(1)
    assert follower.trusted() == Start(0, 2, None)


def test_who_is_at_the_end_is_so_as_of_now(follower: Follower) -> None:
    follower.write(b"a")
    follower.target.as_of[LOG] -= TOMBSTONES_KEPT_MS + 1_000
    follower.step(1)
    follower.target.renew([LOG])
    assert not follower.target.is_stale
    follower.write(b"b")
    assert follower.trusted().offset == 1
    follower.step(1)
    assert follower.trusted().offset == 2


def test_restart_does_not_make_a_mark_younger(follower: Follower) -> None:
    """Time that passed before counts for those that go on from a mark."""
    follower.write(b"a", b"b", b"c")
    before = follower.target.as_of[LOG] = follower.target.as_of[LOG] - TOMBSTONES_KEPT_MS // 2
    follower.step(1)
    again = as_of({LOG: follower.trusted()})
    assert again == {LOG: before}
