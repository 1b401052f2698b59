"""Processes of the embedded broker that stop in the middle of their work."""

from __future__ import annotations

import fcntl
import signal
import time
from pathlib import Path
from typing import Protocol


class Stoppable(Protocol):
    """A process that takes signals."""

    @property
    def pid(self) -> int:
        """Its number."""

    def send(self, number: int) -> None:
        """Send it a signal."""


def freeze_between_writes(process: Stoppable, bus: Path) -> None:
    """Freeze a process outside of a transaction: inside of one it would hold the bus for all."""
    with (bus / "write.lock").open("rb") as file:
        while True:
            process.send(signal.SIGSTOP)
            # A thread that waits for the lock may still get it on its way to a stop.
            while not is_stopped(process.pid):
                time.sleep(0.001)
            until = time.monotonic() + 0.2
            while time.monotonic() < until:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(0.005)  # another process writes, or the frozen one holds it
                else:
                    fcntl.flock(file, fcntl.LOCK_UN)
                    return
            process.send(signal.SIGCONT)
            time.sleep(0.01)  # for another moment of its life


def is_stopped(pid: int) -> bool:
    """Tell whether no thread of a process runs; on Linux, elsewhere soon after a signal."""
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.exists():
        time.sleep(0.05)
        return True
    try:
        stats = [stat.read_text() for stat in tasks.glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):
        return False  # a thread has ended meanwhile
    # The state stands behind the name, which may hold whatever a name holds; Z is of the dead.
    return all(stat.rpartition(")")[2].split()[0] in "TtZ" for stat in stats)
