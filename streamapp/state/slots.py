"""Which state folder a worker owns: the first free one, so that a restart finds its former state.

The workers of an application on one machine hold ``<datadir>/state/0``, ``/1``, ... A slot is owned
by a kernel lock (``flock``) on ``<folder>.lock`` beside it, which the kernel drops when the process
dies, however it dies. Lock files are never removed: that would let two workers lock two files of
the same name.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING, Final, Self

from streamapp.errors import StateLockedError, StateUnavailableError
from streamapp.state.files import file_error, make_private, remove_tree, settle
from streamapp.state.locks import holder_of, name_of

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path
    from types import TracebackType

_STATE: Final = "state"
_DATABASE: Final = "db"
#: Slots looked at before we call it a mistake: a machine does not run a thousand workers.
_MAX_SLOTS: Final = 1024
_HELD: Final = frozenset({errno.EWOULDBLOCK, errno.EACCES})


class StateSlot:
    """A state folder that this process owns until ``release`` or its death.

    ``folder`` need not exist and holds nothing but the store. Not inherited by programs that are
    started. A ``fork`` shares the lock: if this process dies, it lives on with the other one.
    """

    __slots__ = ("_lock", "folder", "index")

    def __init__(self, index: int, folder: Path, lock: FileIO) -> None:
        self.index = index
        self.folder = folder
        self._lock = lock

    @property
    def is_held(self) -> bool:
        """Whether the lock is still ours."""
        return not self._lock.closed

    @property
    def database(self) -> Path:
        """The folder of the store, which makes it."""
        return self.folder / _DATABASE

    def wipe(self) -> None:
        """Remove the database; the slot stays ours. The store must be closed.

        After a crash in the middle the folder is either whole or gone.

        Raises:
            StateLockedError: The slot was released, or a store has the folder open.
            StateUnavailableError: The folder cannot be removed.
        """
        self.check_idle()
        try:
            remove_tree(self.folder)
        except OSError as exc:
            what = f"state folder {self.folder} cannot be removed"
            raise file_error(what, exc) from exc

    def check_idle(self) -> None:
        """Check that the folder may be removed or replaced.

        Raises:
            StateLockedError: The slot was released, or a store has the folder open.
        """
        if not self.is_held:
            message = f"slot {self.folder} was released"
            raise StateLockedError(message, hint="Claim it again")
        owner = holder_of(self.database / "LOCK")
        if owner is not None:
            message = f"the store in {self.folder} is open in {name_of(owner)}"
            raise StateLockedError(message, hint="Close it first")

    def release(self) -> None:
        """Let another worker have the folder; safe to repeat. Close the store first."""
        if self.is_held:
            # Closing alone would leave the lock to a program just being started, until its `exec`.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def claim_slot(datadir: Path, index: int | None = None) -> StateSlot:
    """Take the first free slot under ``datadir``, or the one named by ``index``.

    Never waits. What a crash left beside the folder (a half restore, a half removal) is settled.

    Raises:
        StateLockedError: The named slot, or every slot, is held by a living process.
        StateUnavailableError: The folder cannot be written, or its file system has no locks.
        StateFullError: No room for the lock file.
    """
    root = datadir / _STATE
    make_private(root)
    for candidate in range(_MAX_SLOTS) if index is None else (index,):
        folder = root / str(candidate)
        lock = _try_lock(folder)
        if lock is not None:
            settle(folder)
            return StateSlot(candidate, folder, lock)
    raise _all_held(root, index)


def _try_lock(folder: Path) -> FileIO | None:
    """Return the open, locked file; ``None`` when somebody else holds it."""
    path = _lock_path(folder)
    try:
        lock = open(path, "ab", buffering=0, opener=_private)  # noqa: SIM115 - held until release
    except OSError as exc:
        what = f"lock file {path} cannot be opened"
        raise file_error(what, exc) from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        lock.close()
        if exc.errno in _HELD:
            return None
        message = f"{path} cannot be locked: {exc.strerror}"
        hint = "Choose a folder on a local file system"
        raise StateUnavailableError(message, hint=hint) from exc
    return lock


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _all_held(root: Path, index: int | None) -> StateLockedError:
    if index is None:
        message = f"all {_MAX_SLOTS} slots in {root} are held"
        return StateLockedError(message, hint="Use another data folder")
    owner = name_of(holder_of(_lock_path(root / str(index))))
    message = f"slot {index} in {root} is held by {owner}"
    return StateLockedError(message, hint="Stop that worker, or choose another slot")
