"""Groups of the embedded broker: time-outs, new topics, and two who act at once."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.brokers import Worker, at, covers, drive, numbered

from streamapp.core.batch import TP
from streamapp.errors import FencedError
from streamapp.transport.broker import Assigned, Lost, Revoking, TopicSpec
from streamapp.transport.sqlite import SqliteBroker, SqliteOptions
from streamapp.transport.sqlite.coordination import Plan
from streamapp.transport.sqlite.locks import FileLock, probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IN = [TP("in", p) for p in range(4)]
OPTIONS = SqliteOptions(session_timeout_ms=400, rebalance_timeout_ms=400, sync="normal")


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[[], SqliteBroker]]:
    brokers: list[SqliteBroker] = []

    def make() -> SqliteBroker:
        brokers.append(SqliteBroker(tmp_path / "bus", OPTIONS))
        return brokers[-1]

    yield make
    for broker in brokers:
        broker.close()


@pytest.fixture
def broker(make_broker: Callable[[], SqliteBroker]) -> SqliteBroker:
    broker = make_broker()
    broker.create_topic(TopicSpec("in", 4))
    return broker


def kinds(worker: Worker) -> list[type]:
    return [type(event) for event in worker.events]


def test_member_that_is_not_polled_loses_its_partitions_and_rejoins(broker: SqliteBroker) -> None:
    stays, hangs = (Worker(broker.join("g", ["in"])) for _ in range(2))
    drive([stays, hangs], lambda: covers([stays, hangs], IN) and bool(hangs.owned))
    tp = next(iter(hangs.owned))
    drive([stays], lambda: covers([stays], IN))
    with pytest.raises(FencedError):
        hangs.member.commit([], {tp: at(1)})
    assert broker.committed("g", IN) == {}
    drive([stays, hangs], lambda: covers([stays, hangs], IN) and bool(hangs.owned))
    assert kinds(hangs)[-2:] == [Lost, Assigned]
    lost = next(event for event in hangs.events if isinstance(event, Lost))
    assert tp in lost.tps


def test_members_that_are_polled_stay_beyond_the_session_time_out(broker: SqliteBroker) -> None:
    workers = [Worker(broker.join("g", ["in"])) for _ in range(2)]
    drive(workers, lambda: covers(workers, IN))
    before = [len(worker.events) for worker in workers]
    stop = time.monotonic() + 2.5 * OPTIONS.session_timeout_ms / 1_000
    drive(workers, lambda: time.monotonic() > stop)
    assert [len(worker.events) for worker in workers] == before


def test_member_that_does_not_release_is_evicted(broker: SqliteBroker) -> None:
    keeps = Worker(broker.join("g", ["in"]), answers=False)
    drive([keeps], lambda: covers([keeps], IN))
    other = Worker(broker.join("g", ["in"]))
    drive([keeps, other], lambda: Lost in kinds(keeps) and bool(other.owned))
    assert kinds(keeps)[:3] == [Assigned, Revoking, Lost]
    keeps.member.release()
    keeps.answers = True
    drive([keeps, other], lambda: covers([keeps, other], IN) and bool(keeps.owned))


def test_topic_that_appears_is_assigned(make_broker: Callable[[], SqliteBroker]) -> None:
    ours, theirs = make_broker(), make_broker()
    workers = [Worker(broker.join("g", ["late"])) for broker in (ours, theirs)]
    drive(workers, lambda: covers(workers, []) and workers[0].generation > 0)
    theirs.create_topic(TopicSpec("late", 2))
    late = [TP("late", 0), TP("late", 1)]
    drive(workers, lambda: covers(workers, late))
    theirs.delete_topic("late")
    theirs.create_topic(TopicSpec("late", 1))
    drive(workers, lambda: covers(workers, late[:1]))


def test_each_member_gets_of_its_own_topics_only(broker: SqliteBroker) -> None:
    broker.create_topic(TopicSpec("more", 2))
    one, two = Worker(broker.join("g", ["in"])), Worker(broker.join("g", ["in", "more"]))
    more = [TP("more", 0), TP("more", 1)]
    drive([one, two], lambda: covers([one, two], [*IN, *more]) and bool(one.owned))
    assert set(more) <= two.owned
    assert len(one.owned) == 2


def test_many_that_join_and_leave_at_once_converge(
    make_broker: Callable[[], SqliteBroker], broker: SqliteBroker
) -> None:
    brokers = [broker, make_broker()]
    workers: list[Worker] = []
    lock = threading.Lock()

    def join(broker: SqliteBroker) -> None:
        worker = Worker(broker.join("g", ["in"]))
        with lock:
            workers.append(worker)

    threads = [threading.Thread(target=join, args=[brokers[i % 2]]) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drive(workers, lambda: covers(workers, IN))
    for worker in workers[1:3]:
        worker.member.leave()
    rest = [workers[0], *workers[3:]]
    rest[0].step()
    rest[1].member.leave()
    rest.pop(1)
    drive(rest, lambda: covers(rest, IN))


def test_second_plan_of_a_generation_is_refused(broker: SqliteBroker) -> None:
    plan = Plan(1, {"a": frozenset({"in"})}, {"a": "lock"}, {}, {"a": frozenset(IN)})
    other = replace(plan, owned={"a": frozenset()})
    assert broker._groups.publish("g", plan)
    assert not broker._groups.publish("g", other)
    assert not broker._groups.publish("g", replace(other, generation=3))
    assert broker.groups()["g"].generation == 1
    assert broker._groups.publish("g", replace(other, generation=2))


def test_late_eviction_does_not_hit_the_next_incarnation(broker: SqliteBroker) -> None:
    worker = Worker(broker.join("g", ["in"]))
    drive([worker], lambda: covers([worker], IN))
    member = worker.member
    before = broker._users[0]._membership.peer  # type: ignore[union-attr]  # the member above
    broker._groups.evict("g", before)
    drive([worker], lambda: kinds(worker)[1:] == [Lost, Assigned])
    broker._groups.evict("g", before)
    assert member.commit([], {IN[0]: at(1)}) == []
    worker.step()
    assert len(worker.events) == 3


def test_commit_to_a_full_disk_or_not_is_all_or_nothing(broker: SqliteBroker) -> None:
    worker = Worker(broker.join("g", ["in"]))
    drive([worker], lambda: covers([worker], IN))
    with broker._bus.exclusive() as conn:
        pages = conn.execute("PRAGMA page_count").fetchone()[0]
        conn.execute(f"PRAGMA max_page_count = {pages}")
    big = [record._replace(value=b"x" * 100_000) for record in numbered(IN[0], 10)]
    with pytest.raises(Exception, match="no room"):
        worker.member.commit(big, {IN[0]: at(1)})
    assert broker.committed("g", IN) == {}
    assert broker.offsets([IN[0]])[IN[0]].end == 0
    with broker._bus.exclusive() as conn:
        conn.execute("PRAGMA max_page_count = 1000000")
    assert worker.member.commit(big, {IN[0]: at(1)}) == list(range(10))


def test_groups_without_members_are_listed_with_their_positions(broker: SqliteBroker) -> None:
    worker = Worker(broker.join("g", ["in"], "http://one"))
    drive([worker], lambda: covers([worker], IN))
    worker.member.commit([], {IN[1]: at(7, "note")})
    worker.member.leave()
    info = broker.groups()["g"]
    assert (info.members, info.positions) == ((), {IN[1]: at(7, "note")})


# --- locks -------------------------------------------------------------------------------------


def test_probe_sees_the_holder_and_its_beats(tmp_path: Path) -> None:
    path = tmp_path / "x.alive"
    assert probe(path) is None
    lock = FileLock(path)
    assert probe(path) is None
    lock.acquire()
    first = probe(path)
    assert first is not None
    assert probe(path) == first
    for _ in range(1_000):
        lock.beat()
        if probe(path) != first:
            break
    assert probe(path) not in {first, None}
    lock.close()
    assert probe(path) is None


def test_lock_excludes_another_of_the_same_process(tmp_path: Path) -> None:
    one, two = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert one.try_acquire()
    assert not two.try_acquire()
    one.release()
    assert two.try_acquire()
    for lock in (one, two):
        lock.close()
        lock.close()
    with pytest.raises(ValueError, match="closed"):
        one.acquire()
