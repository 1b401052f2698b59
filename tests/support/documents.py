"""The programs and the shell sessions of a document, and a worker that runs them.

The Python blocks of a document are one program, in their order. A block after the comment
``<!-- not run: reason -->`` is left out. In a shell session a line with ``$`` is a command; what
follows is what it prints, where ``...`` stands for anything.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMANDS = Path(sys.executable).parent
DEADLINE_S = 60.0

_BLOCK = re.compile(
    r"(?P<skip><!-- not run: [^\n]+ -->\n)?```(?P<kind>python|console)\n(?P<text>.*?)```", re.DOTALL
)
_USUAL_PORT = "127.0.0.1:6066"


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a session and what it prints; one that writes is not repeated."""

    command: str
    expected: str

    @property
    def writes(self) -> bool:
        return " send " in f" {self.command} "

    def is_met_by(self, output: str) -> bool:
        pattern = ".*".join(map(re.escape, self.expected.strip().split("...")))
        return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None


@dataclass(frozen=True, slots=True)
class Document:
    """What can be run of a document; ``skipped`` counts its blocks that are not."""

    program: str
    steps: list[Step]
    skipped: int


def read(path: Path) -> Document:
    programs: list[str] = []
    steps: list[Step] = []
    skipped = 0
    for block in _BLOCK.finditer(path.read_text(encoding="utf-8")):
        if block["skip"]:
            skipped += 1
        elif block["kind"] == "python":
            programs.append(block["text"])
        else:
            steps += _steps(block["text"])
    return Document("\n\n".join(programs), steps, skipped)


def _steps(session: str) -> list[Step]:
    commands = re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]
    return [Step(*command.split("\n", 1)) for command in commands]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Place:
    """A folder with a program in it, of which workers can be run."""

    folder: Path
    module: str
    port: int = field(default_factory=_free_port)

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Run a worker that is ready; at the end kill it as ``kill -9`` does."""
        log = self.folder / "worker.log"
        arguments = ["worker", "-A", self.module, "--web-port", str(self.port), "-l", "warning"]
        with (
            log.open("ab") as out,
            subprocess.Popen(
                [COMMANDS / "streamapp", *arguments],
                cwd=self.folder,
                env=_environment(),
                stdout=out,
                stderr=out,
            ) as process,
        ):
            try:
                self._wait_until_ready(process)
                yield
            finally:
                process.kill()

    def play(self, step: Step) -> None:
        """Run a command until it prints what it should; one that writes runs once."""
        deadline = time.monotonic() + DEADLINE_S
        output = self.run(step.command)
        while not step.is_met_by(output) and not step.writes and time.monotonic() < deadline:
            output = self.run(step.command)
        assert step.is_met_by(output), f"$ {step.command}\n{output}\nexpected:\n{step.expected}"

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command.replace(_USUAL_PORT, f"127.0.0.1:{self.port}")],  # noqa: S607
            cwd=self.folder,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return done.stdout

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not self._is_ready():
            assert process.poll() is None, (self.folder / "worker.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "worker.log").read_text()
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def _environment() -> dict[str, str]:
    mine = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("STREAMAPP_") and name != "PORT"
    }
    return mine | {"PATH": f"{COMMANDS}{os.pathsep}{mine['PATH']}"}
