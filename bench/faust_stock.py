"""Stock faust-streaming on the embedded broker: the baseline that our engine is compared with.

A plain ``faust.App`` in a process of its own works off a preloaded topic; it is timed by its own
clock from the first event to the last; ``recovery`` from the assignment to the recovered table. Its
CPU time includes its broker's threads. One JSON line for each run:
``{scenario, events, seconds, events_per_s, cpu_us_per_event}``.

    python bench/faust_stock.py --scenario table --events 15000 --json
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from streamapp.core.batch import TP, OutRecord
from streamapp.transport.broker import TopicSpec
from streamapp.transport.connect import open_broker
from streamapp.transport.partitioner import partition_for_key

_PARTITIONS = 4
_KEYS = 10_000
_TOPIC = "bench"
_CHANGELOG = "stock-sums-changelog"
#: Records written at once; the first record's epoch ms; seconds until a run is given up.
_PRELOAD = 5_000
_START_MS = 1_700_000_000_000
_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Result:
    """One run; CPU time is the worker's own, user and system, in the same interval."""

    scenario: str
    events: int
    seconds: float
    events_per_s: float
    cpu_us_per_event: float


# --- the worker's process ---------------------------------------------------------------------


class _Stopwatch:
    """Runs from ``start`` to ``stop``, which reports."""

    def __init__(self, report: Path) -> None:
        self._report = report

    def start(self) -> None:
        self._started = time.perf_counter(), _cpu_s()

    def stop(self) -> None:
        wall, cpu = time.perf_counter() - self._started[0], _cpu_s() - self._started[1]
        part = self._report.with_suffix(".part")
        part.write_text(json.dumps({"seconds": wall, "cpu_s": cpu}))
        part.rename(self._report)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _work(scenario: str, events: int, folder: Path) -> None:
    import faust  # noqa: PLC0415 - only the worker's process needs it

    app = faust.App(
        "stock",
        broker=f"sqlite://{folder}/bus",
        store="rocksdb://",
        datadir=folder / "data",
        topic_partitions=_PARTITIONS,
        web_enabled=False,
    )
    watch = _Stopwatch(folder / "report.json")
    _SCENARIOS[scenario](app, events, watch)
    faust.Worker(app, loglevel="info").execute_from_commandline()


def _stateless(app: Any, events: int, watch: _Stopwatch) -> None:  # noqa: ANN401 - faust.App
    @app.agent(app.topic(_TOPIC, key_type=str))
    async def read(stream: Any) -> None:  # noqa: ANN401 - Faust's stream
        seen = 0
        async for event in stream:
            seen += event["amount"] > 0
            if seen == 1:
                watch.start()
            elif seen == events:
                watch.stop()


def _table(app: Any, events: int, watch: _Stopwatch) -> None:  # noqa: ANN401 - faust.App
    sums = app.Table("sums", default=int, partitions=_PARTITIONS)

    @app.agent(app.topic(_TOPIC, key_type=str))
    async def add(stream: Any) -> None:  # noqa: ANN401 - Faust's stream
        seen = 0
        async for event in stream:
            sums[event["user"]] += event["amount"]
            seen += 1
            if seen == 1:
                watch.start()
            elif seen == events:
                watch.stop()


def _recovery(app: Any, events: int, watch: _Stopwatch) -> None:  # noqa: ANN401 - faust.App
    """Time from the assignment to the end of the recovery, by Faust's own signals."""
    _table(app, events, watch)

    @app.on_partitions_assigned.connect
    async def begin(*_: object, **__: object) -> None:
        watch.start()

    @app.on_rebalance_complete.connect
    async def end(*_: object, **__: object) -> None:
        watch.stop()


_SCENARIOS = {"stateless": _stateless, "table": _table, "recovery": _recovery}


# --- the measuring process --------------------------------------------------------------------


def measure(scenario: str, events: int) -> Result:
    """Preload, run one worker to its last event, kill it; all in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="faust-stock-") as name:
        folder = Path(name)
        _preload(folder, scenario, events)
        report = _run(scenario, events, folder)
    seconds, cpu_s = report["seconds"], report["cpu_s"]
    return Result(
        scenario, events, round(seconds, 3), round(events / seconds), round(cpu_s / events * 1e6, 1)
    )


def _preload(folder: Path, scenario: str, events: int) -> None:
    """Write the source, or for ``recovery`` the changelog of a table that consumed it."""
    random_numbers = random.Random(1)
    topic = _CHANGELOG if scenario == "recovery" else _TOPIC
    broker = open_broker(f"sqlite://{folder}/bus", folder)
    try:
        broker.create_topic(TopicSpec(_TOPIC, _PARTITIONS))
        broker.create_topic(TopicSpec(_CHANGELOG, _PARTITIONS, frozenset({"compact"}), None, None))
        for first in range(0, events, _PRELOAD):
            numbers = range(first, min(first + _PRELOAD, events))
            broker.append([_record(topic, i, random_numbers.randrange(_KEYS)) for i in numbers])
    finally:
        broker.close()


def _record(topic: str, number: int, user: int) -> OutRecord:
    key = b'"user-%05d"' % user
    value = str(number).encode()
    if topic == _TOPIC:
        value = json.dumps(
            {
                "id": number,
                "user": f"user-{user:05d}",
                "amount": 1 + number % 100,
                "page": "/products/keyboards",
                "agent": "Mozilla/5.0",
            }
        ).encode()
    return OutRecord(TP(topic, partition_for_key(key, _PARTITIONS)), key, value, _START_MS + number)


def _run(scenario: str, events: int, folder: Path) -> dict[str, float]:
    (folder / "data").mkdir()
    report = folder / "report.json"
    command = [sys.executable, __file__, "--scenario", scenario, "--events", str(events)]
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen([*command, "--worker", str(folder)], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + _LIMIT_S
            while not report.exists():
                if worker.poll() is not None or time.monotonic() > deadline:
                    sys.exit((folder / "worker.log").read_text()[-4_000:])
                time.sleep(0.05)
        finally:
            worker.kill()
            worker.wait()
    return dict(json.loads(report.read_text()))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", choices=[*_SCENARIOS, "all"], default="all")
    parser.add_argument("--events", type=int, default=15_000)
    parser.add_argument("--json", action="store_true", help="one JSON line per scenario")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        _work(options.scenario, options.events, options.worker)
        return
    for scenario in _SCENARIOS if options.scenario == "all" else [options.scenario]:
        result = measure(scenario, options.events)
        print(json.dumps(asdict(result)) if options.json else result)


if __name__ == "__main__":
    main()
