"""Pipelines in workers that are killed: every row, late record and dead letter is there once.

What must be there is computed from the logs, with lists; see ``pipeline_model``.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from support.crash_app import Plan
from support.crash_run import random_plan
from support.pipeline_planted import BUGS
from support.pipeline_run import PipelineRun, told_by
from support.web_client import free_port

if TYPE_CHECKING:
    from support.zygote import Zygote

pytestmark = [pytest.mark.crash, pytest.mark.slow]

#: A number of its own for each run of the suite, printed when a test fails; set it to repeat one.
SEED = int(os.environ.get("STREAMAPP_TEST_SEED") or random.SystemRandom().randrange(1 << 24))


@contextmanager
def running(zygote: Zygote, plan: Plan) -> Iterator[PipelineRun]:
    run = PipelineRun(zygote, plan)
    try:
        yield run
    finally:
        run.close()


def kills(zygote: Zygote, plan: Plan, count: int) -> None:
    with running(zygote, plan) as run:
        for _ in range(count):
            run.kill_once()
            run.watch()
        run.assert_exact(run.finish())


@pytest.mark.parametrize("number", range(2))
@pytest.mark.timeout(120)
def test_random_kills_change_no_row(zygote: Zygote, tmp_path: Path, number: int) -> None:
    kills(zygote, random_plan(tmp_path, SEED + number), 6)


@pytest.mark.nightly
@pytest.mark.parametrize("number", range(20))
@pytest.mark.timeout(1_200)
def test_many_random_kills_change_no_row(zygote: Zygote, tmp_path: Path, number: int) -> None:
    kills(zygote, random_plan(tmp_path, SEED + 1_000 + number), 100)


#: Points that a worker passes whenever it works, and the greatest passage that is waited for.
POINTS = {
    "commit.before": 6,
    "sqlite.between": 6,
    "sqlite.committed": 6,
    "commit.after": 6,
    "store.before": 3,
    "store.between": 3,
    "store.after": 3,
    "checkpoint.copied": 2,
    "checkpoint.renamed": 2,
    "restore.batch": 1,
}
KILLED = 137


def die(run: PipelineRun, point: str, passage: int) -> None:
    """Let a worker die at a point; it gets records until it comes there."""
    print(f"{point}:{passage}")  # noqa: T201 - shown when the test fails
    worker = run.start(crash_at=f"{point}:{passage}")

    def is_dead() -> bool:
        run.feed(5)
        time.sleep(0.02)  # the pace of the records
        return worker.is_gone()

    run.wait_until(is_dead)
    assert worker.status == KILLED, run.log_tail()


@pytest.mark.timeout(120)
def test_death_at_each_point_changes_no_row(zygote: Zygote, tmp_path: Path) -> None:
    plan = msgspec.structs.replace(
        random_plan(tmp_path, SEED), commit_ms=10, store_ms=20, checkpoint_ms=50
    )
    with running(zygote, plan) as run:
        run.kill_once()
        for point in run.draw.sample([*POINTS], len(POINTS)):
            if point == "restore.batch":
                # Without a row in a changelog there would be nothing to restore.
                worker = run.start()
                run.wait_until(run.is_drained, worker)
                worker.kill()
                shutil.rmtree(plan.data)
            die(run, point, run.draw.randint(1, POINTS[point]))
            run.watch()
        run.assert_exact(run.finish())


@pytest.mark.timeout(120)
def test_one_worker_three_and_one_again_change_no_row(zygote: Zygote, tmp_path: Path) -> None:
    """Watermarks are watched all the while, as workers tell them and as they are committed.

    The first two workers die while they give partitions up to the next one.
    """
    plan = Plan(str(tmp_path), commit_ms=20, store_ms=100, partitions=3, seed=SEED)
    with running(zygote, plan) as run:
        workers = [run.start(web_port=free_port(), crash_at="rebalance.drained:1")]

        def go_on(until: Callable[[], bool]) -> None:
            def is_so() -> bool:
                run.feed(20)
                time.sleep(0.05)  # the pace of the records
                run.watch(*workers)
                return until()

            run.wait_until(is_so)

        for crash_at in ("rebalance.committed:1", ""):
            go_on(lambda: told_by(workers[0]) != {})
            newer = run.start(web_port=free_port(), crash_at=crash_at)
            go_on(workers[0].is_gone)
            assert workers[0].status == KILLED, run.log_tail()
            workers[:] = [newer]
        go_on(lambda: told_by(workers[0]) != {})
        workers += [run.start(web_port=free_port()) for _ in range(2)]
        go_on(lambda: all(told_by(worker) for worker in workers))
        while len(workers) > 1:
            leaver = workers.pop(run.draw.randrange(len(workers)))
            leaver.kill()
            marks = run.committed_watermarks()
            go_on(lambda: all(run.watermarks[p] > marks[p] for p in marks))  # noqa: B023 - at once
        workers[0].kill()
        run.assert_exact(run.finish())


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.timeout(120)
def test_planted_bug_is_caught(zygote: Zygote, tmp_path: Path, bug: str) -> None:
    plan = Plan(str(tmp_path), commit_ms=20, store_ms=100, planted=bug, seed=5)
    with running(zygote, plan) as run:
        for _ in range(3):
            run.kill_once()
        found = run.finish()
        print(f"{bug}: {found}")  # noqa: T201 - with -s
        assert found
