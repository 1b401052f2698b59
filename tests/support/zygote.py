"""A process that has imported everything and forks workers: one starts in 50 ms, not in a second.

It never runs a thread or an event loop itself, so each worker begins as a program of its own would.
It obeys one request a line on its standard input, and answers each with one line.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from support.crash_app import Plan

_TESTS = Path(__file__).parents[1]


class Zygote:
    """The test's side. Close it, or the workers outlive the test."""

    def __init__(self) -> None:
        # A library of numpy would start threads, which no fork should inherit.
        threads = {"OPENBLAS_NUM_THREADS": "1"}
        env = {**os.environ, **threads, "PYTHONPATH": f"{_TESTS}{os.pathsep}{_TESTS.parent}"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
        )
        self._workers: list[Running] = []

    def start(self, plan: Plan) -> Running:
        """Start a worker. Its log is ``log`` in the plan's folder, shared by all of them."""
        pid = self.ask({"do": "start", "plan": msgspec.to_builtins(plan)})
        worker = Running(self, pid, plan)
        self._workers.append(worker)
        return worker

    def ask(self, request: dict[str, Any]) -> Any:
        """Send a request and return its answer."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(request) + b"\n")
        process.stdin.flush()
        return msgspec.json.decode(process.stdout.readline())

    def kill_all(self) -> None:
        """Kill the workers that are left."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def close(self) -> None:
        """Kill the workers, then the zygote itself."""
        self.kill_all()
        self._process.communicate()


class Running:
    """A worker process."""

    def __init__(self, zygote: Zygote, pid: int, plan: Plan) -> None:
        self.pid = pid
        self.plan = plan
        self._zygote = zygote
        self.status: int | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it has begun to process."""
        return Path(self.plan.folder, f"ready-{self.pid}").exists()

    def is_gone(self) -> bool:
        """Whether it has ended; then ``status`` is its exit status, negative for a signal."""
        if self.status is None:
            self.status = self._zygote.ask({"do": "reap", "pid": self.pid})
        return self.status is not None

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if not self.is_gone():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as ``kill -9`` does; returns when it is gone."""
        self.send(signal.SIGKILL)
        self.wait()

    def wait(self, limit_s: float = 30.0) -> int:
        """Wait for its end and return its exit status."""
        deadline = time.monotonic() + limit_s
        while not self.is_gone():
            assert time.monotonic() < deadline, f"worker {self.pid} does not end"
            time.sleep(0.002)
        assert self.status is not None
        return self.status


# --- the process ---------------------------------------------------------------------------------


def serve() -> None:
    """Answer requests until the input ends."""
    import rocksdict  # noqa: F401, PLC0415 - so that workers need not
    from support import crash_app  # noqa: PLC0415 - the process's, not the test's

    import streamapp.app  # noqa: PLC0415 - so that workers need not
    import streamapp.pipelines.windowed  # noqa: PLC0415 - so that workers need not
    import streamapp.transport.sqlite  # noqa: F401, PLC0415 - so that workers need not

    for line in sys.stdin.buffer:
        request = msgspec.json.decode(line)
        if request["do"] == "start":
            plan = msgspec.convert(request["plan"], crash_app.Plan)
            answer: int | None = os.fork()
            if answer == 0:
                _become(plan)
        else:
            pid, status = os.waitpid(request["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


def _become(plan: Plan) -> None:
    from support import crash_app  # noqa: PLC0415 - is loaded

    log = os.open(f"{plan.folder}/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((null, 0), (log, 1), (log, 2)):
        os.dup2(old, new)
    status = 70
    try:
        crash_app.run(plan)
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:  # noqa: BLE001 - a fork must never return to its parent's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()
