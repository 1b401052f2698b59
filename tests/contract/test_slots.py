"""State folders of workers: one owner each, found again, released by death."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from streamapp.errors import StateFullError, StateLockedError, StateUnavailableError
from streamapp.state.files import file_error, replace_tree, staging
from streamapp.state.locks import holder_of
from streamapp.state.rocksdb import RocksStore
from streamapp.state.slots import claim_slot

if TYPE_CHECKING:
    from pathlib import Path

_HOLDER = """
import sys
from pathlib import Path
from streamapp.state.rocksdb import RocksStore
from streamapp.state.slots import claim_slot
slot = claim_slot(Path(sys.argv[1]))
store = RocksStore.open(slot.database)
store.apply({b"pid": b"known"})
print(slot.index, flush=True)
sys.stdin.read()
"""


def start_holder(datadir: Path) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-c", _HOLDER, str(datadir)]
    process = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_workers_get_different_slots_and_the_first_free_one(tmp_path: Path) -> None:
    with ExitStack() as held:
        slots = [held.enter_context(claim_slot(tmp_path)) for _ in range(3)]
        assert [slot.index for slot in slots] == [0, 1, 2]
        assert [slot.folder for slot in slots] == [tmp_path / "state" / str(n) for n in range(3)]
        slots[1].release()
        slots[1].release()
        assert held.enter_context(claim_slot(tmp_path)).index == 1


def test_a_killed_worker_frees_its_slot_and_its_state_is_found_again(tmp_path: Path) -> None:
    process, index = start_holder(tmp_path)
    try:
        with claim_slot(tmp_path) as other:
            assert (index, other.index) == (0, 1)
    finally:
        kill(process)
    with claim_slot(tmp_path) as slot:
        assert slot.index == 0
        store = RocksStore.open(slot.database)
        assert store.get(b"pid") == b"known"
        store.close()


def test_errors_name_the_process_that_holds_the_slot_or_the_store(tmp_path: Path) -> None:
    process, index = start_holder(tmp_path)
    try:
        with pytest.raises(StateLockedError, match=f"process {process.pid}"):
            claim_slot(tmp_path, index)
        with pytest.raises(StateLockedError, match=f"process {process.pid}"):
            RocksStore.open(tmp_path / "state" / str(index) / "db")
        assert holder_of(tmp_path / "state" / str(index) / "db" / "LOCK") == process.pid
    finally:
        kill(process)
    assert holder_of(tmp_path / "state" / str(index) / "db" / "LOCK") is None


def test_a_program_that_is_started_does_not_inherit_the_lock(tmp_path: Path) -> None:
    look = "import os; print([os.readlink(e) for e in os.scandir('/proc/self/fd') if e.is_file()])"
    with claim_slot(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", look],
            close_fds=False,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.startswith("[")
    assert ".lock" not in done.stdout


def test_release_frees_the_slot_though_a_fork_still_shares_it(tmp_path: Path) -> None:
    slot = claim_slot(tmp_path)
    shared = os.dup(slot._lock.fileno())  # what a forked process has
    slot.release()
    claim_slot(tmp_path, 0).release()
    os.close(shared)


def test_state_folders_are_private(tmp_path: Path) -> None:
    with claim_slot(tmp_path) as slot:
        RocksStore.open(slot.database).close()
        for path in (tmp_path / "state", slot.folder, tmp_path / "state" / "0.lock"):
            assert path.stat().st_mode & 0o077 == 0


def test_wipe_removes_the_database_and_keeps_the_slot(tmp_path: Path) -> None:
    with claim_slot(tmp_path) as slot:
        RocksStore.open(slot.database).close()
        slot.wipe()
        slot.wipe()
        assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["0.lock"]
        with pytest.raises(StateLockedError):
            claim_slot(tmp_path, 0)


def test_wipe_refuses_an_open_store_and_a_released_slot(tmp_path: Path) -> None:
    slot = claim_slot(tmp_path)
    store = RocksStore.open(slot.database)
    with pytest.raises(StateLockedError, match="open in this process"):
        slot.wipe()
    store.close()
    slot.release()
    with pytest.raises(StateLockedError, match="released"):
        slot.wipe()
    assert slot.folder.is_dir()


def test_an_unusable_folder_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateUnavailableError, match=r"file/state cannot be made.*Choose a folder"):
        claim_slot(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable to root")
def test_an_unwritable_folder_says_what_to_do(tmp_path: Path) -> None:
    claim_slot(tmp_path).release()
    (tmp_path / "state").chmod(0o500)
    with pytest.raises(StateUnavailableError, match="not writable"):
        claim_slot(tmp_path)


def test_a_full_disk_is_told_from_a_forbidden_folder() -> None:
    assert isinstance(file_error("x", OSError(errno.ENOSPC, "full")), StateFullError)
    assert isinstance(file_error("x", OSError(errno.EACCES, "no")), StateUnavailableError)


@pytest.mark.parametrize("moved", [False, True])
def test_claiming_settles_what_a_crash_left(tmp_path: Path, *, moved: bool) -> None:
    with claim_slot(tmp_path) as slot:
        for folder in (slot.folder, staging(slot.folder), slot.folder.with_name("0.trash")):
            folder.mkdir()
            (folder / "name").write_text(folder.name)
        if moved:
            slot.folder.rename(slot.folder.with_name("0.old"))
    with claim_slot(tmp_path) as slot:
        assert (slot.folder / "name").read_text() == "0"
        assert sorted(path.name for path in slot.folder.parent.iterdir()) == ["0", "0.lock"]


def test_a_failed_replacement_brings_the_former_folder_back(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "name").touch()
    with pytest.raises(FileNotFoundError):
        replace_tree(tmp_path / "absent", tmp_path / "0")
    assert (tmp_path / "0" / "name").exists()
