"""A store after kill -9, damage and a full disk: whole, or refused; never wrong, never stuck."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import full_disk
from support.torn import change, expected, judge

from streamapp.state.checkpoint import CheckpointStore
from streamapp.state.rocksdb import RocksStore
from streamapp.state.slots import claim_slot

pytestmark = pytest.mark.crash

_TESTS = Path(__file__).parents[1]
_DEADLINE_S = 60
_NAMESPACE_CHECK = ["/usr/bin/unshare", "--user", "--map-root-user", "--mount", "/bin/true"]


def command(program: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "support.torn", program, *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_TESTS), **more}


def kill_after(program: str, folder: Path, lines: int) -> int:
    """Start a writer, kill it after so many lines, return the last step that it acknowledged."""
    with subprocess.Popen(
        command(program, folder), stdout=subprocess.PIPE, env=environment(), text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split("\n")[:-1]
    return int(rest[-1]) if rest else lines


def pick(folder: Path, pattern: str, rng: random.Random) -> Path:
    return rng.choice(sorted(path for path in folder.glob(pattern) if path.stat().st_size))


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def cut(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def shorten(path: Path, rng: random.Random) -> None:
    """Cut a little off the end, as a torn write does: RocksDB takes it for no damage at all."""
    path.write_bytes(path.read_bytes()[: -rng.randrange(1, 300)])


def garbage(folder: Path, rng: random.Random) -> None:
    for name in ("garbage", "000001.sst", "999999.sst", "LOG.old", "OPTIONS-999999", "x.dbtmp"):
        (folder / name).write_bytes(rng.randbytes(300))


Damage = Callable[[Path, random.Random], object]
_DAMAGES: dict[str, Damage] = {
    "wal_cut_a": lambda folder, rng: cut(pick(folder, "*.log", rng), rng),
    "wal_cut_b": lambda folder, rng: cut(pick(folder, "*.log", rng), rng),
    "wal_flip_a": lambda folder, rng: flip(pick(folder, "*.log", rng), rng),
    "wal_flip_b": lambda folder, rng: flip(pick(folder, "*.log", rng), rng),
    "sst_flip_a": lambda folder, rng: flip(pick(folder, "*.sst", rng), rng),
    "sst_flip_b": lambda folder, rng: flip(pick(folder, "*.sst", rng), rng),
    "sst_cut": lambda folder, rng: cut(pick(folder, "*.sst", rng), rng),
    "sst_gone": lambda folder, rng: pick(folder, "*.sst", rng).unlink(),
    "manifest_flip": lambda folder, rng: flip(pick(folder, "MANIFEST-*", rng), rng),
    "manifest_cut": lambda folder, rng: cut(pick(folder, "MANIFEST-*", rng), rng),
    "manifest_short": lambda folder, rng: shorten(pick(folder, "MANIFEST-*", rng), rng),
    "old_wal_short": lambda folder, rng: shorten(min(folder.glob("*.log")), rng),
    "old_wal_gone": lambda folder, _rng: min(folder.glob("*.log")).unlink(),
    "manifest_gone": lambda folder, rng: pick(folder, "MANIFEST-*", rng).unlink(),
    "current_flip": lambda folder, rng: flip(folder / "CURRENT", rng),
    "current_gone": lambda folder, _rng: (folder / "CURRENT").unlink(),
    "garbage": garbage,
}
_MUST_BE_REFUSED = {"sst_gone", "manifest_gone", "current_gone"}
_MUST_OPEN = {"untouched", "garbage"}


@pytest.mark.parametrize("seed", range(7))
def test_killed_and_damaged_store_is_whole_or_refused(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    image = tmp_path / "image"
    acknowledged = kill_after("write", image, lines=rng.randrange(300, 900))
    for name, damage in {"untouched": lambda *_: None, **_DAMAGES}.items():
        shutil.copytree(image, tmp_path / "cases" / name)
        damage(tmp_path / "cases" / name, rng)

    judged = subprocess.run(
        command("judge", tmp_path / "cases"),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )
    verdicts = dict(line.split(" ", 1) for line in judged.stdout.splitlines())
    assert judged.returncode == 0, judged.stderr
    assert verdicts.keys() == {"untouched", *_DAMAGES}
    assert int(verdicts["untouched"].removeprefix("step ")) >= acknowledged
    for name, verdict in verdicts.items():
        assert not verdict.startswith("WRONG"), f"{name}: {verdict}"
        # A file that nothing refers to any more may go unnoticed: it takes no row with it.
        refused = verdict in {"corrupt", verdicts["untouched"]}
        assert name not in _MUST_BE_REFUSED or refused, f"{name}: {verdict}"
        assert name not in _MUST_OPEN or verdict.startswith("step"), f"{name}: {verdict}"


def test_the_judge_sees_a_lost_and_a_foreign_row(tmp_path: Path) -> None:
    store = RocksStore.open(tmp_path / "db")
    for step in range(1, 200):
        store.apply(change(step))
    row = max(expected(199))
    store.close()
    assert judge(tmp_path / "db") == "step 199"
    for wrong in (None, b"foreign"):
        store = RocksStore.open(tmp_path / "db")
        store.apply({row: wrong})
        store.close()
        assert judge(tmp_path / "db").startswith("WRONG")


@pytest.mark.parametrize("program", full_disk.PROGRAMS)
def test_a_full_disk(program: str, tmp_path: Path) -> None:
    for name in ("disk", "elsewhere"):
        (tmp_path / name).mkdir()
    if subprocess.run(_NAMESPACE_CHECK, capture_output=True, check=False).returncode:
        pytest.skip("a small file system needs a mount namespace, which is not allowed here")
    done = subprocess.run(
        full_disk.command(program, tmp_path / "disk", tmp_path / "elsewhere"),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def run_to_crash(point: str, program: str, datadir: Path, step: int) -> int:
    done = subprocess.run(
        command(program, datadir, step),
        env=environment(STREAMAPP_CRASH_AT=f"{point}:1" if point else ""),
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )
    assert done.returncode in {0, 137}, done.stderr
    return done.returncode


@pytest.mark.parametrize(
    ("point", "newest"),
    [
        ("checkpoint.copied", 1),
        ("checkpoint.described", 1),
        ("checkpoint.synced", 1),
        ("checkpoint.renamed", 2),
    ],
)
def test_dying_while_writing_a_checkpoint_keeps_the_last_good_one(
    point: str, newest: int, tmp_path: Path
) -> None:
    assert run_to_crash("", "checkpoint", tmp_path, 1) == 0
    assert run_to_crash(point, "checkpoint", tmp_path, 2) == 137
    checkpoints = CheckpointStore(tmp_path / "checkpoints")
    found = checkpoints.newest()
    assert found.checkpoint is not None
    assert (found.checkpoint.id, found.skipped) == (newest, ())
    assert judge(tmp_path / "state" / "0" / "db") == "step 2"
    # The same id again, over what the crash left.
    assert run_to_crash("", "checkpoint", tmp_path, newest + 1) == 0
    assert checkpoints.verify(newest + 1).damage == ""
    checkpoints.prune(keep=1)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [str(newest + 1)]


@pytest.mark.parametrize("point", ["restore.copied", "replace.moved"])
def test_dying_while_restoring_keeps_the_former_state(point: str, tmp_path: Path) -> None:
    for step in (1, 2):
        assert run_to_crash("", "checkpoint", tmp_path, step) == 0
    assert run_to_crash(point, "restore", tmp_path, 1) == 137
    with claim_slot(tmp_path) as slot:
        assert slot.index == 0
        assert judge(slot.database) == "step 2"
        assert sorted(p.name for p in slot.folder.parent.iterdir()) == ["0", "0.lock"]
    assert run_to_crash("", "restore", tmp_path, 1) == 0
    assert judge(tmp_path / "state" / "0" / "db") == "step 1"


@pytest.mark.parametrize("seed", range(6))
def test_kill_at_random_while_checkpointing(seed: int, tmp_path: Path) -> None:
    lines = random.Random(seed).randrange(1, 12)
    folder = tmp_path / "work"
    folder.mkdir()
    kill_after("checkpoints", folder, lines)
    found = CheckpointStore(folder / "checkpoints").newest()
    assert found.skipped == ()
    assert found.checkpoint is not None
    assert found.checkpoint.manifest is not None
    assert found.checkpoint.id >= lines * 5
    with claim_slot(tmp_path) as slot:
        CheckpointStore(folder / "checkpoints").restore(found.checkpoint.id, slot)
        assert judge(slot.database) == f"step {found.checkpoint.manifest.sources[0].offset}"
