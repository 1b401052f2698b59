"""Runs programs of a test as ``faust`` or ``streamapp`` would, each in a process of its own.

One process imports everything once and forks: a program starts in a twentieth of the time.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

_TESTS = Path(__file__).parents[1]
_LIMIT_S = 30
#: linux/capability.h: version 3 of the call, and the two rights by which root ignores permissions.
_CAPABILITY_VERSION = 0x20080522
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1 << 1, 1 << 2


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that has ended: its exit status (negative: a signal) and what it wrote."""

    status: int
    out: str
    err: str


class Programs:
    """The test's side. Close it."""

    def __init__(self) -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith("STREAMAPP_")}
        env.pop("PORT", None)
        env["PYTHONPATH"] = f"{_TESTS}{os.pathsep}{_TESTS.parent}"
        self._process = subprocess.Popen(
            # The name of the program decides who prints errors, as it does for the real one.
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
        )

    def run(self, folder: Path, *argv: str) -> Ended:
        """Run one to its end in a folder; ``argv[0]`` is ``faust`` or ``streamapp``."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode([str(folder), argv]) + b"\n")
        process.stdin.flush()
        status = int(process.stdout.readline())
        return Ended(status, (folder / "out").read_text(), (folder / "err").read_text())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


_PROGRAM = "import sys; sys.argv = ['faust']; from support.programs import serve; serve()"


# --- the process ---------------------------------------------------------------------------------


def serve() -> None:
    """Run what standard input asks for; returns in the children, to end as a program does."""
    import faust.cli.faust  # noqa: F401, PLC0415 - so that programs need not
    import rocksdict  # noqa: F401, PLC0415 - so that programs need not

    import streamapp.app  # noqa: PLC0415 - so that programs need not
    import streamapp.cli.main  # noqa: PLC0415 - so that programs need not
    import streamapp.transport.sqlite  # noqa: F401, PLC0415 - so that programs need not

    for line in sys.stdin.buffer:
        folder, argv = msgspec.json.decode(line)
        pid = os.fork()
        if pid == 0:
            _become(Path(folder), argv)
            return
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(folder: Path, argv: list[str]) -> None:
    signal.alarm(_LIMIT_S)
    os.chdir(folder)
    _obey_permissions()
    null = os.open(os.devnull, os.O_RDONLY)
    out, err = (
        os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) for name in ("out", "err")
    )
    for old, new in ((null, 0), (out, 1), (err, 2)):
        os.dup2(old, new)
    sys.argv[:] = argv
    if argv[0] == "faust":
        from faust.cli.faust import cli  # noqa: PLC0415 - is loaded

        cli()
    else:
        sys.excepthook = sys.__excepthook__
        from streamapp.cli.main import main  # noqa: PLC0415 - is loaded

        main()


def _obey_permissions() -> None:
    """Let root be refused what its users are: a read-only folder is read-only."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then their upper halves
    if libc.capget(header, sets) == 0:
        sets[0] &= ~(_DAC_OVERRIDE | _DAC_READ_SEARCH)
        libc.capset(header, sets)
