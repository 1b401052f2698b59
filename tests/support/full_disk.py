"""What a full disk does to a store: run on a small file system of its own, as a program.

In a mount namespace, so that the file system goes with the process, however it ends.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.torn import COUNTER, change, expected, manifest

from streamapp.errors import StateFullError
from streamapp.state.checkpoint import CheckpointStore
from streamapp.state.rocksdb import RocksStore
from streamapp.state.rocksdb_options import BlockCache

if TYPE_CHECKING:
    from collections.abc import Callable

_END = b"\xff"


def command(program: str, disk: Path, elsewhere: Path) -> list[str]:
    """Return what runs ``program`` with 16 MiB mounted on ``disk``."""
    python = f"exec {sys.executable} -m support.full_disk {program} {disk} {elsewhere}"
    script = f"mount -t tmpfs -o size=16m tmpfs {disk} && {python}"
    return ["/usr/bin/unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", script]


def fill(store: RocksStore) -> int:
    """Write steps until the store fails; return the last one that was acknowledged."""
    for step in range(1, 10_000):
        try:
            store.apply(change(step))
            store.apply({b"\xff%d-%d" % (step, n): os.urandom(2_000) for n in range(50)})
        except StateFullError:
            return step - 1
    pytest.fail("the disk never filled")


def kills_the_handle_and_loses_nothing(disk: Path, _elsewhere: Path) -> None:
    filler = disk / "filler"
    filler.write_bytes(bytes(6 << 20))
    store = RocksStore.open(disk / "db", cache=BlockCache(1 << 20, 1 << 19))
    acknowledged = fill(store)
    calls: list[Callable[[], object]] = [
        lambda: store.get(COUNTER),
        lambda: store.apply({b"a": b"1"}),
        lambda: store.scan(b"", _END),
        lambda: store.delete_range(b"a", b"b"),
        lambda: store.checkpoint(disk / "copy"),
    ]
    for is_freed in (False, True):  # room alone heals nothing
        if is_freed:
            filler.unlink()
        for call in calls:
            with pytest.raises(StateFullError, match="Close it and open it again"):
                call()
    store.close()
    store.close()
    again = RocksStore.open(disk / "db")
    step = int(again.get(COUNTER) or 0)
    assert step in {acknowledged, acknowledged + 1}
    assert dict(again.scan(b"", _END)) == expected(step)
    again.apply(change(step + 1))
    again.close()


def spares_the_store_when_only_the_checkpoint_is_there(disk: Path, elsewhere: Path) -> None:
    store = RocksStore.open(elsewhere / "db")
    store.apply({b"z%d" % n: os.urandom(2_000) for n in range(1_000)})
    checkpoints = CheckpointStore(disk / "checkpoints")
    filler = disk / "filler"
    filler.write_bytes(bytes(15 << 20))
    with pytest.raises(StateFullError):
        checkpoints.write(store, manifest(1))
    store.apply({b"a": b"1"})
    assert store.get(b"a") == b"1"
    assert checkpoints.list() == ()
    filler.unlink()
    checkpoints.write(store, manifest(1))
    assert checkpoints.verify(1).damage == ""
    store.close()


def kills_the_store_that_is_copied(disk: Path, _elsewhere: Path) -> None:
    store = RocksStore.open(disk / "db")
    store.apply({b"z%d" % n: os.urandom(2_000) for n in range(1_000)})
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    with pytest.raises(StateFullError):
        CheckpointStore(disk.parent / "elsewhere").write(store, manifest(1))
    with pytest.raises(StateFullError):  # reads too: the owner must not go on with it
        store.get(b"z1")
    filler.unlink()
    store.close()
    again = RocksStore.open(disk / "db")
    assert len(list(again.scan(b"", _END))) == 1_000
    again.close()


PROGRAMS = {
    program.__name__: program
    for program in (
        kills_the_handle_and_loses_nothing,
        kills_the_store_that_is_copied,
        spares_the_store_when_only_the_checkpoint_is_there,
    )
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
