"""The files of a bus folder, their tables and their version.

``FORMAT`` is written last, so a folder that has it is whole. One file holds all topics and all
positions, which is what makes produce-and-commit one transaction; the members of the groups live
in a file of their own, where no join waits for the log to be synced.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from streamapp.errors import BrokerUnavailableError
from streamapp.transport.sqlite.faults import from_sqlite, from_system
from streamapp.transport.sqlite.locks import FileLock

#: Raise it when older code must not touch the folder.
FORMAT_VERSION = 1

#: A join waits for the disk behind large commits of others; longer means that somebody is stuck.
BUSY_TIMEOUT_S = 30.0

#: Pages (32 MiB) after which the WAL is folded back: more often costs syncs, later costs memory.
_CHECKPOINT_PAGES = 2_048

#: Bytes that the WAL keeps on disk once folded back.
_WAL_LIMIT = 64 << 20

#: Rows are some 100 KiB: on smaller pages they were a third slower to append, on larger ones
#: single records are, which rewrite whole pages.
_PAGE_BYTES = 16_384

_BUS = """
CREATE TABLE IF NOT EXISTS topic (
    tid INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again, not even for a topic of that name
    name TEXT NOT NULL UNIQUE,
    uid TEXT NOT NULL,
    partitions INTEGER NOT NULL,
    cleanup TEXT NOT NULL,
    retention_ms INTEGER,
    retention_bytes INTEGER
);
CREATE TABLE IF NOT EXISTS part (
    tid INTEGER NOT NULL,
    p INTEGER NOT NULL,
    earliest INTEGER NOT NULL DEFAULT 0,
    next INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    compacted INTEGER NOT NULL DEFAULT 0,        -- below this offset each key occurs once
    compacted_bytes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tid, p)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch (
    tid INTEGER NOT NULL,
    p INTEGER NOT NULL,
    last INTEGER NOT NULL,        -- the key: "last >= ?" finds the batch of an offset in one seek
    base INTEGER NOT NULL,
    count INTEGER NOT NULL,
    written_ms INTEGER NOT NULL,  -- when it was appended: retention never drops a fresh backfill
    crc INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (tid, p, last)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS position (
    grp TEXT NOT NULL,
    tid INTEGER NOT NULL,
    p INTEGER NOT NULL,
    next INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    PRIMARY KEY (grp, tid, p)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS grp (
    name TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,
    plan TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS owner (  -- the fence: who is not in here cannot commit
    grp TEXT NOT NULL,
    id TEXT NOT NULL,
    lock TEXT NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (grp, id)
) WITHOUT ROWID;
"""

_GROUPS = """
CREATE TABLE IF NOT EXISTS member (
    grp TEXT NOT NULL,
    id TEXT NOT NULL,
    lock TEXT NOT NULL,
    url TEXT NOT NULL,
    topics TEXT NOT NULL,
    released INTEGER NOT NULL,
    PRIMARY KEY (grp, id)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Folder:
    """Where the files of a bus are."""

    path: Path

    @property
    def bus(self) -> Path:
        """Topics, records, positions and fences."""
        return self.path / "bus.db"

    @property
    def write_lock(self) -> Path:
        """Held by whoever writes to ``bus``."""
        return self.path / "write.lock"

    @property
    def janitor_lock(self) -> Path:
        """Held by the one process that cleans."""
        return self.path / "janitor.lock"

    @property
    def bells(self) -> Path:
        """One socket for each waiting reader."""
        return self.path / "bells"

    @property
    def members(self) -> Path:
        """One locked file for each live member."""
        return self.path / "groups"

    @property
    def groups(self) -> Path:
        """The members of all groups."""
        return self.members / "groups.db"

    @property
    def groups_lock(self) -> Path:
        """Held by whoever writes to ``groups``."""
        return self.members / "write.lock"


def prepare(path: Path) -> Folder:
    """Make the folder and its files unless they are there; safe to do in several processes at once.

    Raises:
        BrokerUnavailableError: It cannot be made or written, is on a network file system, or was
            written by a newer version.
        BrokerFullError: There is no room for it.
    """
    folder = Folder(path)
    try:
        folder.bells.mkdir(parents=True, exist_ok=True)
        folder.members.mkdir(exist_ok=True)
        _refuse_network(path)
        if not _has_format(path):
            _create(folder)
        elif not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as exc:
        raise from_system(exc, path) from exc
    return folder


def connect(path: Path, *, sync: str = "FULL", is_reader: bool = False) -> sqlite3.Connection:
    """Open a connection that commits by itself; the caller lets one thread at a time use it.

    A ``FULL`` commit is on the disk when it returns; after a power cut ``NORMAL`` may have lost the
    commits since the last checkpoint, never more and never in another order.
    """
    conn = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        # Both must come before the first table and before the WAL, which fix them.
        conn.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute(f"PRAGMA synchronous = {sync}")
        conn.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        conn.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
        conn.execute(f"PRAGMA query_only = {int(is_reader)}")
    except sqlite3.Error as exc:
        conn.close()
        raise from_sqlite(exc, path, is_writing=False) from exc
    return conn


def file_system(path: Path, mountinfo: str) -> str:
    """Return the type of the file system that holds ``path``, in the kernel's words.

    Args:
        path: Absolute and resolved.
        mountinfo: The text of ``/proc/self/mountinfo``, see proc(5); later mounts hide earlier
            ones.
    """
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:  # noqa: PLR2004  # the fifth field is the mount point
            continue
        point = Path(fields[4].encode().decode("unicode_escape"))
        depth = len(point.parts)
        if depth >= best and path.is_relative_to(point):
            best, kind = depth, right.split()[0]
    return kind


_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "glusterfs", "lustre"}
    | {"gpfs", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.ceph"}
)


def _refuse_network(path: Path) -> None:
    mounts = Path("/proc/self/mountinfo")
    if not mounts.exists():
        return
    kind = file_system(path.resolve(), mounts.read_text(errors="replace"))
    if kind in _NETWORK:
        msg = f"cannot use {path}: it is on a network file system ({kind})"
        hint = "The write-ahead log needs shared memory: name a folder on a local disk."
        raise BrokerUnavailableError(msg, hint=hint)


def _has_format(path: Path) -> bool:
    file = path / "FORMAT"
    if not file.exists():
        return False
    text = file.read_text().strip()
    if text == str(FORMAT_VERSION):
        return True
    msg = f"{path} has layout version {text[:20]!r}; this streamapp reads {FORMAT_VERSION}"
    hint = "Use the version of streamapp that wrote it, or name another folder."
    raise BrokerUnavailableError(msg, hint=hint)


def _create(folder: Folder) -> None:
    lock = FileLock(folder.write_lock)
    try:
        lock.acquire()
        if _has_format(folder.path):
            return
        for path, script in ((folder.bus, _BUS), (folder.groups, _GROUPS)):
            with closing(connect(path)) as conn:
                try:
                    conn.executescript(script)
                except sqlite3.Error as exc:
                    raise from_sqlite(exc, path, is_writing=True) from exc
        _write_format(folder.path)
    finally:
        lock.close()


def _write_format(path: Path) -> None:
    draft = path / "FORMAT.new"
    with draft.open("w") as file:
        file.write(f"{FORMAT_VERSION}\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path / "FORMAT")
