"""A disk that fills up under a running worker and gets room again: it goes on by itself."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.crash_app import Plan
from support.crash_run import running

if TYPE_CHECKING:
    from support.zygote import Zygote

pytestmark = [
    pytest.mark.crash,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system"),
]

RECOVERY_S = 30.0
FULL_S = 2.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of 48 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a file system")
    yield folder
    subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


def fill(filler: Path) -> None:
    """Take all the room there is."""
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


@pytest.mark.parametrize("what", ["state", "bus", "both"])
@pytest.mark.timeout(180)
def test_worker_outlives_a_full_disk(zygote: Zygote, tmp_path: Path, disk: Path, what: str) -> None:
    folder = tmp_path / "run" if what == "state" else disk
    data = tmp_path / "data" if what == "bus" else disk / "data"
    plan = Plan(
        str(folder), datadir=str(data), commit_ms=20, store_ms=20, cache_bytes=1 << 16,
        wait_share=0.05, wait_ms=10, seed=21,
    )  # fmt: skip
    with running(zygote, plan) as run:
        for _ in range(2):
            run.feed(1_500)
            worker = run.start_ready_under_load()
            fill(disk / "filler")
            until = time.monotonic() + FULL_S
            while time.monotonic() < until:
                assert not worker.is_gone(), run.log_tail()
                time.sleep(0.05)  # while the disk is full
            (disk / "filler").unlink()
            freed = time.monotonic()
            run.feed(100)
            run.drain(worker, limit_s=RECOVERY_S)
            print(f"{what}: {time.monotonic() - freed:.1f} s from room to drained")  # noqa: T201 - with -s
            run.stop(worker)
            run.assert_exact(run.differences())
        run.assert_exact(run.finish(rebuild=False))
