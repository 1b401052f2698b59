"""State folders that are damaged, foreign, too old or too new: rebuilt or resumed, always exact."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.crash_app import Plan
from support.crash_run import Run, running

from streamapp.transport.connect import open_broker

if TYPE_CHECKING:
    from support.zygote import Running, Zygote

pytestmark = [pytest.mark.crash, pytest.mark.slow]

Damage = Callable[[Path, random.Random], None]


def plan_of(folder: Path, seed: int = 11) -> Plan:
    """Return a plan whose memory is so small that the store has table files."""
    return Plan(str(folder), commit_ms=20, store_ms=20, cache_bytes=1 << 16, seed=seed)


def store_of(run: Run) -> Path:
    return run.plan.data / "crash" / "state" / "0" / "db"


# --- damaged -------------------------------------------------------------------------------------


def some_file(store: Path, pattern: str, draw: random.Random) -> Path:
    files = sorted(path for path in store.glob(pattern) if path.stat().st_size)
    assert files, f"no {pattern} in {sorted(path.name for path in store.iterdir())}"
    return draw.choice(files)


def truncated(pattern: str) -> Damage:
    def damage(store: Path, draw: random.Random) -> None:
        path = some_file(store, pattern, draw)
        with path.open("r+b") as file:
            file.truncate(draw.randrange(path.stat().st_size))

    return damage


def flipped(pattern: str) -> Damage:
    def damage(store: Path, draw: random.Random) -> None:
        flip(some_file(store, pattern, draw), draw)

    return damage


def flip(path: Path, draw: random.Random) -> None:
    with path.open("r+b") as file:
        at = draw.randrange(path.stat().st_size)
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << draw.randrange(8)]))


def removed(pattern: str) -> Damage:
    return lambda store, draw: some_file(store, pattern, draw).unlink()


def emptied(store: Path, _draw: random.Random) -> None:
    shutil.rmtree(store)


DAMAGES: dict[str, Damage] = {
    "store deleted": emptied,
    "log truncated": truncated("*.log"),
    "log flipped": flipped("*.log"),
    "table file truncated": truncated("*.sst"),
    "table file flipped": flipped("*.sst"),
    "table file deleted": removed("*.sst"),
    "manifest truncated": truncated("MANIFEST-*"),
    "manifest flipped": flipped("MANIFEST-*"),
    "manifest deleted": removed("MANIFEST-*"),
    "pointer flipped": flipped("CURRENT"),
    "pointer truncated": truncated("CURRENT"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.timeout(180)
def test_damaged_store_is_rebuilt_or_resumed(zygote: Zygote, tmp_path: Path, damage: str) -> None:
    with running(zygote, plan_of(tmp_path)) as run:
        for _ in range(2):
            # Killed: a clean end leaves no log behind.
            work(run, 600).kill()
            DAMAGES[damage](store_of(run), run.draw)
        run.assert_exact(run.finish(rebuild=False))


def work(run: Run, records: int) -> Running:
    """Start a worker and let it process so many records; return it."""
    run.feed(records)
    worker = run.start()
    run.drain(worker)
    return worker


@pytest.mark.timeout(180)
def test_bits_that_flip_under_a_running_worker(zygote: Zygote, tmp_path: Path) -> None:
    with running(zygote, plan_of(tmp_path)) as run:
        worker = work(run, 1_000)
        for _ in range(10):
            for path in store_of(run).glob("*.sst"):
                # A file that is being written is empty; one that was compacted away is gone.
                with suppress(FileNotFoundError, ValueError):
                    flip(path, run.draw)
            run.feed(200)
            run.drain(worker)
        run.stop(worker)
        run.assert_exact(run.finish(rebuild=False))


# --- of another time, or another bus -------------------------------------------------------------


def copy_bus(run: Run, source: Path, target: Path) -> None:
    """Replace a copy of the bus while nobody has it open."""
    run.bus.close()
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    run.bus = open_broker(run.plan.broker, run.folder)


@pytest.mark.timeout(180)
def test_store_of_another_bus_is_not_trusted(zygote: Zygote, tmp_path: Path) -> None:
    with running(zygote, plan_of(tmp_path / "other", 12)) as other:
        other.stop(work(other, 1_500))
        data = other.plan.data
    with running(zygote, plan_of(tmp_path / "own", 13)) as run:
        run.stop(work(run, 500))
        shutil.rmtree(run.plan.data)
        shutil.copytree(data, run.plan.data)
        run.assert_exact(run.finish(rebuild=False))


@pytest.mark.timeout(180)
def test_store_older_than_the_log_resumes(zygote: Zygote, tmp_path: Path) -> None:
    with running(zygote, plan_of(tmp_path)) as run:
        run.stop(work(run, 500))
        shutil.copytree(run.plan.data, tmp_path / "older")
        run.stop(work(run, 800))
        shutil.rmtree(run.plan.data)
        shutil.copytree(tmp_path / "older", run.plan.data)
        run.assert_exact(run.finish(rebuild=False))


@pytest.mark.parametrize("moved_on", [0, 1_500])
@pytest.mark.timeout(180)
def test_store_ahead_of_a_bus_that_was_restored_is_not_trusted(
    zygote: Zygote, tmp_path: Path, moved_on: int
) -> None:
    """Also when the bus has grown beyond the store's mark since, by other records."""
    bus, older = tmp_path / "bus", tmp_path / "older bus"
    with running(zygote, plan_of(tmp_path)) as run:
        run.stop(work(run, 500))
        copy_bus(run, bus, older)
        run.stop(work(run, 500))
        copy_bus(run, older, bus)
        if moved_on:
            shutil.move(run.plan.data, tmp_path / "newer")
            run.stop(work(run, moved_on))
            shutil.rmtree(run.plan.data)
            shutil.move(tmp_path / "newer", run.plan.data)
        run.assert_exact(run.finish(rebuild=False))
