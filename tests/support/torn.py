"""A store whose whole content follows from one counter, and the programs that write and judge it.

After step ``n`` the store holds exactly ``expected(n)``. So any state that was opened can be judged
alone: read the counter, compare everything.
"""

from __future__ import annotations

import sys
from pathlib import Path

from streamapp.errors import StateCorruptError
from streamapp.state.checkpoint import CheckpointStore
from streamapp.state.manifest import Manifest, SourcePosition
from streamapp.state.rocksdb import RocksStore
from streamapp.state.rocksdb_options import BlockCache
from streamapp.state.slots import claim_slot

COUNTER = b"counter"
_KEYS = 2_000
_PER_STEP = 20
_END = b"\xff"


def change(step: int) -> dict[bytes, bytes | None]:
    """Return what step ``step`` (from 1) writes: rows in turn, every seventh deleted again."""
    rows: dict[bytes, bytes | None] = {COUNTER: b"%d" % step}
    for place in range(step * _PER_STEP, (step + 1) * _PER_STEP):
        key = b"row-%06d" % (place * 7_919 % _KEYS)
        rows[key] = None if place % 7 == 0 else b"%d" % step * 40
    return rows


def expected(step: int) -> dict[bytes, bytes]:
    """Return all rows after ``step``; a key's last change is at most one round ago."""
    rows: dict[bytes, bytes | None] = {}
    for done in range(max(1, step - _KEYS // _PER_STEP - 1), step + 1):
        rows |= change(done)
    return {key: value for key, value in rows.items() if value is not None}


def judge(folder: Path) -> str:
    """Open a store and say ``step n``, ``corrupt`` or ``WRONG ...``; ask it in both ways."""
    try:
        store = RocksStore.open(folder, cache=BlockCache(1 << 20, 1 << 18))
    except StateCorruptError:
        return "corrupt"
    try:
        step = int(store.get(COUNTER) or 0)
        found = dict(store.scan(b"", _END))
        if found != expected(step):
            return f"WRONG rows for step {step}"
        if found != dict(store.scan(b"", _END, reverse=True)):
            return "WRONG order of a reverse scan"
        if any(store.get(key) != value for key, value in found.items()):
            return "WRONG value of a single read"
        store.apply(change(step + 1))
    except StateCorruptError:
        return "corrupt"
    else:
        return f"step {step}"
    finally:
        store.close()


def write_steps(store: RocksStore) -> None:
    """Write until killed; say each step that was acknowledged."""
    for step in range(1, 1 << 30):
        store.apply(change(step))
        sys.stdout.write(f"{step}\n")
        sys.stdout.flush()


def write_checkpoints(store: RocksStore, checkpoints: CheckpointStore) -> None:
    """Write and checkpoint until killed; say each checkpoint that was acknowledged."""
    for step in range(1, 1 << 30):
        store.apply(change(step))
        if step % 5 == 0:
            checkpoints.write(store, manifest(step))
            checkpoints.prune(keep=3)
            sys.stdout.write(f"{step}\n")
            sys.stdout.flush()


def manifest(step: int) -> Manifest:
    return Manifest(id=step, created_ms=step, app="torn", sources=(SourcePosition("t", 0, step),))


def one_checkpoint(datadir: Path, step: int) -> None:
    """Write one step and checkpoint it; dies where the environment says."""
    with claim_slot(datadir, 0) as slot:
        store = RocksStore.open(slot.database)
        store.apply(change(step))
        CheckpointStore(datadir / "checkpoints").write(store, manifest(step))
        store.close()


def one_restore(datadir: Path, step: int) -> None:
    """Restore one checkpoint; dies where the environment says."""
    with claim_slot(datadir, 0) as slot:
        CheckpointStore(datadir / "checkpoints").restore(step, slot)


def main(program: str, folder: str, *rest: str) -> None:
    path = Path(folder)
    if program == "write":
        write_steps(RocksStore.open(path, cache=BlockCache(1 << 20, 1 << 17)))
    elif program == "checkpoints":
        write_checkpoints(RocksStore.open(path / "db"), CheckpointStore(path / "checkpoints"))
    elif program == "checkpoint":
        one_checkpoint(path, int(rest[0]))
    elif program == "restore":
        one_restore(path, int(rest[0]))
    elif program == "judge":
        for case in sorted(path.iterdir()):
            sys.stdout.write(f"{case.name} {judge(case)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
