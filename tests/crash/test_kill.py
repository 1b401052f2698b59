"""Workers killed at random moments and at named points: what is committed is always exact."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from support.crash_run import Run, random_plan, running

if TYPE_CHECKING:
    from support.zygote import Zygote

pytestmark = [pytest.mark.crash, pytest.mark.slow]

#: A number of its own for each run of the suite, printed when a test fails; set it to repeat one.
SEED = int(os.environ.get("STREAMAPP_TEST_SEED") or random.SystemRandom().randrange(1 << 24))


def kills(zygote: Zygote, folder: Path, seed: int, count: int) -> None:
    with running(zygote, random_plan(folder, seed)) as run:
        for _ in range(count):
            run.kill_once()
        run.assert_exact(run.finish())


@pytest.mark.parametrize("number", range(10))
@pytest.mark.timeout(180)
def test_random_kills_lose_and_repeat_nothing(zygote: Zygote, tmp_path: Path, number: int) -> None:
    kills(zygote, tmp_path, SEED + number, 20)


@pytest.mark.timeout(180)
def test_stops_at_random_moments_end_well(zygote: Zygote, tmp_path: Path) -> None:
    """Also before the worker processes: while it joins, or restores."""
    with running(zygote, random_plan(tmp_path, SEED)) as run:
        for number in range(8):
            run.feed(150)
            worker = run.start() if number % 2 else run.start_ready()
            time.sleep(run.draw.uniform(0.05, 0.4))  # the moment of the stop is the test's input
            worker.send(signal.SIGTERM)
            # The process may not have come to handle signals yet.
            well = {0, -signal.SIGTERM} if number % 2 else {0}
            assert worker.wait() in well, run.log_tail()
        run.assert_exact(run.finish())


@pytest.mark.nightly
@pytest.mark.parametrize("number", range(100))
@pytest.mark.timeout(1_200)
def test_many_random_kills(zygote: Zygote, tmp_path: Path, number: int) -> None:
    kills(zygote, tmp_path, SEED + 1_000 + number, 100)


# --- named points --------------------------------------------------------------------------------

#: Points that a worker passes whenever it works, and how many passages at most are waited for.
ALWAYS = {
    "commit.before": 8,
    "sqlite.between": 8,
    "sqlite.committed": 8,
    "commit.after": 8,
    "store.before": 4,
    "store.between": 4,
    "store.after": 4,
    "checkpoint.copied": 3,
    "checkpoint.described": 3,
    "checkpoint.synced": 3,
    "checkpoint.renamed": 3,
}
DEATHS = 20
KILLED = 137


def die(run: Run, point: str, passage: int) -> None:
    """Let a worker die at a point; it gets records until it comes there."""
    worker = run.start(crash_at=f"{point}:{passage}")
    for _ in range(1_000):
        if worker.is_gone():
            break
        run.feed(5)
        time.sleep(0.01)  # the pace of the records
    assert worker.wait() == KILLED, run.log_tail()


@pytest.mark.parametrize("point", ALWAYS)
@pytest.mark.timeout(180)
def test_death_at_a_point_of_the_commit(zygote: Zygote, tmp_path: Path, point: str) -> None:
    plan = random_plan(tmp_path, SEED)
    plan = msgspec.structs.replace(
        plan, commit_ms=10, store_ms=min(plan.store_ms, 20), checkpoint_ms=50
    )
    with running(zygote, plan) as run:
        for _ in range(DEATHS):
            die(run, point, run.draw.randint(1, ALWAYS[point]))
        run.assert_exact(run.finish(rebuild=False))


@pytest.mark.timeout(180)
def test_death_in_the_middle_of_a_restore(zygote: Zygote, tmp_path: Path) -> None:
    plan = msgspec.structs.replace(random_plan(tmp_path, SEED), partitions=4)
    with running(zygote, plan) as run:
        run.feed(2_000)
        worker = run.start()
        run.drain(worker)
        worker.kill()
        for number in range(DEATHS):
            if number % 4 == 0:
                shutil.rmtree(plan.data)
            worker = run.start(crash_at=f"restore.batch:{1 + number % 4}")
            # What earlier ones have restored stays: at last there is nothing left to restore.
            run.wait_ready(worker, may_end=True)
            worker.kill()
            run.feed(200)
        run.assert_exact(run.finish(rebuild=False))


@pytest.mark.parametrize("point", ["rebalance.drained", "rebalance.committed"])
@pytest.mark.timeout(180)
def test_death_while_giving_partitions_up(zygote: Zygote, tmp_path: Path, point: str) -> None:
    plan = msgspec.structs.replace(random_plan(tmp_path, SEED), partitions=4)
    with running(zygote, plan) as run:
        older = run.start(crash_at=f"{point}:1")
        for _ in range(DEATHS):
            run.feed(100)
            run.wait_ready(older)
            newer = run.start(crash_at=f"{point}:1")
            assert older.wait() == KILLED, run.log_tail()
            older = newer
        older.kill()
        run.assert_exact(run.finish(rebuild=False))
