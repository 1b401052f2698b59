"""The checker of the kill tests must see bugs: each of these is planted and must be caught."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from support.crash_app import Plan
from support.crash_run import running
from support.planted import BUGS

if TYPE_CHECKING:
    from support.zygote import Zygote

pytestmark = [pytest.mark.crash, pytest.mark.slow]

ROUNDS = 6
KILLS = 4


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.timeout(180)
def test_planted_bug_is_caught(zygote: Zygote, tmp_path: Path, bug: str) -> None:
    plan = Plan(
        str(tmp_path), commit_ms=20, store_ms=100, wait_share=0.05, wait_ms=20, planted=bug, seed=5
    )
    with running(zygote, plan) as run:
        for _ in range(ROUNDS):
            for _ in range(KILLS):
                run.kill_once()
            worker = run.start()
            run.drain(worker)
            worker.kill()
            if found := run.differences():
                print(f"{bug}: after {run.kills} kills, {found[0]}")  # noqa: T201 - with -s
                return
        pytest.fail(f"{bug} went unseen for {run.kills} kills")


@pytest.mark.timeout(180)
def test_no_bug_is_no_difference(zygote: Zygote, tmp_path: Path) -> None:
    plan = msgspec.structs.replace(
        Plan(str(tmp_path)), commit_ms=20, store_ms=100, wait_share=0.05, wait_ms=20, seed=5
    )
    with running(zygote, plan) as run:
        for _ in range(KILLS):
            run.kill_once()
        run.assert_exact(run.finish())
