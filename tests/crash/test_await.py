"""An event that awaits for a long time holds up nobody, and no half of it is ever committed."""

from __future__ import annotations

import time
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING

import msgspec
import pytest
from support.crash_app import Plan
from support.crash_run import Run, running

from streamapp.core.batch import TP
from streamapp.core.positions import parse_progress

if TYPE_CHECKING:
    from support.zygote import Zygote

pytestmark = [pytest.mark.crash, pytest.mark.slow]

COMMIT_MS = 50
BOUND_S = 2 * COMMIT_MS / 1_000 + 1.0


def agents_behind(run: Run, partition: int, end: int) -> set[str]:
    """Return the agents that have not committed a partition up to ``end``."""
    names = ("count", "second", "ordered", "regroup", "forward", "flaky")
    tp = run.partitions("in")[partition]
    position = run.bus.committed("crash", [tp]).get(tp)
    if position is None:
        return set(names)
    progress = parse_progress(*position)
    return {name for name in names if progress.of(f"support.crash_app.{name}") < end}


@pytest.mark.parametrize("end", ["goes on", "killed"])
@pytest.mark.timeout(180)
def test_event_that_awaits_holds_up_nobody_and_is_never_half(
    zygote: Zygote, tmp_path: Path, end: str
) -> None:
    plan = Plan(str(tmp_path), commit_ms=COMMIT_MS, store_ms=50, partitions=2, seed=3)
    with running(zygote, plan) as run:
        worker = run.start()
        run.feed(100)
        run.drain(worker)
        first = run.partitions("in")[0]
        before = run.committed().tables
        run.feed(1, hangs="count", partition=0, fails=0)
        run.wait_until((tmp_path / "go-on.begun").exists, worker)
        held = run.bus.offsets([first])[first].end - 1
        # First the other partition: nobody else comes to the rows that the event has written.
        for partition in (1, 0):
            run.feed(50, partition=partition, fails=0)
            assert_others_go_on(run, partition)
            assert_nothing_of_count(run, before, held)
        if end == "killed":
            worker.kill()
            assert_nothing_of_count(run, before, held)
        (tmp_path / "go-on").touch()
        if end == "goes on":
            run.drain(worker)
            run.stop(worker)
        run.assert_exact(run.finish())


def assert_others_go_on(run: Run, partition: int) -> None:
    """All agents but the one that hangs commit what was fed to a partition, soon."""
    tp = run.partitions("in")[partition]
    end, begun = run.bus.offsets([tp])[tp].end, time.monotonic()
    run.wait_until(lambda: agents_behind(run, partition, end) == {"count"})
    assert time.monotonic() - begun < BOUND_S


def assert_nothing_of_count(run: Run, before: dict[str, dict[str, int]], held: int) -> None:
    """The rows of the agent that hangs are those of the events before its position."""
    tp = run.partitions("in")[0]
    position = run.bus.committed("crash", [tp])[tp]
    assert parse_progress(*position).of("support.crash_app.count") == held
    assert agents_behind(run, 0, held + 1) == {"count"}
    mine = {row.key for row in run.read("in") if row.partition == 0}
    tables = run.committed().tables
    for name in ("counts", "sums", "lists", "present"):
        for key in {key.decode() for key in mine if key is not None}:
            assert tables[name].get(key) == before[name].get(key), (name, key)


@pytest.mark.timeout(180)
def test_effects_above_the_position_of_a_concurrent_agent_wait(
    zygote: Zygote, tmp_path: Path
) -> None:
    """Instances of one agent that are ahead of one that hangs are not committed before it."""
    plan = Plan(
        str(tmp_path), commit_ms=COMMIT_MS, store_ms=50, partitions=1, concurrency=3, seed=4
    )
    with running(zygote, plan) as run:
        worker = run.start()
        run.feed(60, partition=0)
        run.drain(worker)
        before = run.committed().tables
        run.feed(1, hangs="ordered", partition=0, fails=0)
        run.wait_until((tmp_path / "go-on.begun").exists, worker)
        run.feed(200, partition=0, fails=0)
        end = run.bus.offsets(run.partitions("in"))[run.partitions("in")[0]].end
        run.wait_until(lambda: agents_behind(run, 0, end) == {"ordered"}, worker)
        tables = run.committed().tables
        assert tables["last"] == before["last"]
        assert tables["chain"] == before["chain"]
        assert "ordered" in agents_behind(run, 0, end - 200)
        (tmp_path / "go-on").touch()
        run.drain(worker)
        run.stop(worker)
        run.assert_exact(run.finish())


@pytest.mark.timeout(180)
def test_records_that_arrive_while_a_worker_stops_are_left_to_the_next(
    zygote: Zygote, tmp_path: Path
) -> None:
    """What was queued behind the last event is not jumped over for what arrives after it."""
    plan = Plan(str(tmp_path), commit_ms=COMMIT_MS, store_ms=50, batch_max=10, seed=6)
    # Slow agents: one that takes what arrived late has it in hand when the worker looks.
    plan = msgspec.structs.replace(plan, wait_share=0.5, wait_ms=10)
    with running(zygote, plan) as run:
        worker = run.start()
        run.feed(1, hangs="count", partition=0, fails=0)
        run.wait_until((tmp_path / "go-on.begun").exists, worker)
        run.feed(30, partition=0, fails=0)
        held = run.bus.offsets([TP("in", 0)])[TP("in", 0)].end
        run.wait_until(lambda: agents_behind(run, 0, held) == {"count"}, worker)
        worker.send(SIGTERM)
        for _ in range(20):
            run.feed(5, partition=0, fails=0)
            time.sleep(0.02)  # the pace of the records
        (tmp_path / "go-on").touch()
        assert worker.wait() == 0, run.log_tail()
        run.assert_exact(run.finish(rebuild=False))
