"""A whole worker over a broker: records, state, changelog and commits, by the settings' defaults.

The topic is filled first; on a broker of the user's own all topics are removed afterwards. The
rate is from the first commit to the one that holds the last event, the CPU time that of the
worker's process in between.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec

import streamapp
from streamapp.bench.engines.ours import Big
from streamapp.bench.events import END
from streamapp.bench.runs import Measured
from streamapp.bench.scenarios import SCENARIOS, Rows, digest, keyed
from streamapp.core.batch import TP, OutRecord
from streamapp.errors import StreamappError
from streamapp.transport.broker import TopicSpec
from streamapp.transport.connect import open_broker
from streamapp.transport.partitioner import partition_for_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamapp.transport.broker import Broker

PARTITIONS = 4
_WRITTEN_AT_ONCE = 20_000
#: Seconds until a worker is given up.
_LIMIT_S = 300.0
_ROOT = str(Path(streamapp.__file__).parents[1])
#: The kind of clock that tells the CPU time of a process on Linux, see clock_getcpuclockid(3);
#: /proc tells it in hundredths of a second.
_OF_A_PROCESS = 2


class WorkerFailedError(StreamappError):
    """A measured worker has ended, or does not get on."""


@dataclass(frozen=True, slots=True)
class _Look:
    """A worker at a moment: what it has committed, and at what cost."""

    at: float
    cpu_s: float
    events: int


def measure(scenario: str, url: str, events: int, runs: int) -> Measured:
    """Run a worker ``runs`` times, each with a group, topics and a state folder of its own.

    Args:
        scenario: Its name.
        url: A broker's; ``sqlite://`` is in a temporary folder.
        events: How many.
        runs: How many.
    """
    engine = url.partition(":")[0]
    found: list[Mapping[str, float]] = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            try:
                found.append(_run(scenario, url, events, Path(name)))
            except StreamappError as exc:
                return Measured(engine, scenario, events, (), str(exc))
    return Measured(engine, scenario, events, tuple(found))


def _run(scenario: str, url: str, count: int, folder: Path) -> Mapping[str, float]:
    events = SCENARIOS[scenario].events(count)
    app = f"bench-{uuid4().hex[:8]}"
    tps = [TP(f"{app}-events", number) for number in range(PARTITIONS)]
    broker = open_broker(url, folder)
    try:
        # A result has a topic of its own in each run.
        _fill(broker, tps, events)
        with _worker(scenario, app, url, folder) as worker:
            begin, end = _follow(broker, app, tps, worker)
            peak = peak_mib(worker.pid)
            found = _found(scenario, broker, app, folder, worker)
        expected = digest(SCENARIOS[scenario].reference(events))
        if found != expected:
            msg = f"wrong result: {found}, expected {expected}"
            raise WorkerFailedError(msg)
    finally:
        broker.close()
        clean(url, app)
    done = end.events - begin.events
    return {
        "events_per_s": round(done / (end.cpu_s - begin.cpu_s)),
        "wall_per_s": round(done / (end.at - begin.at)),
        "cpu_us": round((end.cpu_s - begin.cpu_s) / done * 1e6, 3),
        "peak_mib": round(peak, 1),
    }


def clean(url: str, app: str) -> None:
    """Remove what an application has left on a broker of the user's."""
    if url.startswith("kafka://"):
        from streamapp.transport.kafka.removal import remove  # noqa: PLC0415 - only for Kafka

        remove(url, app)


def _fill(broker: Broker, tps: list[TP], events: list[bytes]) -> None:
    """Write the events by user, or by row; the last one, which closes all windows, to each."""
    broker.create_topic(TopicSpec(tps[0].topic, len(tps)))
    records = (
        OutRecord(tps[partition_for_key(key, len(tps))], key, event, 0)
        for event in events
        if (key := _key(event)) != END.encode()
    )
    while part := list(islice(records, _WRITTEN_AT_ONCE)):
        broker.append(part)
    if _key(events[-1]) == END.encode():
        broker.append([OutRecord(tp, END.encode(), events[-1], 0) for tp in tps])


class _Key(msgspec.Struct):
    id: int = 0


class _Keyed(msgspec.Struct):
    user: str = ""
    before: _Key | None = None
    after: _Key | None = None


_decode = msgspec.json.Decoder(_Keyed).decode


def _key(event: bytes) -> bytes:
    found = _decode(event)
    row = found.after or found.before
    return found.user.encode() if row is None else b"%d" % row.id


@contextmanager
def _worker(scenario: str, app: str, url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    plan = {
        "scenario": scenario,
        "app": app,
        "broker": url if url != "sqlite://" else f"sqlite://{folder}/bus",
        "folder": str(folder),
        "topic": f"{app}-events",
        "partitions": PARTITIONS,
    }
    words = ["-m", "faust", "-A", "streamapp.bench.worker_app"]
    words += ["worker", "-l", "error", "--without-web"]
    with (folder / "log").open("wb") as log:
        worker = subprocess.Popen(  # noqa: S603 - this interpreter
            [sys.executable, *words],
            stdout=log,
            stderr=log,
            env={**os.environ, "BENCH_PLAN": json.dumps(plan), "PYTHONPATH": _ROOT},
        )
        try:
            yield worker
        finally:
            worker.kill()
            worker.wait()


def _follow(
    broker: Broker, app: str, tps: list[TP], worker: subprocess.Popen[bytes]
) -> tuple[_Look, _Look]:
    """Wait until all is committed; return the first commit and the last one."""
    total = sum(log.end for log in broker.offsets(tps).values())
    looks: list[_Look] = []

    def is_done() -> bool:
        done = sum(position.offset for position in broker.committed(app, tps).values())
        if done and (not looks or done == total):
            looks.append(_Look(time.monotonic(), cpu_s(worker.pid), done))
        return done == total

    wait(is_done, worker)
    if len(looks) == 1 or looks[0].events == total:
        msg = f"all {total} events were in the first commit"
        raise WorkerFailedError(msg, hint="Measure with more --events.")
    return looks[0], looks[-1]


def _found(
    scenario: str, broker: Broker, app: str, folder: Path, worker: subprocess.Popen[bytes]
) -> str:
    if scenario == "filter":
        return digest(_sent(broker, f"{app}-results"))
    (folder / "ask").touch()
    wait((folder / "answer").exists, worker)
    return (folder / "answer").read_text()


def _sent(broker: Broker, topic: str) -> Rows:
    """Return the results of the filter; a record that is there twice would be seen."""
    reader = broker.reader()
    tps = [TP(topic, number) for number in range(broker.topics()[topic].spec.partitions)]
    ends = {tp: log.end for tp, log in broker.offsets(tps).items()}
    reader.assign(dict.fromkeys(tps, 0))
    found: list[Big] = []
    while any(reader.positions()[tp] < end for tp, end in ends.items()):
        for batch in reader.poll(1.0, 10_000):
            found += [msgspec.json.decode(value or b"", type=Big) for value in batch.values]
    reader.close()
    rows = keyed((big.id, (big.user, big.amount)) for big in found)
    return rows if len(rows) == len(found) else {}


def wait(condition: Callable[[], bool], worker: subprocess.Popen[bytes]) -> None:
    """Wait for a condition as long as a worker lives.

    Raises:
        WorkerFailedError: It has ended, or nothing came of it in time.
    """
    deadline = time.monotonic() + _LIMIT_S
    while not condition():
        if worker.poll() is not None:
            msg = f"the worker has ended with status {worker.returncode}"
            raise WorkerFailedError(msg)
        if time.monotonic() > deadline:
            msg = f"the worker was not done after {_LIMIT_S:g} s"
            raise WorkerFailedError(msg)
        time.sleep(0.01)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process, all its threads."""
    return time.clock_gettime(~pid << 3 | _OF_A_PROCESS)


def peak_mib(pid: int) -> float:
    """Return the greatest memory that a process had, MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
