"""Checkpoints on disk: copies of a store with the positions at which they are true.

A checkpoint is a folder ``<root>/<id>/`` with the store's copy in ``store/`` and ``manifest.json``.
It is put together as ``<id>.tmp``, synced, and published by one rename, so that a crash at any step
leaves the published ones as they were. Nothing published is ever changed, only removed.

Files carry a CRC-32: it finds what disks do to bytes at the speed of reading them, and against
forgery a stronger sum beside the data would not help either. A table file that is a hard link to
the one of the checkpoint before takes over its sum, so that only new files are read. Links share
their bytes with the live store: a checkpoint guards against mistakes and lost folders; against a
dying disk only a copy on another one does.
"""

from __future__ import annotations

import os
import re
import shutil
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec

from streamapp.errors import StateCorruptError, StateError, UsageError
from streamapp.faults import crash_point
from streamapp.state.files import (
    file_error,
    make_private,
    remove_tree,
    replace_tree,
    staging,
    sync_file,
    sync_tree,
)
from streamapp.state.manifest import FileSum, Manifest, decode_manifest, encode_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from streamapp.state.slots import StateSlot
    from streamapp.state.store import Store

_COPY: Final = "store"
_MANIFEST: Final = "manifest.json"
_ID: Final = re.compile("[1-9][0-9]*")
_READ_BYTES: Final = 1 << 20  # memory that summing a file needs
#: Files that RocksDB never writes to again, so that folders may share them by hard link.
_IMMUTABLE: Final = frozenset({".sst", ".blob"})


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A published checkpoint. ``damage`` says what is wrong with it; empty: nothing was found.

    ``manifest`` is ``None`` only if it cannot be read, and then ``damage`` says why.
    """

    id: int
    folder: Path
    manifest: Manifest | None
    damage: str = ""


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest whole checkpoint, if any, and the damaged ones above it, which were skipped."""

    checkpoint: Checkpoint | None
    skipped: tuple[Checkpoint, ...]


class CheckpointStore:
    """The checkpoints in one folder. One process writes and prunes; any may list and verify."""

    __slots__ = ("_root",)

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, store: Store, manifest: Manifest) -> Checkpoint:
        """Copy the store and publish the copy under the manifest's id.

        No ``apply`` may run between taking the manifest's positions and this call. When it returns,
        the checkpoint survives a power cut; the store stays open.

        Args:
            store: What to copy.
            manifest: Everything but ``files``.

        Raises:
            UsageError: The id is not positive.
            StateError: The id exists, or the store failed.
            StateFullError: No room; nothing was published and the id is free. The store is dead
                only if its own file system is the full one: its next call says so.
            StateUnavailableError: The folder cannot be written.
        """
        if manifest.id < 1:
            message = f"checkpoint id {manifest.id} is not positive"
            raise UsageError(message)
        make_private(self._root)
        folder = self._root / str(manifest.id)
        if folder.exists():
            message = f"checkpoint {manifest.id} exists in {self._root}"
            raise StateError(message, hint="Use a greater id")
        tmp = self._root / f"{manifest.id}.tmp"
        try:
            whole = self._put_together(store, manifest, tmp)
            tmp.rename(folder)
            crash_point("checkpoint.renamed")
            sync_file(self._root)
        except OSError as exc:
            what = f"checkpoint {manifest.id} cannot be written"
            raise file_error(what, exc) from exc
        finally:
            shutil.rmtree(tmp, ignore_errors=True)
        return Checkpoint(manifest.id, folder, whole)

    def list(self) -> tuple[Checkpoint, ...]:
        """Return all published checkpoints, oldest first; finds missing files and wrong sizes.

        Reads the manifests only. ``verify`` reads the files too.
        """
        try:
            names = [path.name for path in self._root.iterdir()]
        except FileNotFoundError:
            return ()
        except OSError as exc:
            what = f"checkpoints in {self._root} cannot be listed"
            raise file_error(what, exc) from exc
        ids = sorted(int(name) for name in names if _ID.fullmatch(name))
        return tuple(self._look_at(number) for number in ids)

    def verify(self, checkpoint_id: int) -> Checkpoint:
        """Return the checkpoint after reading every byte of it; the answer is in ``damage``."""
        checkpoint = self._look_at(checkpoint_id)
        if checkpoint.manifest is None or checkpoint.damage:
            return checkpoint
        for expected in checkpoint.manifest.files:
            try:
                crc32 = _crc32_of(checkpoint.folder / _COPY / expected.name)
            except OSError as exc:
                return replace(checkpoint, damage=f"{expected.name}: {exc.strerror}")
            if crc32 != expected.crc32:
                return replace(checkpoint, damage=f"{expected.name}: wrong checksum")
        return checkpoint

    def newest(self) -> Newest:
        """Return the newest checkpoint that passes ``verify``, and the newer ones that do not."""
        skipped: list[Checkpoint] = []
        for listed in reversed(self.list()):
            checkpoint = self.verify(listed.id)
            if not checkpoint.damage:
                return Newest(checkpoint, tuple(skipped))
            skipped.append(checkpoint)
        return Newest(None, tuple(skipped))

    def restore(self, checkpoint_id: int, slot: StateSlot) -> Checkpoint:
        """Put a verified copy of the checkpoint in the place of the slot's database.

        The slot is the proof that no other worker uses the folder (``claim_slot``); its store must
        be closed. Up to the last rename the former database is in place: a failure keeps it, and
        after a crash the next ``claim_slot`` brings it back. The checkpoint stays as it is.

        Raises:
            StateCorruptError: The checkpoint is damaged or does not exist.
            StateLockedError: The slot was released, or a store has the folder open.
            StateFullError: No room; the former database is untouched.
        """
        slot.check_idle()
        checkpoint = self.verify(checkpoint_id)
        if checkpoint.damage:
            message = f"checkpoint {checkpoint_id} in {self._root}: {checkpoint.damage}"
            raise StateCorruptError(message, hint="Restore another one")
        new = staging(slot.folder)
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(mode=0o700)
            database = new / slot.database.name
            shutil.copytree(checkpoint.folder / _COPY, database, copy_function=_link_or_copy)
            sync_tree(new)
            crash_point("restore.copied")
            replace_tree(new, slot.folder)
        except (OSError, shutil.Error) as exc:
            raise _restore_error(checkpoint_id, exc) from exc
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return checkpoint

    def prune(self, keep: int) -> tuple[int, ...]:
        """Remove all that is older than the ``keep`` newest undamaged ones; return their ids.

        Damaged ones do not count, so that ``keep`` to fall back on are left. Unpublished remains of
        a crash go too. Not to be called beside ``write``.
        """
        if keep < 1:
            message = f"keep={keep}: the last checkpoint is never removed"
            raise UsageError(message)
        listed = self.list()
        kept = [checkpoint.id for checkpoint in listed if not checkpoint.damage][-keep:]
        oldest = kept[0] if len(kept) == keep else 0
        doomed = [checkpoint for checkpoint in listed if checkpoint.id < oldest]
        for checkpoint in doomed:
            remove_tree(checkpoint.folder)
        for remains in (*self._root.glob("*.tmp"), *self._root.glob("*.trash")):
            shutil.rmtree(remains, ignore_errors=True)
        return tuple(checkpoint.id for checkpoint in doomed)

    def _put_together(self, store: Store, manifest: Manifest, tmp: Path) -> Manifest:
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir(mode=0o700)
        store.checkpoint(tmp / _COPY)
        crash_point("checkpoint.copied")
        whole = msgspec.structs.replace(manifest, files=self._sum_files(tmp / _COPY))
        (tmp / _MANIFEST).write_bytes(encode_manifest(whole))
        crash_point("checkpoint.described")
        sync_tree(tmp)
        crash_point("checkpoint.synced")
        return whole

    def _sum_files(self, copy: Path) -> tuple[FileSum, ...]:
        former = next((c for c in reversed(self.list()) if not c.damage), None)
        known = _files_of(former)
        sums = []
        for name, path in _walk(copy).items():
            before = known.get(name)
            if former and before and _is_same_table(former.folder / _COPY / name, path):
                sums.append(before)
            else:
                sums.append(FileSum(name, path.stat().st_size, _crc32_of(path)))
        return tuple(sums)

    def _look_at(self, checkpoint_id: int) -> Checkpoint:
        folder = self._root / str(checkpoint_id)
        try:
            manifest = decode_manifest((folder / _MANIFEST).read_bytes())
        except OSError as exc:
            return Checkpoint(checkpoint_id, folder, None, f"{_MANIFEST}: {exc.strerror}")
        except StateCorruptError as exc:
            return Checkpoint(checkpoint_id, folder, None, str(exc))
        return Checkpoint(checkpoint_id, folder, manifest, _visible_damage(folder, manifest))


def _visible_damage(folder: Path, manifest: Manifest) -> str:
    if manifest.id != int(folder.name):
        return f"the manifest is that of checkpoint {manifest.id}"
    expected = {file.name: file.size for file in manifest.files}
    found = {name: path.stat().st_size for name, path in _walk(folder / _COPY).items()}
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{name}: missing"
        # RocksDB takes in what it finds: a stray log in the folder would become part of the state.
        if name not in expected:
            return f"{name}: does not belong here"
        if expected[name] != found[name]:
            return f"{name}: {found[name]} bytes instead of {expected[name]}"
    return ""


def _files_of(checkpoint: Checkpoint | None) -> dict[str, FileSum]:
    if checkpoint is None or checkpoint.manifest is None:
        return {}
    return {file.name: file for file in checkpoint.manifest.files}


def _walk(folder: Path) -> dict[str, Path]:
    """Return all files below ``folder`` by their relative name, in the order of names."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in sorted(files)}


def _is_same_table(before: Path, now: Path) -> bool:
    return now.suffix in _IMMUTABLE and before.samefile(now)


def _crc32_of(path: Path) -> int:
    crc32 = 0
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            crc32 = zlib.crc32(piece, crc32)
    return crc32


def _link_or_copy(source: str, target: str) -> None:
    """Share an immutable file, copy any other: RocksDB appends to its manifest and logs."""
    if os.path.splitext(source)[1] in _IMMUTABLE:  # noqa: PTH122 - copytree hands over strings
        try:
            os.link(source, target)
        except OSError:
            pass  # another file system, or one without links
        else:
            return
    shutil.copyfile(source, target)


def _restore_error(checkpoint_id: int, exc: OSError | shutil.Error) -> StateError:
    what = f"checkpoint {checkpoint_id} cannot be restored"
    if isinstance(exc, shutil.Error):
        message = f"{what}: {exc}"
        return StateError(message, hint="The former state is in place; see the reason above")
    return file_error(what, exc)
