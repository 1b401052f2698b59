"""Workers that stand by for each other: killed in turns, taken over without a restore, exact."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
from support.crash_app import Plan
from support.crash_run import Run, running, table_differences
from support.kafka_run import kafka_plan, running_on_kafka
from support.pipeline_run import PipelineRun
from support.web_client import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from support.zygote import Running, Zygote

pytestmark = [pytest.mark.crash, pytest.mark.slow]

SEED = int(os.environ.get("STREAMAPP_TEST_SEED") or random.SystemRandom().randrange(1 << 24))
#: How much of the changelogs must be at hand at a takeover, in parts of what is still to be read.
AT_HAND = 5
KILLED = 137


def plan_of(folder: Path) -> Plan:
    draw = random.Random(SEED)
    return Plan(
        str(folder),
        commit_ms=draw.choice([20, 100]),
        store_ms=draw.choice([20, 500]),
        cache_bytes=draw.choice([1 << 16, 1 << 20]),
        partitions=4,
        standbys=1,
        seed=SEED,
    )


def url_of(worker: Running) -> str:
    return f"http://127.0.0.1:{worker.plan.web_port}"


def status_of(worker: Running, path: str = "status") -> dict[str, Any]:
    """Return what a worker says of itself; nothing while it does not answer."""
    url = f"http://127.0.0.1:{worker.plan.web_port}/api/v1/{path}"
    try:
        with urlopen(url, timeout=5) as response:
            found: dict[str, Any] = json.load(response)
            return found
    except OSError:
        return {}


def lags(worker: Running) -> list[int]:
    standby = status_of(worker).get("standby") or {"partitions": []}
    return [place["lag"] for place in standby["partitions"]]


def wait_until_followed(run: Run, worker: Running) -> None:
    """Wait until a worker has what the others have."""
    run.wait_until(lambda: bool(found := lags(worker)) and not any(found), worker)


def take_over(run: Run) -> None:
    """Kill the owner of half of the partitions under load; its peer must go on, and be exact."""
    run.feed(1_500)
    owner = run.start(web_port=free_port())
    run.drain(owner)
    peer = run.start(web_port=free_port())
    wait_until_followed(run, owner)
    wait_until_followed(run, peer)
    placement = status_of(peer, "tables/counts")["placement"]
    roles = {url_of(owner): "standby", url_of(peer): "active"}
    assert {place["worker"] for place in placement} == roles.keys()
    assert all(place["role"] == roles[place["worker"]] for place in placement)
    rebalances = status_of(peer)["group"]["rebalances"]
    run.feed(30)
    owner.kill()
    run.wait_until(lambda: status_of(peer)["group"]["rebalances"] > rebalances, peer)
    run.feed(300)
    run.drain(peer)
    restore = status_of(peer)["restore"]
    assert restore["is_done"]
    assert restore["at_hand"] > AT_HAND * restore["records"]
    run.stop(peer)
    run.assert_exact(run.differences())
    # What it had followed and what it did itself.
    run.assert_exact(table_differences(run.expected().tables, run.stored(slot=1)))


@pytest.mark.timeout(180)
def test_peer_of_a_killed_worker_goes_on_without_a_restore(zygote: Zygote, tmp_path: Path) -> None:
    with running(zygote, plan_of(tmp_path)) as run:
        take_over(run)


@pytest.mark.timeout(180)
def test_the_same_over_kafka(zygote: Zygote, tmp_path: Path) -> None:
    plan = kafka_plan(tmp_path, SEED, partitions=4, standbys=1, session_ms=2_000)
    with running_on_kafka(zygote, plan) as run:
        take_over(run)


def kill_in_turns(run: Run, turns: int) -> None:
    """Kill one of two workers again and again, each time when both stand by."""
    workers = [run.start(web_port=free_port()) for _ in range(2)]
    for _ in range(turns):
        run.feed(200)
        run.wait_until(lambda: all(map(lags, workers)), workers[0])
        run.feed(200)
        time.sleep(run.draw.uniform(0.0, 0.3))  # the moment of the kill is the test's input
        workers.pop(run.draw.randrange(2)).kill()
        run.feed(200)
        workers.append(run.start(web_port=free_port()))
    for worker in workers:
        worker.kill()
    run.assert_exact(run.finish(rebuild=False))


@pytest.mark.timeout(180)
def test_kills_in_turns_lose_and_repeat_nothing(zygote: Zygote, tmp_path: Path) -> None:
    with running(zygote, plan_of(tmp_path)) as run:
        kill_in_turns(run, 4)


@pytest.mark.timeout(180)
def test_kills_in_turns_are_nothing_to_pipelines(zygote: Zygote, tmp_path: Path) -> None:
    with closing(PipelineRun(zygote, plan_of(tmp_path))) as run:
        kill_in_turns(run, 2)


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
def test_many_kills_in_turns(zygote: Zygote, tmp_path: Path) -> None:
    with running(zygote, plan_of(tmp_path)) as run:
        kill_in_turns(run, 100)


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
def test_many_kills_in_turns_over_kafka(zygote: Zygote, tmp_path: Path) -> None:
    plan = kafka_plan(tmp_path, SEED, partitions=4, standbys=1, session_ms=2_000)
    with running_on_kafka(zygote, plan) as run:
        kill_in_turns(run, 20)


@pytest.mark.parametrize("point", ["standby.read", "standby.written"])
@pytest.mark.timeout(180)
def test_death_while_following(zygote: Zygote, tmp_path: Path, point: str) -> None:
    """The one that dies comes back to what it had followed, and takes it over."""
    with running(zygote, plan_of(tmp_path)) as run:
        run.feed(1_000)
        owner = run.start()
        run.drain(owner)
        for passage in (1, 2, 5):
            follower = run.start(crash_at=f"{point}:{passage}")
            while not follower.is_gone():
                run.feed(20)
                time.sleep(0.02)  # the pace of the records
            assert follower.wait() == KILLED, run.log_tail()
        follower = run.start(web_port=free_port())
        run.wait_until(lambda: bool(lags(follower)), follower)
        owner.send(signal.SIGKILL)
        run.feed(200)
        run.drain(follower)
        run.stop(follower)
        run.assert_exact(run.finish(rebuild=False))
