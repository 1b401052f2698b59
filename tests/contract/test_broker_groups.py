"""What every broker promises about groups: assignment, positions and the atomic commit."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from support.brokers import (
    DEADLINE_S,
    Brokers,
    Worker,
    at,
    covers,
    drive,
    numbered,
    read_all,
    record,
)

from streamapp.core.batch import TP, RecordBatch
from streamapp.core.placement import standbys
from streamapp.errors import FencedError, UnknownTopicError
from streamapp.transport.broker import Assigned, Lost, Revoking, TopicSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from streamapp.transport.broker import Broker

IN = [TP("in", p) for p in range(4)]
OUT = TP("out", 0)


@pytest.fixture
def topics(broker: Broker) -> None:
    broker.create_topic(TopicSpec("in", 4))
    broker.create_topic(TopicSpec("out", 1))


@pytest.fixture
def join(broker: Broker, topics: None) -> Iterator[Callable[..., Worker]]:  # noqa: ARG001 - must exist
    workers: list[Worker] = []

    def join(topics: Iterable[str] = ("in",), group: str = "g", url: str = "") -> Worker:
        workers.append(Worker(broker.join(group, topics, url)))
        return workers[-1]

    yield join
    for worker in workers:
        worker.member.leave()


@pytest.fixture
def alone(join: Callable[..., Worker]) -> Worker:
    worker = join()
    drive([worker], lambda: worker.owned == set(IN))
    return worker


# --- assignment --------------------------------------------------------------------------------


def test_only_member_owns_everything(alone: Worker) -> None:
    assert [type(event) for event in alone.events] == [Assigned]
    assert alone.generation > 0


def test_member_of_no_existing_topic_owns_nothing(join: Callable[..., Worker]) -> None:
    worker = join(["absent"])
    drive([worker], lambda: bool(worker.events))
    assert worker.owned == frozenset()


@pytest.mark.parametrize("count", [2, 3])
def test_members_cover_the_partitions_once_each(join: Callable[..., Worker], count: int) -> None:
    workers = [join() for _ in range(count)]
    drive(workers, lambda: covers(workers, IN) and all(worker.owned for worker in workers))


def test_more_members_than_partitions_leave_some_idle(join: Callable[..., Worker]) -> None:
    workers = [join(["out"]) for _ in range(2)]
    drive(workers, lambda: covers(workers, [OUT]))


def test_topics_of_equal_partitions_are_assigned_alike(
    broker: Broker, join: Callable[..., Worker]
) -> None:
    broker.create_topic(TopicSpec("twin", 4))
    workers = [join(["in", "twin"]) for _ in range(3)]
    everything = [*IN, *(TP("twin", p) for p in range(4))]
    drive(workers, lambda: covers(workers, everything))
    for worker in workers:
        numbers = {
            topic: {tp.partition for tp in worker.owned if tp.topic == topic}
            for topic in ("in", "twin")
        }
        assert numbers["in"] == numbers["twin"]


def test_newcomer_makes_the_owner_revoke_first(alone: Worker, join: Callable[..., Worker]) -> None:
    before = alone.generation
    other = join()
    drive([alone, other], lambda: covers([alone, other], IN) and bool(other.owned))
    kinds = [type(event) for event in alone.events if not isinstance(event, RecordBatch)]
    assert kinds == [Assigned, Revoking, Assigned]
    assert alone.generation > before


def test_nobody_owns_a_partition_that_its_owner_has_not_released(
    alone: Worker, join: Callable[..., Worker]
) -> None:
    alone.answers = False
    other = join()
    drive([alone, other], lambda: isinstance(alone.events[-1], Revoking))
    for _ in range(5):
        alone.step()
        other.step()
    assert other.owned == frozenset()
    alone.member.release()
    drive([alone, other], lambda: covers([alone, other], IN) and bool(other.owned))


def test_others_take_over_from_one_that_leaves(join: Callable[..., Worker]) -> None:
    stays, leaves = join(), join()
    drive([stays, leaves], lambda: covers([stays, leaves], IN) and bool(leaves.owned))
    leaves.member.leave()
    drive([stays], lambda: covers([stays], IN))


def test_groups_do_not_disturb_each_other(alone: Worker, join: Callable[..., Worker]) -> None:
    other = join(group="other")
    drive([alone, other], lambda: other.owned == set(IN))
    assert alone.owned == set(IN)


# --- reading -----------------------------------------------------------------------------------


def test_no_batch_comes_before_a_seek(broker: Broker, join: Callable[..., Worker]) -> None:
    broker.append(numbered(IN[0], 3))
    worker = join()
    worker.start = lambda _tps: {}
    drive([worker], lambda: bool(worker.owned))
    for _ in range(5):
        worker.step()
    assert worker.values == []
    worker.member.seek({IN[0]: 1})
    drive([worker], lambda: worker.values == [b"v1", b"v2"])


def test_seeking_a_partition_of_others_is_ignored(
    broker: Broker, join: Callable[..., Worker]
) -> None:
    one, two = join(), join()
    drive([one, two], lambda: covers([one, two], IN) and bool(one.owned and two.owned))
    foreign = next(iter(two.owned))
    one.member.seek({foreign: 0})
    broker.append([record(foreign, b"k", b"theirs")])
    drive([one, two], lambda: two.values == [b"theirs"])
    one.step()
    assert one.values == []


def test_seek_moves_the_position_back(broker: Broker, alone: Worker) -> None:
    broker.append(numbered(IN[1], 3))
    drive([alone], lambda: len(alone.values) == 3)
    alone.member.seek({IN[1]: 2})
    drive([alone], lambda: alone.values[3:] == [b"v2"])


def test_paused_partition_is_silent_until_resumed(broker: Broker, alone: Worker) -> None:
    alone.member.pause([IN[0]])
    broker.append([record(IN[0], b"k", b"paused"), record(IN[1], b"k", b"live")])
    drive([alone], lambda: bool(alone.values))
    for _ in range(5):
        alone.step()
    assert alone.values == [b"live"]
    alone.member.resume([IN[0]])
    drive([alone], lambda: alone.values == [b"live", b"paused"])


def test_member_poll_bounds_its_records(broker: Broker, alone: Worker) -> None:
    broker.append([r for tp in IN for r in numbered(tp, 20)])
    total = 0
    deadline = time.monotonic() + DEADLINE_S
    while total < 80 and time.monotonic() < deadline:
        batches = alone.member.poll(0.05, 7)
        assert all(isinstance(batch, RecordBatch) for batch in batches)
        count = sum(len(batch) for batch in batches if isinstance(batch, RecordBatch))
        assert count <= 7
        total += count
    assert total == 80


def test_no_batches_between_revoking_and_assigned(
    broker: Broker, alone: Worker, join: Callable[..., Worker]
) -> None:
    alone.answers = False
    other = join()
    drive([alone, other], lambda: isinstance(alone.events[-1], Revoking))
    broker.append([record(tp, b"k", b"late") for tp in IN])
    for _ in range(5):
        assert alone.step() == []


def test_waiting_member_returns_when_woken(alone: Worker) -> None:
    waker = threading.Timer(0.05, alone.member.wake)
    waker.start()
    started = time.monotonic()
    assert alone.member.poll(DEADLINE_S, 10) == []
    assert time.monotonic() - started < DEADLINE_S / 2
    waker.join()


# --- commit ------------------------------------------------------------------------------------


def test_commit_writes_records_positions_and_notes(broker: Broker, alone: Worker) -> None:
    positions = {IN[0]: at(5, "note ü"), IN[1]: at(2)}
    assert alone.member.commit([record(OUT, b"k", b"a"), record(OUT, b"k", b"b")], positions) == [
        0,
        1,
    ]
    assert broker.committed("g", IN) == positions
    assert read_all(broker, OUT) == [(0, b"a"), (1, b"b")]
    alone.member.commit([], {IN[0]: at(6)})
    assert broker.committed("g", [IN[0], IN[2]]) == {IN[0]: at(6)}
    assert broker.groups()["g"].positions == {IN[0]: at(6), IN[1]: at(2)}


def test_commit_to_an_unknown_topic_writes_nothing(broker: Broker, alone: Worker) -> None:
    with pytest.raises(UnknownTopicError):
        alone.member.commit(
            [record(OUT, b"k", b"v"), record(TP("no", 0), b"", b"")], {IN[0]: at(1)}
        )
    assert broker.committed("g", IN) == {}
    assert broker.offsets([OUT])[OUT].end == 0


def test_positions_outlive_the_members(broker: Broker, alone: Worker) -> None:
    alone.member.commit([], {IN[3]: at(9)})
    alone.member.leave()
    assert broker.committed("g", IN) == {IN[3]: at(9)}


def assert_fenced(broker: Broker, worker: Worker, tp: TP) -> None:
    before = broker.committed("g", IN), read_all(broker, OUT)
    with pytest.raises(FencedError):
        worker.member.commit([record(OUT, b"k", b"fenced")], {tp: at(77)})
    assert (broker.committed("g", IN), read_all(broker, OUT)) == before


def test_commit_while_revoking_is_accepted_and_after_release_it_is_not(
    broker: Broker, alone: Worker, join: Callable[..., Worker]
) -> None:
    alone.answers = False
    other = join()
    drive([alone, other], lambda: isinstance(alone.events[-1], Revoking))
    assert alone.member.commit([record(OUT, b"k", b"last")], {IN[0]: at(3)}) == [0]
    alone.member.release()
    drive([alone, other], lambda: bool(other.owned))
    assert broker.committed("g", IN) == {IN[0]: at(3)}
    assert_fenced(broker, alone, next(iter(other.owned)))


def test_commit_of_a_partition_of_others_is_fenced(
    broker: Broker, join: Callable[..., Worker]
) -> None:
    one, two = join(), join()
    drive([one, two], lambda: covers([one, two], IN) and bool(one.owned and two.owned))
    assert_fenced(broker, one, next(iter(two.owned)))


def test_commit_after_leaving_is_fenced(broker: Broker, alone: Worker) -> None:
    alone.member.leave()
    assert_fenced(broker, alone, IN[0])


@pytest.mark.parametrize("end", ["leave", "evict"])
def test_records_alone_are_fenced_too(
    broker: Broker, brokers: Brokers, alone: Worker, end: str
) -> None:
    if end == "leave":
        alone.member.leave()
    else:
        brokers.evict(broker, alone.member)
    with pytest.raises(FencedError):
        alone.member.commit([record(OUT, b"k", b"fenced")], {})
    assert read_all(broker, OUT) == []
    assert broker.committed("g", IN) == {}


def test_evicted_member_loses_all_is_fenced_and_joins_again(
    broker: Broker, brokers: Brokers, alone: Worker
) -> None:
    before = alone.generation
    brokers.evict(broker, alone.member)
    assert_fenced(broker, alone, IN[0])
    drive([alone], lambda: any(isinstance(event, Lost) for event in alone.events))
    lost = next(event for event in alone.events if isinstance(event, Lost))
    assert lost.tps == set(IN)
    assert lost.reason
    drive([alone], lambda: alone.owned == set(IN))
    assert alone.generation > before
    assert alone.member.commit([], {IN[0]: at(1)}) == []


def test_commit_prepared_before_an_eviction_is_fenced_until_the_next_seek(
    broker: Broker, brokers: Brokers, alone: Worker
) -> None:
    alone.start = lambda _tps: {}
    brokers.evict(broker, alone.member)
    drive(
        [alone],
        lambda: (
            bool(alone.events) and isinstance(alone.events[-1], Assigned) and len(alone.events) > 1
        ),
    )
    assert_fenced(broker, alone, IN[0])
    alone.member.seek({IN[0]: 0})
    assert alone.member.commit([], {IN[0]: at(1)}) == []


def test_others_take_over_from_an_evicted_member(
    broker: Broker, brokers: Brokers, join: Callable[..., Worker]
) -> None:
    stays, hangs = join(), join()
    drive([stays, hangs], lambda: covers([stays, hangs], IN) and bool(hangs.owned))
    brokers.evict(broker, hangs.member)
    drive([stays], lambda: covers([stays], IN))
    assert_fenced(broker, hangs, IN[0])


def test_groups_shows_members_urls_and_partitions(
    broker: Broker, brokers: Brokers, join: Callable[..., Worker]
) -> None:
    worker = join(url="http://worker:6066")
    drive([worker], lambda: worker.owned == set(IN))
    info = broker.groups()["g"]
    assert info.name == "g"
    assert info.generation == (worker.generation if brokers.tells_generation else 0)
    (member,) = info.members
    assert (member.id, member.url, member.is_alive) == (
        worker.member.id,
        "http://worker:6066",
        True,
    )
    assert member.tps == set(IN)
    assert broker.members("g") == info.members
    assert broker.members("absent") == ()
    worker.member.leave()
    assert broker.groups()["g"].members == ()
    assert broker.members("g") == ()


def test_who_takes_over_from_a_dead_member_had_stood_by(
    broker: Broker, brokers: Brokers, join: Callable[..., Worker]
) -> None:
    """The order in which partitions are given to members is the one that is read off them."""
    workers = [join() for _ in range(3)]
    drive(workers, lambda: covers(workers, IN) and all(worker.owned for worker in workers))
    owned = {member.id: member.tps for member in broker.members("g")}
    assert owned == {worker.member.id: worker.owned for worker in workers}
    chosen = standbys(owned, {"in": len(IN)}, 1)
    dead = workers.pop(1)
    brokers.evict(broker, dead.member)
    drive(workers, lambda: covers(workers, IN))
    for worker in workers:
        assert worker.owned <= owned[worker.member.id] | chosen[worker.member.id]


def test_member_ids_are_unique(join: Callable[..., Worker]) -> None:
    assert len({join().member.id for _ in range(3)}) == 3
