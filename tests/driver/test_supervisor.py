"""``streamapp worker --processes``: what becomes of workers that die, and of all at the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from streamapp.cli.supervisor import GiveUp, Limits, Restart, after_death
from streamapp.core.batch import TP, OutRecord
from streamapp.transport.connect import open_broker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamapp.transport.broker import Broker

TESTS = Path(__file__).parents[1]
LIMITS = Limits(first_pause_s=1, longest_pause_s=5, young_s=10, tries=5)
DEADLINE_S = 60.0

APP = """
import streamapp

app = streamapp.App("shop", topic_partitions=4)
totals = app.Table("totals", default=int)


@app.agent(app.topic("orders", key_type=str, value_type=int))
async def add(orders):
    async for key, amount in orders.items():
        totals[key] += amount
"""


@pytest.mark.parametrize(
    ("deaths", "status", "lived_s", "expected"),
    [
        (0, 1, 0.0, Restart(1, 1)),
        (1, 1, 9.9, Restart(2, 2)),
        (3, -9, 0.0, Restart(5, 4)),
        (4, 1, 9.9, GiveUp("ended 5 times, each within 10 s of its start", 1)),
        (4, 1, 10.0, Restart(1, 0)),
        (0, 0, 99.0, Restart(1, 0)),
        (0, 2, 99.0, GiveUp("says that it cannot run like this", 2)),
    ],
)
def test_what_follows_from_a_death(
    deaths: int, status: int, lived_s: float, expected: Restart | GiveUp
) -> None:
    assert after_death(LIMITS, deaths, status, lived_s) == expected


# --- small programs ------------------------------------------------------------------------------


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("STREAMAPP_") and k != "PORT"}
    return {**kept, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}


@pytest.fixture
def start(
    tmp_path: Path, environment: dict[str, str]
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a supervisor of that many programs of a kind."""
    started: list[subprocess.Popen[str]] = []

    def call(*command: object) -> subprocess.Popen[str]:
        words = [str(word) for word in command]
        started.append(
            subprocess.Popen(
                words, cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE
            )
        )
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def supervised(count: int, what: str) -> tuple[object, ...]:
    return sys.executable, "-m", "support.supervised", count, what


def pid_of(tmp_path: Path, number: int) -> int:
    file = tmp_path / f"{number}.pid"
    wait_until(lambda: file.exists() and file.read_text())
    return int(file.read_text())


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has buried yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_that_is_killed_is_started_again_and_all_end(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    supervisor = start(*supervised(2, "works"))
    first, second = pid_of(tmp_path, 1), pid_of(tmp_path, 2)
    (tmp_path / "1.pid").unlink()
    os.kill(first, signal.SIGKILL)
    again = pid_of(tmp_path, 1)
    assert again != first
    assert is_alive(second)
    supervisor.terminate()
    _, err = supervisor.communicate()
    assert supervisor.returncode == 0, err
    assert f"Worker 1 (pid {first}, killed by SIGKILL): started again in 0.01 s" in err
    assert not is_alive(again)
    assert not is_alive(second)


@pytest.mark.parametrize(
    ("what", "status", "said"),
    [("3", 1, "status 3) ended 3 times, each within 5 s"), ("2", 2, "cannot run like this")],
)
def test_what_would_die_for_ever_ends_all(
    start: Callable[..., subprocess.Popen[str]], what: str, status: int, said: str
) -> None:
    supervisor = start(*supervised(1, what))
    _, err = supervisor.communicate(timeout=DEADLINE_S)
    assert supervisor.returncode == status
    assert said in err
    assert "Traceback" not in err


def test_one_that_does_not_end_is_killed(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    supervisor = start(*supervised(1, "ignores"))
    pid = pid_of(tmp_path, 1)
    supervisor.send_signal(signal.SIGINT)
    _, err = supervisor.communicate(timeout=DEADLINE_S)
    assert supervisor.returncode == 1
    assert f"Worker of pid {pid} does not end: killed" in err
    assert not is_alive(pid)


def test_nobody_outlives_the_supervisor(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    supervisor = start(*supervised(1, "works"))
    pid = pid_of(tmp_path, 1)
    supervisor.kill()
    wait_until(lambda: not is_alive(pid))


# --- workers -------------------------------------------------------------------------------------


def owners(broker: Broker) -> dict[str, frozenset[TP]]:
    """Return the partitions of each live member, by its address."""
    group = broker.groups().get("shop")
    return {one.url: one.tps for one in group.members if one.is_alive} if group else {}


def pids(broker: Broker) -> set[int]:
    members = broker.groups()["shop"].members
    return {int(one.id.rsplit("-", 2)[1]) for one in members if one.is_alive}


def send(broker: Broker) -> None:
    records = [OutRecord(TP("orders", n), b"k%d" % n, b"1", 0) for n in range(4) for _ in range(50)]
    broker.append(records)


def handled(broker: Broker) -> int:
    found = broker.committed("shop", [TP("orders", n) for n in range(4)])
    return sum(position.offset for position in found.values())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_workers_of_one_command(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """They share the partitions; one dies and comes back; the command ends with both."""
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    command = Path(sys.executable).with_name("streamapp")
    process = start(command, "worker", "--processes", 2, "--web-port", port, "-l", "error")
    with closing(open_broker(f"sqlite://{tmp_path}/data/bus", tmp_path)) as broker:

        def is_shared() -> bool:
            assert process.poll() is None, process.communicate()[1]
            return [len(tps) for tps in owners(broker).values()] == [2, 2]

        wait_until(is_shared)
        assert f"http://127.0.0.1:{port}" in {url.rstrip("/") for url in owners(broker)}
        send(broker)
        wait_until(lambda: handled(broker) == 200)
        before = pids(broker)
        os.kill(min(before), signal.SIGKILL)
        send(broker)
        wait_until(lambda: handled(broker) == 400)
        wait_until(lambda: is_shared() and pids(broker) != before)
        with urlopen(f"http://127.0.0.1:{port}/api/v1/status", timeout=10) as answer:
            assert answer.status == 200
        process.terminate()
        _, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, err
        assert not owners(broker)
