"""Several workers of one application: they come, stop, die and freeze under load.

Each worker notes what it processes and what it commits, in files of its own; the notes say who had
which partition when.
"""

from __future__ import annotations

import random
import signal
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest
from support.crash_app import Plan
from support.crash_run import Run, running
from support.freezing import freeze_between_writes

if TYPE_CHECKING:
    from support.zygote import Running, Zygote

pytestmark = [pytest.mark.crash, pytest.mark.slow]

PARTITIONS = 4
SESSION_MS = 1_000
TAKEOVER_S = 3.0


class Commit(NamedTuple):
    """A commit of one partition: the next offset, and the moments before and after."""

    begun_ns: int
    ended_ns: int
    pid: int
    offset: int


def plan_of(folder: Path, seed: int) -> Plan:
    return Plan(
        str(folder),
        commit_ms=20,
        store_ms=100,
        wait_share=0.02,
        wait_ms=10,
        partitions=PARTITIONS,
        session_ms=SESSION_MS,
        traces=True,
        seed=seed,
    )


def feed_for(run: Run, seconds: float) -> None:
    """Keep the workers busy."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        run.feed(40)
        time.sleep(0.05)  # the pace of the records


def processed(run: Run, worker: Running) -> list[tuple[int, int, int]]:
    """Return (partition, offset, monotonic ns) of what a worker has begun."""
    trace = run.folder / f"trace-{worker.pid}"
    lines = trace.read_text().splitlines() if trace.exists() else []
    rows = [tuple(int(part) for part in line.split()) for line in lines]
    return [(row[0], row[1], row[2]) for row in rows if len(row) == 3]


def commits(run: Run) -> dict[int, list[Commit]]:
    """Return the commits of each partition of the input, in the order of time."""
    found: dict[int, list[Commit]] = defaultdict(list)
    for file in run.folder.glob("commits-*"):
        pid = int(file.name.partition("-")[2])
        for line in file.read_text().splitlines():
            partition, offset, begun_ns, ended_ns = map(int, line.split())
            found[partition].append(Commit(begun_ns, ended_ns, pid, offset))
    return {partition: sorted(rows) for partition, rows in found.items()}


def assert_one_owner(run: Run) -> None:
    """No committed range of a partition belongs to two workers, and their times do not overlap."""
    by_partition = commits(run)
    assert by_partition.keys() == set(range(PARTITIONS))
    for rows in by_partition.values():
        for before, after in pairwise(rows):
            assert before.offset <= after.offset, (before, after)
            assert before.pid == after.pid or before.ended_ns <= after.begun_ns, (before, after)
        terms = [rows[0].pid]
        for row in rows:
            if row.pid != terms[-1]:
                terms.append(row.pid)
        assert len(terms) >= 2, "the partition never moved: nothing was tested"


def owned(run: Run) -> dict[int, int]:
    """Return how many workers own how many partitions of the input."""
    group = run.bus.groups().get("crash")
    members = group.members if group is not None else ()
    counts = [sum(tp.topic == "in" for tp in m.tps) for m in members if m.is_alive]
    return {count: counts.count(count) for count in counts}


def wait_for_owners(run: Run, workers: int) -> None:
    """Wait until so many workers share the partitions evenly."""
    share = {PARTITIONS // workers, -(-PARTITIONS // workers)}

    def is_shared() -> bool:
        have = owned(run)
        return sum(have.values()) == workers and have.keys() <= share

    run.wait_until(is_shared, limit_s=30)


END = {"stopped": signal.SIGTERM, "killed": signal.SIGKILL}


@pytest.mark.flaky(reruns=2)  # on a slow machine no partition may have moved in time
@pytest.mark.parametrize("way", END)
@pytest.mark.timeout(180)
def test_workers_that_come_and_go_lose_and_repeat_nothing(
    zygote: Zygote, tmp_path: Path, way: str
) -> None:
    with running(zygote, plan_of(tmp_path, random.randrange(1 << 16))) as run:
        workers = [run.start_ready_under_load()]
        for _ in range(2):
            while len(workers) < 3:
                workers.append(run.start())
                feed_for(run, 0.5)
            wait_for_owners(run, 3)
            feed_for(run, 0.5)
            while len(workers) > 1:
                leaver = workers.pop(run.draw.randrange(len(workers)))
                leaver.send(END[way])
                feed_for(run, 0.5)
                assert leaver.wait() == (0 if way == "stopped" else -signal.SIGKILL)
            wait_for_owners(run, 1)
        run.drain()
        assert_one_owner(run)
        workers[0].kill()
        run.assert_exact(run.finish())


@pytest.mark.timeout(180)
def test_worker_that_froze_for_longer_than_its_session_does_no_harm(
    zygote: Zygote, tmp_path: Path
) -> None:
    with running(zygote, plan_of(tmp_path, random.randrange(1 << 16))) as run:
        workers = [run.start_ready_under_load() for _ in range(2)]
        wait_for_owners(run, 2)
        # Each of them: the partitions of one that is never frozen do not move.
        for frozen, other in [workers, workers[::-1]] * 2:
            feed_for(run, run.draw.uniform(0.0, 0.5))
            freeze_between_writes(frozen, run.folder / "bus")
            # All partitions go on at the other one.
            wait_for_owners_of(run, other)
            feed_for(run, 0.5)
            frozen.send(signal.SIGCONT)
            feed_for(run, 0.5)
            wait_for_owners(run, 2)
        run.drain()
        assert_one_owner(run)
        assert not any(worker.is_gone() for worker in workers), run.log_tail()
        for worker in workers:
            run.stop(worker)
        run.assert_exact(run.finish())


def wait_for_owners_of(run: Run, worker: Running) -> None:
    """Wait until one worker processes all partitions."""
    begun = time.monotonic_ns()

    def has_all() -> bool:
        run.feed(8)
        return len({p for p, _, at in processed(run, worker) if at > begun}) == PARTITIONS

    run.wait_until(has_all, worker, limit_s=30)


@pytest.mark.timeout(180)
def test_partitions_of_a_killed_worker_go_on_within_three_seconds(
    zygote: Zygote, tmp_path: Path
) -> None:
    plan = msgspec.structs.replace(plan_of(tmp_path, 7), session_ms=10_000)
    taken: list[float] = []
    with running(zygote, plan) as run:
        survivor = run.start_ready_under_load()
        for _ in range(5):
            victim = run.start()
            feed_for(run, 0.5)
            wait_for_owners(run, 2)
            theirs = partitions_of(run, victim)
            victim.kill()
            killed = time.monotonic_ns()
            taken.append(takeover_s(run, survivor, theirs, killed))
        survivor.kill()
        run.assert_exact(run.finish())
    print(f"seconds until a taken-over partition went on: {sorted(taken)}")  # noqa: T201 - with -s
    assert max(taken) < TAKEOVER_S


def partitions_of(run: Run, worker: Running) -> set[int]:
    """Wait until a worker processes two partitions; return them."""
    found: set[int] = set()

    def has_two() -> bool:
        run.feed(8)
        found.update(partition for partition, _, _ in processed(run, worker))
        return len(found) == PARTITIONS // 2

    run.wait_until(has_two, worker)
    return found


def takeover_s(run: Run, survivor: Running, partitions: set[int], killed: int) -> float:
    """Return the seconds from the kill to the first record of the last of these partitions."""
    first: dict[int, int] = {}

    def has_all() -> bool:
        run.feed(8)
        for partition, _, at in processed(run, survivor):
            if at > killed and partition in partitions:
                first.setdefault(partition, at)
        return first.keys() == partitions

    run.wait_until(has_all, survivor, limit_s=30)
    return (max(first.values()) - killed) / 1e9


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
def test_many_rebalances(zygote: Zygote, tmp_path: Path) -> None:
    with running(zygote, plan_of(tmp_path, random.randrange(1 << 16))) as run:
        workers = [run.start_ready_under_load()]
        for _ in range(500):
            if len(workers) < 2 or (len(workers) < 4 and run.draw.random() < 0.5):
                workers.append(run.start())
            else:
                leaver = workers.pop(run.draw.randrange(len(workers)))
                leaver.send(run.draw.choice([signal.SIGTERM, signal.SIGKILL]))
                leaver.wait()
            feed_for(run, run.draw.uniform(0.0, 1.0))
        run.drain(limit_s=300)
        assert_one_owner(run)
        for worker in workers:
            worker.kill()
        run.assert_exact(run.finish())
