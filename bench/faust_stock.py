"""Stock faust-streaming on the embedded broker: the baseline that our engine is compared with.

A plain ``faust.App`` in a process of its own works off a preloaded topic; it is timed by its own
clock from the first event to the last; ``recovery`` from the assignment to the recovered table. Its
CPU time includes its broker's threads. What it summed up is checked before anything is reported.

    python bench/faust_stock.py --scenario table --events 15000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workload import PARTITIONS, Workload, cpu_s, preload, preload_changelog

from streamapp.transport.connect import open_broker

_CHANGELOG = "stock-sums-changelog"
#: Seconds until a run is given up.
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
    """Runs from ``start`` to ``stop``; reports what came out."""

    def __init__(self, report: Path) -> None:
        self._report = report

    def start(self) -> None:
        self._started = time.perf_counter(), cpu_s()

    def stop(self) -> None:
        self._ran = time.perf_counter() - self._started[0], cpu_s() - self._started[1]

    def report(self, total: int) -> None:
        seconds, cpu = self._ran
        part = self._report.with_suffix(".part")
        part.write_text(json.dumps({"seconds": seconds, "cpu_s": cpu, "total": total}))
        part.rename(self._report)


def _work(scenario: str, events: int, folder: Path) -> None:
    import faust  # noqa: PLC0415 - only the worker's process needs it

    app = faust.App(
        "stock",
        broker=f"sqlite://{folder}/bus",
        store="rocksdb://",
        datadir=folder / "data",
        topic_partitions=PARTITIONS,
        web_enabled=False,
    )
    watch = _Stopwatch(folder / "report.json")
    _SCENARIOS[scenario](app, events, watch)
    faust.Worker(app, loglevel="info").execute_from_commandline()


def _stateless(app: Any, events: int, watch: _Stopwatch) -> None:  # noqa: ANN401 - faust.App
    @app.agent(app.topic("events", key_type=str))
    async def read(stream: Any) -> None:  # noqa: ANN401 - Faust's stream
        seen = total = 0
        async for event in stream:
            total += event["amount"]
            seen += 1
            if seen == 1:
                watch.start()
            elif seen == events:
                watch.stop()
                watch.report(total)


def _table(app: Any, events: int, watch: _Stopwatch) -> None:  # noqa: ANN401 - faust.App
    sums = app.Table("sums", default=int, partitions=PARTITIONS)

    @app.agent(app.topic("events", key_type=str))
    async def add(stream: Any) -> None:  # noqa: ANN401 - Faust's stream
        seen = 0
        async for event in stream:
            sums[event["user"]] += event["amount"]
            seen += 1
            if seen == 1:
                watch.start()
            elif seen == events:
                watch.stop()
                watch.report(sum(sums.values()))


def _output(app: Any, events: int, watch: _Stopwatch) -> None:  # noqa: ANN401 - faust.App
    out = app.topic("out", key_type=str, value_type=int)

    @app.agent(app.topic("events", key_type=str), sink=[out])
    async def forward(stream: Any) -> Any:  # noqa: ANN401 - Faust's stream
        seen = total = 0
        async for event in stream:
            total += event["amount"]
            seen += 1
            if seen == 1:
                watch.start()
            elif seen == events:
                watch.stop()
                watch.report(total)
            yield event["id"]


def _recovery(app: Any, _: int, watch: _Stopwatch) -> None:  # noqa: ANN401 - faust.App
    """Time from the assignment to the end of the recovery, by Faust's own signals."""
    sums = app.Table("sums", default=int, partitions=PARTITIONS)

    @app.agent(app.topic("events", key_type=str))
    async def add(stream: Any) -> None:  # noqa: ANN401 - Faust's stream
        async for event in stream:
            sums[event["user"]] += event["amount"]

    @app.on_partitions_assigned.connect
    async def begin(*_: object, **__: object) -> None:
        watch.start()

    @app.on_rebalance_complete.connect
    async def end(*_: object, **__: object) -> None:
        watch.stop()
        watch.report(sum(sums.values()))


_SCENARIOS = {"stateless": _stateless, "table": _table, "output": _output, "recovery": _recovery}


# --- the measuring process --------------------------------------------------------------------


def measure(scenario: str, events: int) -> Result:
    """Preload, run one worker to its last event, kill it; all in a temporary folder."""
    workload = Workload("events", events if scenario != "recovery" else 0)
    logged = Workload(_CHANGELOG, events)
    expected = workload.total or sum(logged.sums().values())
    with tempfile.TemporaryDirectory(prefix="faust-stock-") as name:
        folder = Path(name)
        broker = open_broker(f"sqlite://{folder}/bus", folder)
        try:
            preload(broker, workload)
            if scenario == "recovery":
                preload_changelog(broker, _CHANGELOG, logged, _key)
        finally:
            broker.close()
        report = _run(scenario, events, folder)
    if report["total"] != expected:
        sys.exit(f"faust, {scenario}: the sum is {report['total']} instead of {expected}")
    seconds, cpu = report["seconds"], report["cpu_s"]
    return Result(
        scenario, events, round(seconds, 3), round(events / seconds), round(cpu / events * 1e6, 1)
    )


def _key(key: str) -> bytes:
    """Return a table's key as stock Faust writes it to the changelog."""
    return json.dumps(key).encode()


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
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        _work(options.scenario, options.events, options.worker)
        return
    for scenario in _SCENARIOS if options.scenario == "all" else [options.scenario]:
        print(json.dumps(asdict(measure(scenario, options.events))))


if __name__ == "__main__":
    main()
