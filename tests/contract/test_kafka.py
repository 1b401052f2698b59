"""What only a real Kafka shows: takeover, fences, memberships, its errors and its death."""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from support import kafka
from support.brokers import (
    DEADLINE_S,
    KafkaBrokers,
    Worker,
    at,
    drive,
    numbered,
    read_all,
    record,
)

from streamapp.core.batch import TP
from streamapp.errors import (
    BrokerError,
    BrokerUnavailableError,
    ConfigError,
    FencedError,
    TooLargeError,
)
from streamapp.transport.broker import Assigned, Lost, Revoking, TopicSpec
from streamapp.transport.kafka import KafkaBroker, KafkaOptions
from streamapp.transport.kafka.transactions import TIMEOUT_MS, open_producer
from streamapp.transport.partitioner import partition_for_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streamapp.transport.broker import Broker

#: Seconds; librdkafka's patience with coordinators is a part of it.
RESUMED_S = 20.0
IN = [TP("in", p) for p in range(4)]
OUT = TP("out", 0)


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[KafkaBrokers]:
    brokers = KafkaBrokers(tmp_path)
    yield brokers
    brokers.close_all()


@pytest.fixture
def broker(brokers: KafkaBrokers) -> KafkaBroker:
    broker = brokers.open()
    assert isinstance(broker, KafkaBroker)
    prepare(broker)
    return broker


@pytest.fixture
def opened(brokers: KafkaBrokers) -> Iterator[Callable[..., KafkaBroker]]:
    """Open the same storage with other options."""
    made: list[KafkaBroker] = []

    def open_broker(**options: str) -> KafkaBroker:
        made.append(KafkaBroker(KafkaOptions(brokers.servers, prefix=brokers.prefix, **options)))  # type: ignore[arg-type] # by name
        return made[-1]

    yield open_broker
    for one in made:
        one.close()


def prepare(broker: Broker) -> None:
    broker.create_topic(TopicSpec("in", 4))
    broker.create_topic(TopicSpec("out", 1))


def owner_of_all(broker: Broker) -> Worker:
    worker = Worker(broker.join("g", ["in"]))
    drive([worker], lambda: worker.owned == set(IN))
    return worker


def open_half_written(worker: Worker, broker: KafkaBroker) -> None:
    """Leave a commit as a worker does that dies in the middle of it."""
    producer = worker.member._commits._transactions._producer  # type: ignore[attr-defined]
    producer.begin_transaction()
    producer.produce(broker._cluster.names.theirs(OUT.topic), b"half", partition=0)
    assert producer.flush(DEADLINE_S) == 0


# --- transactions ------------------------------------------------------------------------------


def test_what_a_dead_worker_left_open_ends_at_the_takeover(
    brokers: KafkaBrokers, broker: KafkaBroker
) -> None:
    dead = owner_of_all(broker)
    dead.member.commit([record(OUT, b"k", b"whole")], {tp: at(1) for tp in IN})
    open_half_written(dead, broker)
    brokers.evict(broker, dead.member)
    begun = time.monotonic()
    heir_broker = brokers.open()
    owner_of_all(heir_broker)
    assert [value for _, value in read_all(heir_broker, OUT)] == [b"whole"]
    assert heir_broker.committed("g", IN) == {tp: at(1) for tp in IN}
    assert time.monotonic() - begun < TIMEOUT_MS / 2_000


def test_takeover_disturbs_no_living_worker(broker: KafkaBroker) -> None:
    stays = owner_of_all(broker)
    stays.member.commit([], {tp: at(1) for tp in IN})
    comes = Worker(broker.join("g", ["in"]))
    drive([stays, comes], lambda: bool(stays.owned and comes.owned))
    for worker in (stays, comes):
        worker.member.commit([record(OUT, b"k", b"v")], {tp: at(2) for tp in worker.owned})
    assert broker.committed("g", IN) == {tp: at(2) for tp in IN}


def test_worker_that_the_cluster_cut_off_joins_again_by_itself(broker: KafkaBroker) -> None:
    worker = owner_of_all(broker)
    clients, name = broker._cluster.clients, worker.member._commits._transactions._id  # type: ignore[attr-defined]
    open_producer(clients, name)
    with pytest.raises(FencedError):
        worker.member.commit([record(OUT, b"k", b"cut off")], {IN[0]: at(7)})
    before = worker.generation
    drive([worker], lambda: worker.generation > before and worker.owned == set(IN))
    assert [type(event) for event in worker.events] == [Assigned, Lost, Assigned]
    assert worker.generation > before + 1
    worker.member.commit([record(OUT, b"k", b"again")], {IN[0]: at(1)})
    assert [value for _, value in read_all(broker, OUT)] == [b"again"]


def test_log_that_is_shorter_than_our_position_is_assigned_anew(broker: KafkaBroker) -> None:
    """Whoever has counted up to there would take the records that come now for counted."""
    worker = owner_of_all(broker)
    worker.member.seek({IN[0]: 99})
    before = worker.generation
    drive([worker], lambda: worker.generation > before and worker.owned == set(IN))
    assert [type(event) for event in worker.events] == [Assigned, Lost, Assigned]


def test_dead_server_of_the_url_stops_no_commit(
    brokers: KafkaBrokers, opened: Callable[..., KafkaBroker]
) -> None:
    """As one of three nodes: a commit has no use for it, and each new producer tries it."""
    dead = [f"127.0.0.1:{port}" for port in kafka.free_ports(3)]
    brokers.servers = ",".join([*dead, brokers.servers])
    broker = opened()
    prepare(broker)
    worker = owner_of_all(broker)
    for turn in range(3):
        worker.member._commits._transactions.discard()  # type: ignore[attr-defined]
        worker.member.commit([record(OUT, b"k", b"v")], {IN[0]: at(turn)})
    assert len(read_all(broker, OUT)) == 3


def test_record_that_is_too_large_fails_alone(broker: KafkaBroker) -> None:
    worker = owner_of_all(broker)
    large = record(OUT, b"k", bytes(3 << 20))
    with pytest.raises(TooLargeError, match=r"max\.message\.bytes"):
        worker.member.commit([record(OUT, b"k", b"beside it"), large], {IN[0]: at(5)})
    with pytest.raises(TooLargeError, match=r"max\.message\.bytes"):
        broker.append([large])
    worker.member.commit([record(OUT, b"k", b"next")], {IN[0]: at(1)})
    broker.append([record(OUT, b"k", b"last")])
    assert [value for _, value in read_all(broker, OUT)] == [b"next", b"last"]
    assert broker.committed("g", IN) == {IN[0]: at(1)}


# --- what leaves when --------------------------------------------------------------------------


def test_outputs_leave_at_once_and_what_the_group_reads_waits(broker: KafkaBroker) -> None:
    worker = owner_of_all(broker)
    own = record(IN[0], b"k", b"own")
    rest = worker.member.send([record(OUT, b"k", b"now"), own])  # type: ignore[attr-defined] # sends early
    assert list(rest) == [own]
    drive([worker], lambda: [value for _, value in read_all(broker, OUT)] == [b"now"])
    assert broker.committed("g", IN) == {}
    assert read_all(broker, IN[0]) == []
    worker.member.commit(rest, {IN[0]: at(1)})
    assert [value for _, value in read_all(broker, IN[0])] == [b"own"]
    assert [value for _, value in read_all(broker, OUT)] == [b"now"]


@pytest.mark.parametrize("guarantee", ["effectively_once", "at_least_once"])
def test_commit_waits_for_outputs_and_fails_with_them(
    opened: Callable[..., KafkaBroker], guarantee: str
) -> None:
    broker = opened(guarantee=guarantee)
    prepare(broker)
    worker = owner_of_all(broker)
    with polled(worker):
        worker.member.send([record(OUT, b"k", b"%d" % n) for n in range(500)])  # type: ignore[attr-defined] # sends early
        worker.member.commit([], {IN[0]: at(1)})
        assert len(read_all(broker, OUT)) == 500
        worker.member.send([record(OUT, b"k", bytes(3 << 20))])  # type: ignore[attr-defined] # sends early
        with pytest.raises(TooLargeError, match=r"max\.message\.bytes"):
            worker.member.commit([], {IN[0]: at(2)})
        assert broker.committed("g", IN) == {IN[0]: at(1)}
        worker.member.commit([], {IN[0]: at(3)})
        assert broker.committed("g", IN) == {IN[0]: at(3)}


def test_with_exactly_once_all_outputs_wait(opened: Callable[..., KafkaBroker]) -> None:
    broker = opened(guarantee="exactly_once")
    prepare(broker)
    worker = owner_of_all(broker)
    given = [record(OUT, b"k", b"v")]
    assert worker.member.send(given) == given  # type: ignore[attr-defined] # sends early
    assert read_all(broker, OUT) == []


@contextmanager
def polled(worker: Worker) -> Iterator[None]:
    """Poll the worker in a thread, as the engine does."""
    stopped = threading.Event()

    def poll() -> None:
        while not stopped.is_set():
            worker.step()

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


# --- memberships -------------------------------------------------------------------------------


def test_worker_with_a_name_comes_back_without_a_rebalance(
    broker: KafkaBroker, opened: Callable[..., KafkaBroker]
) -> None:
    other = Worker(broker.join("g", ["in"]))
    first_broker = opened(instance_id="one")
    first = Worker(first_broker.join("g", ["in"]))
    drive([other, first], lambda: bool(other.owned and first.owned))
    owned, seen = first.owned, len(other.events)
    first_broker.close()
    again = Worker(opened(instance_id="one").join("g", ["in"]))
    drive([other, again], lambda: bool(again.owned))
    assert again.owned == owned
    assert again.member.id == "one"
    assert other.events[seen:] == []
    again.member.commit([], {tp: at(1) for tp in again.owned})


def test_incremental_protocol_hands_over_and_keeps(opened: Callable[..., KafkaBroker]) -> None:
    broker = opened(protocol="consumer")
    prepare(broker)
    broker.append([r for tp in IN for r in numbered(tp, 2)])
    one = owner_of_all(broker)
    drive([one], lambda: len(one.values) == 8)
    two = Worker(broker.join("g", ["in"]))
    drive([one, two], lambda: bool(two.owned) and one.owned | two.owned == set(IN))
    assert not one.owned & two.owned
    assert [type(e) for e in one.events if not hasattr(e, "offsets")][:2] == [Assigned, Revoking]
    for worker in (one, two):
        worker.member.commit([], {tp: at(2) for tp in worker.owned})
    with pytest.raises(FencedError):
        one.member.commit([], {next(iter(two.owned)): at(9)})
    one.member.leave()
    drive([two], lambda: two.owned == set(IN))
    assert broker.committed("g", IN) == {tp: at(2) for tp in IN}


# --- other clients ------------------------------------------------------------------------------


def test_producers_in_java_choose_the_partitions_that_we_choose(
    brokers: KafkaBrokers, broker: KafkaBroker
) -> None:
    """Otherwise a key of theirs and of ours would live in two tables."""
    keys = ["", "a", "ü", "漢字", "long " * 2_000, *(f"user-{n}" for n in range(100))]
    broker.create_topic(TopicSpec("java", 7))
    kafka.run_tool(
        "org.apache.kafka.tools.ConsoleProducer",
        *("--bootstrap-server", brokers.servers, "--topic", f"{brokers.prefix}java"),
        *("--property", "parse.key=true", "--property", "key.separator=|"),
        given="".join(f"{key}|value\n" for key in keys).encode(),
    )
    found: dict[bytes | None, int] = {}
    reader = broker.reader()
    reader.assign({TP("java", p): 0 for p in range(7)})
    deadline = time.monotonic() + DEADLINE_S
    while len(found) < len(keys) and time.monotonic() < deadline:
        for batch in reader.poll(0.2, 1_000):
            found.update(dict.fromkeys(batch.keys, batch.tp.partition))
    reader.close()
    assert found == {key.encode(): partition_for_key(key.encode(), 7) for key in keys}
    assert len(set(found.values())) == 7


# --- errors ------------------------------------------------------------------------------------


def test_closed_broker_leaves_no_client_to_the_garbage_collector(
    opened: Callable[..., KafkaBroker],
) -> None:
    """librdkafka ends the process when a client is collected in the thread of its answers."""
    broker = opened()
    client = weakref.ref(broker._cluster.admin.client)
    broker.close()
    assert client() is None
    with pytest.raises(BrokerError, match="is closed"):
        broker.topics()


def test_nothing_listens(capfd: pytest.CaptureFixture[str]) -> None:
    (port,) = kafka.free_ports(1)
    with pytest.raises(BrokerUnavailableError, match="Does a broker listen there"):
        KafkaBroker(KafkaOptions(f"127.0.0.1:{port}"))
    assert capfd.readouterr() == ("", "")


def test_settings_that_librdkafka_does_not_know(brokers: KafkaBrokers) -> None:
    with pytest.raises(ConfigError, match=r"no\.such"):
        KafkaBroker(KafkaOptions(brokers.servers, settings={"no.such": "1"}))


def test_more_copies_than_brokers(
    brokers: KafkaBrokers, opened: Callable[..., KafkaBroker]
) -> None:
    assert brokers.servers
    with pytest.raises(ConfigError, match="replication="):
        opened(replication=3).create_topic(TopicSpec("t", 1))


# --- the death of a broker ---------------------------------------------------------------------


@pytest.mark.crash
@pytest.mark.slow
def test_killed_broker_comes_back_and_the_worker_stays(broker: KafkaBroker) -> None:
    cluster = kafka.shared()
    worker = owner_of_all(broker)
    worker.member.commit([record(OUT, b"k", b"before")], {IN[0]: at(1)})
    broker.append([record(OUT, b"k", b"appended")])
    cluster.kill(1)
    cluster.restart(1)
    begun = time.monotonic()
    commit_at_last(worker, b"after")
    assert time.monotonic() - begun < RESUMED_S
    values = [value for _, value in read_all(broker, OUT)]
    assert values == [b"before", b"appended", b"after"]
    assert broker.committed("g", IN) == {IN[0]: at(2)}


@pytest.mark.crash
@pytest.mark.slow
def test_questions_during_an_outage_do_no_harm(
    broker: KafkaBroker, opened: Callable[..., KafkaBroker]
) -> None:
    """librdkafka's admin client never finds the coordinator again, or ends the process."""
    worker = owner_of_all(broker)
    asker = opened(settings={"socket.timeout.ms": "1000"})  # type: ignore[arg-type] # not a text
    assert [one.id for one in asker.members("g")] == [worker.member.id]
    cluster = kafka.shared()
    cluster.kill(1)
    for ask in (asker.groups, lambda: asker.members("g"), asker.topics):
        with pytest.raises(BrokerUnavailableError):
            ask()
    cluster.restart(1)
    drive([worker], lambda: answers(lambda: asker.members("g"), asker.groups, asker.topics))


def answers(*questions: Callable[[], object]) -> bool:
    """Tell whether the cluster has answers to all of them."""
    try:
        return all(ask() for ask in questions)
    except BrokerError:
        return False


def commit_at_last(worker: Worker, value: bytes) -> None:
    """Commit as the engine would: again when nothing was written, anew after a loss."""
    deadline = time.monotonic() + 2 * DEADLINE_S
    while True:
        worker.step()
        try:
            worker.member.commit([record(OUT, b"k", value)], {IN[0]: at(2)})
        except BrokerError:
            assert time.monotonic() < deadline
        else:
            return
