"""Workers over a real Kafka: killed, taken over, rebalanced, and with a broker that dies."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest
from support import kafka
from support.kafka_run import KafkaPipelineRun, OnKafka, kafka_plan, running_on_kafka

if TYPE_CHECKING:
    from pathlib import Path

    from support.zygote import Zygote

pytestmark = [pytest.mark.crash, pytest.mark.slow]

SEED = int(os.environ.get("STREAMAPP_TEST_SEED") or random.SystemRandom().randrange(1 << 24))

#: Seconds; sessions end after six. Generous: the machine of a test may have other things to do.
STOPPED_S = 8.0
KILLED_S = 14.0
RESUMED_S = 30.0


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


@pytest.mark.timeout(120)
def test_worker_stays_when_the_broker_dies_under_load(zygote: Zygote, tmp_path: Path) -> None:
    cluster = kafka.shared()
    with running_on_kafka(zygote, kafka_plan(tmp_path, SEED, session_ms=6_000)) as run:
        worker = run.start_ready_under_load()
        run.feed(300)
        cluster.kill(1)
        cluster.restart(1)
        begun = time.monotonic()
        run.feed(300)
        run.drain(worker)
        resumed_s = time.monotonic() - begun
        print(f"seconds until all was committed again: {resumed_s:.1f}")  # noqa: T201 - with -s
        assert resumed_s < RESUMED_S
        run.stop(worker)
        run.assert_exact(run.finish(rebuild=False))


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_any_of_three_brokers_may_die_under_load(zygote: Zygote, tmp_path: Path) -> None:
    cluster = kafka.Cluster(tmp_path / "nodes", nodes=3)
    try:
        plan = kafka_plan(tmp_path / "run", SEED, cluster, session_ms=6_000)
        with running_on_kafka(zygote, plan) as run:
            worker = run.start_ready_under_load()
            for number in (1, 2, 3):
                run.feed(200)
                cluster.kill(number)
                run.feed(200)
                run.drain(worker)
                cluster.restart(number)
            run.stop(worker)
            run.assert_exact(run.finish(rebuild=False))
    finally:
        cluster.stop()


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
def test_many_random_kills_over_kafka(zygote: Zygote, tmp_path: Path) -> None:
    kills(zygote, tmp_path, SEED + 1_000, 100)
