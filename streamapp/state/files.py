"""What stores, slots and checkpoints do with folders: private, durable, replaced as a whole.

``rename`` is the only step that publishes anything; every removal renames first, so that a crash
leaves a folder either whole or under a name that nobody opens.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from streamapp.errors import StateError, StateFullError, StateUnavailableError
from streamapp.faults import crash_point

if TYPE_CHECKING:
    from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def make_private(folder: Path) -> None:
    """Make the folder and those above it (mode 0700) where absent; check that it can be written.

    Raises:
        StateFullError: No room.
        StateUnavailableError: It cannot be made, is no folder, or belongs to somebody else.
    """
    try:
        for absent in [path for path in reversed(folder.parents) if not path.exists()]:
            absent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        what = f"state folder {folder} cannot be made"
        raise file_error(what, exc) from exc
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        message = f"state folder {folder} is not writable"
        raise StateUnavailableError(message, hint="Give it to the user that runs the worker")


def refuse_target(folder: Path) -> None:
    """Check that a copy can be made as ``folder``: it must not exist, its parent must."""
    if folder.exists():
        message = f"{folder} exists"
        raise StateError(message, hint="Choose a folder that does not exist")
    if not folder.parent.is_dir():
        message = f"{folder.parent} is no folder"
        raise StateError(message, hint="Make the folder above first")


def file_error(what: str, exc: OSError) -> StateError:
    """Return the error of our tree for an error of the operating system."""
    message = f"{what}: {exc.strerror}"
    if exc.errno in _FULL:
        return StateFullError(message, hint="Free space on this file system")
    return StateUnavailableError(message, hint="Choose a folder that this user can write")


def sync_file(path: Path) -> None:
    """Make the contents of a file, or the entries of a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Sync every file of a folder, at any depth, and the folder itself, which comes last."""
    for path in sorted(folder.rglob("*"), reverse=True):
        sync_file(path)
    sync_file(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder; a crash in the middle leaves ``<name>.trash``, which ``settle`` removes."""
    trash = _beside(folder, ".trash")
    shutil.rmtree(trash, ignore_errors=True)
    try:
        folder.rename(trash)
    except FileNotFoundError:
        return
    shutil.rmtree(trash)


def replace_tree(new: Path, folder: Path) -> None:
    """Put ``new`` in the place of ``folder``.

    Two renames: after a crash between them ``settle`` brings the former folder back.
    """
    former = _beside(folder, ".old")
    with suppress(FileNotFoundError):
        folder.rename(former)
    crash_point("replace.moved")
    try:
        new.rename(folder)
    except OSError:
        with suppress(FileNotFoundError):
            former.rename(folder)
        raise
    sync_file(folder.parent)
    shutil.rmtree(former, ignore_errors=True)


def settle(folder: Path) -> None:
    """Finish what a crash left beside ``folder``. The caller holds the folder's lock."""
    former = _beside(folder, ".old")
    if former.exists() and not folder.exists():
        former.rename(folder)
    for suffix in (".old", ".new", ".trash"):
        shutil.rmtree(_beside(folder, suffix), ignore_errors=True)


def staging(folder: Path) -> Path:
    """Return where the successor of ``folder`` is put together, for ``replace_tree``."""
    return _beside(folder, ".new")


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)
