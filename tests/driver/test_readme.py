"""The program of the README runs as it stands, and keeps its counts when it is killed."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
COMMAND = Path(sys.executable).with_name("streamapp")
DEADLINE_S = 60


@contextmanager
def worker(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the program's worker; kill it at the end as ``kill -9`` does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    arguments = [COMMAND, "worker", "-A", "clicks", "--web-port", port, "-l", "error"]
    with subprocess.Popen(arguments, cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def call(folder: Path, *arguments: str) -> str:
    """Run a command of ours; return what it wrote, nothing where it failed."""
    done = subprocess.run(
        [COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout if done.returncode == 0 else ""


def wait_for_count(folder: Path, expected: int) -> None:
    """Wait until the table's changelog says that ann has clicked this often."""
    deadline = time.monotonic() + DEADLINE_S
    count = None
    while count != expected and time.monotonic() < deadline:
        lines = call(folder, "tail", "clicks-views-changelog", "-n", "1", "--json").splitlines()
        count = json.loads(lines[0])["value"] if lines else None
    assert count == expected


@pytest.mark.crash
def test_readme_program_counts_across_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("STREAMAPP_") or name == "PORT"]:
        monkeypatch.delenv(name)
    program = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert program is not None
    (tmp_path / "clicks.py").write_text(program[1], encoding="utf-8")
    call(tmp_path, "send", "clicks", "{}", "-k", "ann", "--create-partitions", "4")
    with worker(tmp_path):
        call(tmp_path, "send", "clicks", "{}", "-k", "ann")
        wait_for_count(tmp_path, 2)
    call(tmp_path, "send", "clicks", "{}", "-k", "ann")
    with worker(tmp_path):
        wait_for_count(tmp_path, 3)
