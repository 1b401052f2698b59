"""Runs one of the programs of ``ours`` in a process of its own and measures it from outside.

Rates are from the first event to the last one; CPU time also counts the commits up to the one that
holds the last event. No figure leaves here before what the program wrote was read and is right.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workload import PARTITIONS, Workload, event, preload_changelog, read_all, record

from streamapp.core.batch import TP
from streamapp.serde.ordered_keys import encode_key
from streamapp.state.changelog import changelog_topic
from streamapp.transport.broker import TopicSpec

if TYPE_CHECKING:
    from streamapp.transport.broker import Broker

#: Seconds until a run is given up.
_LIMIT_S = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Run:
    """One run. ``committed_per_s`` is the rate up to the commit of the last event, 0 if none."""

    events: int
    seconds: float
    events_per_s: float
    cpu_us_per_event: float
    committed_per_s: float = 0.0
    peak_rss_mib: float = 0.0


class WrongResultError(Exception):
    """What the program wrote is not what it should have; its speed is of no interest."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where runs happen: a folder with a bus, open as ``broker``."""

    folder: Path
    broker: Broker

    def run(self, scenario: str, app: str, workload: Workload) -> Run:
        """Run a program over a preloaded topic until all of it is committed, and check it."""
        with self._worker(scenario, app, workload) as worker:
            committed_at = self._wait_until_committed(app, workload, worker)
            cpu_s, rss_mib = _cpu_s(worker.pid), _peak_rss_mib(worker.pid)
            report = _report(self.folder / f"{app}.json", worker)
        _CHECKS[scenario](self.broker, app, workload, report)
        seconds = report["ended_at"] - report["began_at"]
        return Run(
            workload.events,
            round(seconds, 3),
            round(workload.events / seconds),
            round((cpu_s - report["cpu_began"]) / workload.events * 1e6, 2),
            round(workload.events / (committed_at - report["began_at"])),
            round(rss_mib),
        )

    def recover(self, app: str, idle: Workload, log: Workload) -> Run:
        """Time a worker with an empty state folder until its table is as the changelog says."""
        topic = changelog_topic(app, "sums", PARTITIONS).name
        preload_changelog(self.broker, topic, log, encode_key)
        with self._worker("recovery", app, idle) as worker:
            report = _report(self.folder / f"{app}.json", worker)
            rss_mib = _peak_rss_mib(worker.pid)
        if (report["restored"], report["total"]) != (log.events, sum(log.sums().values())):
            raise WrongResultError(app, report)
        seconds = report["ended_at"] - report["began_at"]
        cpu_s = report["cpu_ended"] - report["cpu_began"]
        return Run(
            log.events,
            round(seconds, 3),
            round(log.events / seconds),
            round(cpu_s / log.events * 1e6, 2),
            peak_rss_mib=round(rss_mib),
        )

    def latencies_ms(self, app: str, per_s: int, seconds: float) -> dict[str, float]:
        """Append records one by one at a fixed pace; time each until its output is readable."""
        workload = Workload(f"{app}-in", round(per_s * seconds), None)
        out = f"{app}-out"
        for name in (workload.topic, out):
            self.broker.create_topic(TopicSpec(name, PARTITIONS))
        seen: dict[int, float] = {}
        done = threading.Event()
        reader = threading.Thread(target=_note_arrivals, args=(self.broker, out, seen, done))
        with self._worker("output", app, workload) as worker:
            reader.start()
            try:
                self._wait_until_owned(app, workload, worker)
                due = _append_paced(self.broker, workload.topic, per_s, workload.events)
                _wait(lambda: len(seen) >= len(due), worker)
            finally:
                done.set()
                reader.join()
        # The first second warms caches up.
        late = sorted((seen[n] - at) * 1e3 for n, at in enumerate(due) if n >= per_s)
        return {
            "p50": round(statistics.median(late), 2),
            "p99": round(late[len(late) * 99 // 100], 2),
            "max": round(late[-1], 2),
        }

    @contextmanager
    def _worker(
        self, scenario: str, app: str, workload: Workload
    ) -> Iterator[subprocess.Popen[bytes]]:
        plan = {
            "scenario": scenario,
            "app": app,
            "folder": str(self.folder),
            "topic": workload.topic,
            "events": workload.events,
            "report": str(self.folder / f"{app}.json"),
        }
        command = [
            sys.executable,
            "-m",
            "faust",
            "-A",
            "ours",
            "worker",
            "-l",
            "info",
            "--without-web",
        ]
        with (self.folder / f"{app}.log").open("wb") as log:
            worker = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parent,
                env={**os.environ, "BENCH_PLAN": json.dumps(plan)},
            )
            try:
                yield worker
            except BaseException:
                print((self.folder / f"{app}.log").read_text()[-4_000:], file=sys.stderr)
                raise
            finally:
                worker.kill()
                worker.wait()

    def _wait_until_committed(
        self, app: str, workload: Workload, worker: subprocess.Popen[bytes]
    ) -> float:
        ends = {tp: log.end for tp, log in self.broker.offsets(workload.tps()).items()}

        def is_committed() -> bool:
            positions = self.broker.committed(app, ends)
            return all(tp in positions and positions[tp].offset == ends[tp] for tp in ends)

        _wait(is_committed, worker)
        return time.monotonic()

    def _wait_until_owned(
        self, app: str, workload: Workload, worker: subprocess.Popen[bytes]
    ) -> None:
        def is_owned() -> bool:
            group = self.broker.groups().get(app)
            return group is not None and any(
                member.is_alive and member.tps >= set(workload.tps()) for member in group.members
            )

        _wait(is_owned, worker)


# --- checks -------------------------------------------------------------------------------------


def _check_total(_: Broker, app: str, workload: Workload, report: dict[str, Any]) -> None:
    if report["total"] != workload.total:
        raise WrongResultError(app, report["total"], workload.total)


def _check_table(broker: Broker, app: str, workload: Workload, _: dict[str, Any]) -> None:
    """The last record of each key in the changelog is what a new worker would have."""
    rows = dict(read_all(broker, changelog_topic(app, "sums", PARTITIONS).name))
    expected = {encode_key(key): b"%d" % total for key, total in workload.sums().items()}
    if rows != expected:
        raise WrongResultError(app, f"{len(rows)} rows, {len(expected)} expected, or other sums")


def _check_rows(broker: Broker, app: str, workload: Workload, _: dict[str, Any]) -> None:
    """The totals of rows of several fields."""
    rows = dict(read_all(broker, changelog_topic(app, "sums", PARTITIONS).name))
    totals = {key: json.loads(row or b"{}")["total"] for key, row in rows.items()}
    if totals != {encode_key(key): total for key, total in workload.sums().items()}:
        raise WrongResultError(app, f"{len(rows)} rows, or other totals")


def _check_output(broker: Broker, app: str, workload: Workload, _: dict[str, Any]) -> None:
    numbers = sorted(int(value or b"-1") for _, value in read_all(broker, f"{app}-out"))
    if numbers != list(range(workload.events)):
        raise WrongResultError(app, f"{len(numbers)} outputs, or other ones")


_CHECKS = {
    "stateless": _check_total,
    "table": _check_table,
    "batches": _check_table,
    "rows": _check_rows,
    "batch_rows": _check_rows,
    "output": _check_output,
}


# --- latency ------------------------------------------------------------------------------------


def _append_paced(broker: Broker, topic: str, per_s: int, count: int) -> list[float]:
    """Append ``count`` records; each counts from the moment it was due, not from its turn."""
    begin = time.monotonic() + 0.1
    at = 0
    while at < count:
        now = time.monotonic()
        stop = min(count, max(at, int((now - begin) * per_s) + 1))
        if stop > at:
            broker.append(
                [
                    record(topic, b"%d" % number, event(number, number), int(time.time() * 1e3))
                    for number in range(at, stop)
                ]
            )
            at = stop
        else:
            time.sleep(0.0005)
    return [begin + number / per_s for number in range(count)]


def _note_arrivals(
    broker: Broker, topic: str, seen: dict[int, float], done: threading.Event
) -> None:
    reader = broker.reader()
    reader.assign({TP(topic, number): 0 for number in range(PARTITIONS)})
    while not done.is_set():
        for batch in reader.poll(0.1, 10_000):
            now = time.monotonic()
            seen.update((int(value or b"-1"), now) for value in batch.values)
    reader.close()


# --- processes ----------------------------------------------------------------------------------


def _wait(condition: Any, worker: subprocess.Popen[bytes]) -> None:  # noqa: ANN401 - () -> bool
    deadline = time.monotonic() + _LIMIT_S
    while not condition():
        if worker.poll() is not None or time.monotonic() > deadline:
            msg = "the worker ended, or is stuck"
            raise WrongResultError(msg)
        time.sleep(0.01)


def _report(path: Path, worker: subprocess.Popen[bytes]) -> dict[str, Any]:
    _wait(path.exists, worker)
    return dict(json.loads(path.read_text()))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak_rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / _MIB
