"""Workers over a real Kafka: killed, taken over, rebalanced, and with a broker that dies."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest
from support import kafka
from support.kafka_run import KafkaPipelineRun, OnKafka, kafka_plan, running_on_kafka

if TYPE_CHECKING:
    from pathlib import Path

    from support.zygote import Running, Zygote

pytestmark = [pytest.mark.crash, pytest.mark.slow]

SEED = int(os.environ.get("STREAMAPP_TEST_SEED") or random.SystemRandom().randrange(1 << 24))

#: Seconds; sessions end after six. Generous: the machine of a test may have other things to do.
STOPPED_S = 8.0
KILLED_S = 14.0
RESUMED_S = 60.0


def kills(zygote: Zygote, folder: Path, seed: int, count: int) -> None:
    with running_on_kafka(zygote, kafka_plan(folder, seed)) as run:
        for _ in range(count):
            run.kill_once()
        run.assert_exact(run.finish())


@pytest.mark.timeout(120)
def test_random_kills_over_kafka_lose_and_repeat_nothing(zygote: Zygote, tmp_path: Path) -> None:
    kills(zygote, tmp_path, SEED, 10)


@pytest.mark.timeout(120)
def test_pipelines_over_kafka_survive_kills(zygote: Zygote, tmp_path: Path) -> None:
    """``group_by``, windows, sessions and joins, with all outputs one by one."""
    plan = kafka_plan(tmp_path, SEED, guarantee="exactly_once", partitions=2)
    with running_on_kafka(zygote, plan, KafkaPipelineRun) as run:
        for _ in range(3):
            run.kill_once()
        run.assert_exact(run.finish())


@pytest.mark.timeout(120)
def test_workers_over_kafka_come_stop_and_die(zygote: Zygote, tmp_path: Path) -> None:
    plan = kafka_plan(tmp_path, SEED, partitions=4, session_ms=6_000)
    with running_on_kafka(zygote, plan) as run:
        first = run.start_ready_under_load()
        second = run.start()
        run.wait_until(lambda: owners(run) == 2, second)
        run.feed(200)
        begun = time.monotonic()
        run.stop(first)
        run.drain(second)
        stopped_s = time.monotonic() - begun
        third = run.start()
        run.wait_until(lambda: owners(run) == 2, third)
        run.feed(200)
        third.kill()
        begun = time.monotonic()
        run.feed(50)
        run.drain(second)
        killed_s = time.monotonic() - begun
        print(f"seconds until a peer was up to date: {stopped_s:.1f}, killed {killed_s:.1f}")  # noqa: T201 - with -s
        assert stopped_s < STOPPED_S
        assert killed_s < KILLED_S
        run.stop(second)
        run.assert_exact(run.finish(rebuild=False))


def owners(run: OnKafka) -> int:
    """Return how many workers own partitions of the input."""
    group = run.bus.groups().get("crash")
    members = group.members if group is not None else ()
    return sum(any(tp.topic == "in" for tp in member.tps) for member in members)


def restart(run: OnKafka, worker: Running, cluster: kafka.Cluster, how: signal.Signals) -> None:
    """End a random node under load and start it again; the worker stays and goes on.

    With several nodes the others must do until it is back.
    """
    number = run.draw.randint(1, len(cluster.nodes))
    run.feed(150)
    begun = time.monotonic()
    cluster.kill(number, how)
    if len(cluster.nodes) == 1:
        cluster.restart(number)
        begun = time.monotonic()
    run.feed(150)
    run.drain(worker, 2 * RESUMED_S)
    resumed_s = time.monotonic() - begun
    print(f"{how.name} of node {number}: up to date after {resumed_s:.1f} s")  # noqa: T201 - with -s
    assert resumed_s < RESUMED_S
    if len(cluster.nodes) > 1:
        cluster.restart(number)


def restarts(zygote: Zygote, folder: Path, cluster: kafka.Cluster, count: int) -> None:
    with running_on_kafka(zygote, kafka_plan(folder, SEED, cluster, session_ms=6_000)) as run:
        worker = run.start_ready_under_load()
        for _ in range(count):
            restart(run, worker, cluster, signal.SIGKILL)
            restart(run, worker, cluster, signal.SIGTERM)
        run.stop(worker)
        run.assert_exact(run.finish(rebuild=False))


@pytest.mark.timeout(300)
def test_worker_stays_when_the_broker_restarts_under_load(zygote: Zygote, tmp_path: Path) -> None:
    restarts(zygote, tmp_path, kafka.shared(), 1)


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
def test_worker_stays_over_many_restarts_of_the_broker(zygote: Zygote, tmp_path: Path) -> None:
    restarts(zygote, tmp_path, kafka.shared(), 10)


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
def test_any_of_three_brokers_may_end_under_load(zygote: Zygote, tmp_path: Path) -> None:
    cluster = kafka.Cluster(tmp_path / "nodes", nodes=3)
    try:
        restarts(zygote, tmp_path / "run", cluster, 10)
    finally:
        cluster.stop()


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_rolling_restarts_of_workers(zygote: Zygote, tmp_path: Path, count: int) -> None:
    """Each worker is replaced twice, once stopped and once killed; who owned what is checked."""
    with running_on_kafka(zygote, kafka_plan(tmp_path, SEED, partitions=4)) as run:
        workers = [run.start_ready_under_load()]
        workers += [run.start() for _ in range(count - 1)]
        for how in (signal.SIGTERM, signal.SIGKILL):
            for _ in range(count):
                run.wait_until(lambda: owners(run) == count, workers[-1])
                run.feed(100)
                workers[0].send(how)
                workers.append(run.start())
                run.feed(100)
                workers.pop(0).wait()
        run.drain(workers[-1])
        for worker in workers:
            run.stop(worker)
        run.assert_exact(run.finish(rebuild=False))


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
def test_many_random_kills_over_kafka(zygote: Zygote, tmp_path: Path) -> None:
    kills(zygote, tmp_path, SEED + 1_000, 100)
