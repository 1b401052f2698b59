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
from typing import TYPE_CHECKING

import pytest
from support.torn import COUNTER, change, expected, judge, manifest

from streamapp.errors import StateFullError
from streamapp.state.checkpoint import CheckpointStore
from streamapp.state.rocksdb import RocksStore
from streamapp.state.rocksdb_options import BlockCache
from streamapp.state.slots import claim_slot

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.crash

_TESTS = Path(__file__).parents[1]
_DEADLINE_S = 60


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {done.stderr.strip()}")
    yield folder
    subprocess.run(["/bin/umount", str(folder)], check=True)


def fill_until_error(store: RocksStore) -> int:
    """Write steps until the store fails; return the last one that was acknowledged."""
    ballast: dict[bytes, bytes | None] = {b"z%d" % n: os.urandom(2_000) for n in range(50)}
    for step in range(1, 10_000):
        try:
            store.apply(change(step))
            store.apply({b"\xff" + key + b"%d" % step: value for key, value in ballast.items()})
        except StateFullError:
            return step - 1
    pytest.fail("the disk never filled")


def test_full_disk_kills_the_handle_and_loses_nothing(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(6 << 20))
    store = RocksStore.open(small_disk / "db", cache=BlockCache(1 << 20, 1 << 19))
    acknowledged = fill_until_error(store)
    calls: list[Callable[[], object]] = [
        lambda: store.get(COUNTER),
        lambda: store.apply({b"a": b"1"}),
        lambda: store.scan(b"", b"\xff"),
        lambda: store.delete_range(b"a", b"b"),
        lambda: store.checkpoint(small_disk / "copy"),
    ]
    for call in calls:
        with pytest.raises(StateFullError, match="Close it and open it again"):
            call()
    filler.unlink()
    for call in calls:  # room alone heals nothing
        with pytest.raises(StateFullError):
            call()
    store.close()
    store.close()
    again = RocksStore.open(small_disk / "db")
    step = int(again.get(COUNTER) or 0)
    assert step in {acknowledged, acknowledged + 1}
    assert dict(again.scan(b"", b"\xff")) == expected(step)
    again.apply(change(step + 1))
    again.close()


def test_a_checkpoint_on_a_full_disk_leaves_the_store_alive(
    small_disk: Path, tmp_path: Path
) -> None:
    store = RocksStore.open(tmp_path / "db")
    store.apply({b"z%d" % n: os.urandom(2_000) for n in range(1_000)})
    checkpoints = CheckpointStore(small_disk / "checkpoints")
    (small_disk / "filler").write_bytes(bytes(15 << 20))
    with pytest.raises(StateFullError):
        checkpoints.write(store, manifest(1))
    store.apply({b"a": b"1"})
    assert store.get(b"a") == b"1"
    assert checkpoints.list() == ()
    (small_disk / "filler").unlink()
    checkpoints.write(store, manifest(1))
    assert checkpoints.verify(1).damage == ""
    store.close()


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
    assert judge(tmp_path / "state" / "0") == "step 2"
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
        assert judge(slot.folder) == "step 2"
        assert sorted(p.name for p in slot.folder.parent.iterdir()) == ["0", "0.lock"]
    assert run_to_crash("", "restore", tmp_path, 1) == 0
    assert judge(tmp_path / "state" / "0") == "step 1"


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
        assert judge(slot.folder) == f"step {found.checkpoint.manifest.sources[0].offset}"
