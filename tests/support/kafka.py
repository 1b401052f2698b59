"""A real Apache Kafka (KRaft) in a temporary folder, for tests and for ``scripts/kafka``.

Its jars come from Maven once, into a folder that git ignores; ports are free ones of the loopback;
processes are ended by their ids. Sessions are short, so that tests of deaths are.
"""

from __future__ import annotations

import argparse
import atexit
import base64
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_POM = _ROOT / "scripts" / "kafka-pom.xml"
_CACHE = _ROOT / ".cache" / "kafka"
#: Of what the pom names now: another one has a folder of its own.
_JARS = _CACHE / f"{zlib.crc32(_POM.read_bytes()):08x}"
_STATE = _CACHE / "running.json"
_READY_S = 60.0
_JAVA = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]

#: What every node has; times in ms. A node that was killed may come back after its broker session.
_SETTINGS = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,FAR:PLAINTEXT",
    "broker.session.timeout.ms": 2000,
    "broker.heartbeat.interval.ms": 500,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 4,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "group.consumer.min.session.timeout.ms": 1000,
    "group.consumer.session.timeout.ms": 6000,
    "group.consumer.min.heartbeat.interval.ms": 100,
    "group.consumer.heartbeat.interval.ms": 300,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
    "auto.create.topics.enable": "false",
    # Records of tests are as old as their timestamps say.
    "log.retention.check.interval.ms": 24 * 3_600_000,
    "log.initial.task.delay.ms": 24 * 3_600_000,
}
_QUORUM = {"controller.quorum.election.timeout.ms": 500, "controller.quorum.fetch.timeout.ms": 1000}


class MissingError(Exception):
    """There is no Java or no Maven here."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its folder (settings and log) and where it listens.

    Whoever comes by ``far_port`` is told that it listens at ``proxy_port``: see ``tcp_proxy``.
    """

    number: int
    folder: Path
    port: int
    controller_port: int
    far_port: int
    proxy_port: int

    @property
    def properties(self) -> Path:
        return self.folder / "server.properties"

    def start(self) -> int:
        """Start the process; return its id."""
        command = [*_dying_with_us(), "java", *_JAVA, *_class("kafka.Kafka"), str(self.properties)]
        with (self.folder / "output").open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        process.returncode = 0  # it is looked after by its id: no warning when it goes out of sight
        return process.pid


class Cluster:
    """Some nodes and their processes."""

    def __init__(self, folder: Path, nodes: int = 1) -> None:
        """Format the folder and start; returns when all nodes answer."""
        _fetch_jars()
        self.folder = folder
        ports = iter(free_ports(4 * nodes))
        self.nodes = [Node(i + 1, folder / str(i + 1), *islice(ports, 4)) for i in range(nodes)]
        self.bootstrap = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        # Begins with a letter: a "-" would be taken for an option.
        cluster_id = "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        for node in self.nodes:
            self._format(node, cluster_id)
        self.pids = {node.number: node.start() for node in self.nodes}
        self.wait_until_ready()

    def _format(self, node: Node, cluster_id: str) -> None:
        node.folder.mkdir(parents=True)
        count = len(self.nodes)
        settings = {
            **_SETTINGS,
            **(_QUORUM if count > 1 else {}),
            "node.id": node.number,
            "log.dirs": node.folder / "log",
            "listeners": f"PLAINTEXT://127.0.0.1:{node.port},"
            f"CONTROLLER://127.0.0.1:{node.controller_port},FAR://127.0.0.1:{node.far_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{node.port},"
            f"FAR://127.0.0.1:{node.proxy_port}",
            "default.replication.factor": count,
            "min.insync.replicas": min(count, 2),
        }
        for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            settings[f"{topic}.replication.factor"] = count
        settings["transaction.state.log.min.isr"] = min(count, 2)
        settings["share.coordinator.state.topic.min.isr"] = min(count, 2)
        alone = [] if count > 1 else ["--standalone"]
        if alone:
            settings["controller.quorum.bootstrap.servers"] = f"127.0.0.1:{node.controller_port}"
        else:
            settings["controller.quorum.voters"] = ",".join(
                f"{one.number}@127.0.0.1:{one.controller_port}" for one in self.nodes
            )
        node.properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        tool = ["java", *_class("kafka.tools.StorageTool"), "format", *alone]
        subprocess.run(
            [*tool, "-t", cluster_id, "-c", str(node.properties)], check=True, capture_output=True
        )

    def wait_until_ready(self, timeout_s: float = _READY_S) -> None:
        """Wait until every node that was started accepts connections."""
        deadline = time.monotonic() + timeout_s
        for node in self.nodes:
            while not _answers(node.port):
                if time.monotonic() > deadline or not _is_alive(self.pids[node.number]):
                    output = (node.folder / "output").read_text(errors="replace")
                    self.stop()
                    msg = f"Kafka node {node.number} did not start: {output[-2000:]}"
                    raise RuntimeError(msg)
                time.sleep(0.05)

    def kill(self, number: int, how: signal.Signals = signal.SIGKILL) -> None:
        """End a node as a power cut does, or as its operator (SIGTERM); returns when it is gone."""
        end_process(self.pids[number], how)

    def restart(self, number: int) -> None:
        """Start a node again that has ended; returns when it answers."""
        node = self.nodes[number - 1]
        self.pids[number] = node.start()
        self.wait_until_ready()

    def stop(self) -> None:
        """End all nodes and delete their records."""
        for pid in self.pids.values():
            end_process(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


def run_tool(name: str, *arguments: str, given: bytes = b"") -> None:
    """Run a program of Kafka's own, with something on its standard input."""
    command = ["java", *_JAVA, *_class(name), *arguments]
    done = subprocess.run(
        command, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")


def end_process(pid: int, how: signal.Signals) -> None:
    """End one process and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, how)
    while _is_alive(pid):
        time.sleep(0.02)


@cache
def shared() -> Cluster:
    """Return this process's broker, started at the first call and ended with the process.

    Skips the test where Java or Maven is missing; fails it where ``CI=true``.
    """
    import pytest  # noqa: PLC0415 - scripts/kafka needs none

    try:
        cluster = Cluster(Path(tempfile.mkdtemp(prefix="streamapp-kafka-")) / "nodes")
    except MissingError as exc:
        if os.environ.get("CI") == "true":
            pytest.fail(str(exc))
        pytest.skip(str(exc))
    atexit.register(cluster.stop)
    return cluster


def _fetch_jars() -> None:
    missing = [name for name in ("java", "mvn") if shutil.which(name) is None]
    if _JARS.exists() and "java" not in missing:
        return
    if missing:
        msg = f"Apache Kafka needs {' and '.join(missing)}: install default-jre-headless and maven"
        raise MissingError(msg)
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _JARS.exists():
            return
        made = Path(tempfile.mkdtemp(dir=_CACHE))
        copy = ["mvn", "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies"]
        where = [f"-DoutputDirectory={made}", "-DincludeScope=runtime"]
        subprocess.run([*copy, *where], check=True, stdout=sys.stderr)
        made.rename(_JARS)


def _class(name: str) -> list[str]:
    return ["-cp", f"{_JARS}/*", name]


def _dying_with_us() -> list[str]:
    """Return what makes a child end with us, however we end; not for one that a person starts."""
    if "PYTEST_VERSION" in os.environ and shutil.which("setpriv"):
        return ["setpriv", "--pdeathsig", "KILL"]
    return []


def free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _is_alive(pid: int) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _main() -> None:
    parser = argparse.ArgumentParser(description="A real Apache Kafka on this machine.")
    parser.add_argument("do", choices=["start", "stop", "status"])
    parser.add_argument("--nodes", type=int, default=1, choices=[1, 3])
    args = parser.parse_args()
    state = json.loads(_STATE.read_text()) if _STATE.exists() else {}
    alive = [pid for pid in state.get("pids", []) if _is_alive(pid)]
    if args.do == "start" and not alive:
        cluster = Cluster(Path(tempfile.mkdtemp(prefix="streamapp-kafka-")) / "nodes", args.nodes)
        state = {
            "bootstrap": cluster.bootstrap,
            "pids": alive or list(cluster.pids.values()),
            "folder": str(cluster.folder.parent),
        }
        alive = state["pids"]
        _STATE.write_text(json.dumps(state))
    if args.do == "stop":
        for pid in alive:
            end_process(pid, signal.SIGTERM)
        shutil.rmtree(state.get("folder", ""), ignore_errors=True)
        _STATE.unlink(missing_ok=True)
        alive = []
    processes = " ".join(map(str, alive))
    print(f"kafka://{state['bootstrap']} (processes {processes})" if alive else "not running")  # noqa: T201 - a command


if __name__ == "__main__":
    try:
        _main()
    except MissingError as missing:
        sys.exit(str(missing))
