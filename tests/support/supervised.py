"""A supervisor of programs, with short limits: ``python -m support.supervised COUNT WHAT``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from streamapp.cli.supervisor import Limits, Supervisor, end_with

LIMITS = Limits(first_pause_s=0.01, longest_pause_s=0.05, young_s=5, tries=3, stop_s=1)


def _supervise(count: int, what: str) -> int:
    ends, _ = os.pipe()

    def start(number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", __spec__.name, "work", what, str(number), str(ends)]
        return subprocess.Popen(command, pass_fds=(ends,), process_group=0)

    return Supervisor(count, start, LIMITS).run()


def _work(what: str, number: int, ends: int) -> int:
    if what.isdigit():
        return int(what)
    if what == "ignores":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        end_with(ends)
    Path(f"{number}.pid").write_text(str(os.getpid()))
    while True:
        time.sleep(60)


if __name__ == "__main__":
    if sys.argv[1] == "work":
        sys.exit(_work(sys.argv[2], *map(int, sys.argv[3:])))
    sys.exit(_supervise(int(sys.argv[1]), sys.argv[2]))
