"""Who holds a file lock, for error texts and for refusing to touch a live database.

It only looks. Opening and closing a file that this process has locked would drop a POSIX lock, so
nothing here opens the file: the kernel's own table is read.
"""

from __future__ import annotations

import os
from pathlib import Path

_KERNEL_LOCKS = Path("/proc/locks")


def holder_of(path: Path) -> int | None:
    """Return the process id that holds a lock on ``path``; ``None`` if nobody or not known.

    Sees ``flock`` and POSIX locks. Processes of other containers may be invisible, so ``None`` is
    no proof that the file is free.
    """
    try:
        stat = path.stat()
        lines = _KERNEL_LOCKS.read_text().splitlines()
    except OSError:
        return None
    wanted = f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"
    for line in lines:
        fields = line.split()
        # A waiter's line has "->" as its second field and shifts the rest; it holds nothing.
        if fields[1] != "->" and fields[5] == wanted:
            return int(fields[4])
    return None


def name_of(pid: int | None) -> str:
    """Return how to call a process in an error text."""
    if pid is None:
        return "another process"
    return "this process" if pid == os.getpid() else f"process {pid}"
