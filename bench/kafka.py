"""A keyed table on one real Kafka, by ours and by others: ``scripts/bench --only kafka``.

The programs are those of ``streamapp.bench.keyed``; they take turns. A broker is started for the
run unless one is named; whatever is made on it is removed.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kafka_clients import (
    BehindError,
    Record,
    Sender,
    consume_all,
    latencies_ms,
    wake,
    watching,
)

from streamapp.bench.end_to_end import WorkerFailedError
from streamapp.bench.keyed import recovery, runs
from streamapp.bench.keyed.plan import PARTITIONS
from streamapp.bench.keyed.workload import Workload, amount_of, event

_ROOT = Path(__file__).resolve().parents[1]
#: An environment of its own: it pins another version of our Kafka client.
_QUIX = "quixstreams==3.28.1"
#: Events of a run and rows of a recovery; slow engines get a fraction, so that a run ends.
_EVENTS = {
    "ours": 1_000_000,
    "batches": 1_000_000,
    "plain": 1_000_000,
    "quix": 100_000,
    "faust": 15_000,
}
_ROWS = {"ours": 400_000, "plain": 400_000, "quix": 60_000, "faust": 10_000}
#: Events a second, and who is asked to keep up with them.
_RATES = {
    1_000: ("ours", "plain", "quix", "faust"),
    5_000: ("ours", "plain", "quix"),
    20_000: ("ours", "plain", "quix"),
}
_TITLES = {
    "ours": "ours, event by event",
    "batches": "ours, batches",
    "plain": "plain loop and dict",
    "quix": "Quix Streams",
    "faust": "stock faust-streaming",
}
#: Least ratios of our CPU rate to those of others.
_TARGETS = {"faust": 60, "quix": 1}
_LATENCY_USERS, _LATENCY_S = 10_000, 10
_SPARE_USER = 99_999_999


def measure(shrink: int, times: int, url: str | None = None) -> dict[str, Any]:
    """Measure everything and print each line as soon as it is known.

    Args:
        shrink: Divides the numbers of events.
        times: Runs of each engine over the table.
        url: A broker of the user's; one is started if there is none.
    """
    with _broker(url) as where, runs.place(where, {"quix": str(_quix())}) as here:
        print("\nKafka: totals[user] += amount, 10,000 users, 4 partitions, one broker", flush=True)
        return {
            "floors": _floors(here, shrink),
            "table": _tables(here, shrink, times),
            "latency_ms": _latencies(here, shrink),
            "recovery": _recoveries(here, shrink),
        }


@contextmanager
def _broker(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    sys.path.insert(0, str(_ROOT / "tests"))
    from support.kafka import Cluster  # noqa: PLC0415 - needs the path

    folder = Path(tempfile.mkdtemp(prefix="bench-kafka-"))
    cluster = Cluster(folder / "nodes")
    try:
        yield f"kafka://{cluster.bootstrap}"
    finally:
        cluster.stop()
        shutil.rmtree(folder)


def _quix() -> Path:
    """Return an interpreter that has Quix Streams; installed once, into a folder git ignores."""
    folder = _ROOT / ".cache" / "bench" / _QUIX.replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        print(f"Installing {_QUIX} into .cache/bench (once) ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, _QUIX, "msgspec"], check=True)
        (folder / "installed").touch()
    return python


# --- floors -------------------------------------------------------------------------------------


def _floors(here: runs.Place, shrink: int) -> dict[str, Any]:
    workload = Workload(_EVENTS["plain"] // shrink)
    with runs.application(here, "plain", workload.events) as plan:
        runs.fill(here.broker, plan, workload)
        bare = consume_all(plan.servers, plan.topic, plan.partitions, workload.events)
    print(
        f"floor: a bare consume loop reads {bare['wall_per_s']:,} records/s,"
        f" {bare['cpu_us']:.2f} us of CPU each",
        flush=True,
    )
    return bare


# --- table --------------------------------------------------------------------------------------


def _tables(here: runs.Place, shrink: int, times: int) -> dict[str, Any]:
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for _ in range(times):
        for engine, events in _EVENTS.items():
            found[engine].append(runs.run(here, engine, Workload(events // shrink)))
    print(
        f"{'':24}{'events/s':>10}{'of CPU':>10} {'(least-most)':>20}{'CPU us':>9}{'MiB':>6}"
        f"{'ours is':>9}"
    )
    for engine, each in found.items():
        print(_line(engine, each, found["ours"]), flush=True)
    return dict(found)


def _line(engine: str, each: list[dict[str, float]], ours: list[dict[str, float]]) -> str:
    rates = [run["events_per_s"] for run in each]
    spread = f"({min(rates):,.0f}-{max(rates):,.0f})"
    ratio = _median(ours, "events_per_s") / _median(each, "events_per_s")
    target = _TARGETS.get(engine)
    verdict = "" if target is None else f"  {'ok' if ratio > target else 'MISSED'} (> {target}x)"
    return (
        f"{_TITLES[engine]:24}{_median(each, 'wall_per_s'):10,.0f}"
        f"{_median(each, 'events_per_s'):10,.0f} {spread:>20}{_median(each, 'cpu_us'):9.2f}"
        f"{_median(each, 'peak_mib'):6.0f}{ratio:8.1f}x{verdict}"
    )


def _median(each: list[dict[str, float]], figure: str) -> float:
    return float(statistics.median(run[figure] for run in each))


# --- latency ------------------------------------------------------------------------------------


def _latencies(here: runs.Place, shrink: int) -> dict[str, Any]:
    seconds = max(_LATENCY_S // shrink, 3)
    print("due to readable output, ms: p50, p99, max; floor: produced to consumed, no program")
    found: dict[str, Any] = {}
    for per_s, engines in _RATES.items():
        workload = Workload(per_s * seconds, _LATENCY_USERS)
        found[str(per_s)] = each = {"floor": _floor_ms(here, workload, per_s)}
        for engine in engines:
            each[engine] = _latency(here, engine, workload, per_s)
        for name, figures in each.items():
            print(f"  {per_s:>6,}/s {_TITLES.get(name, name):24}{_triple(figures)}", flush=True)
    return found


def _triple(figures: dict[str, float] | str) -> str:
    if isinstance(figures, str):
        return figures
    return "{p50:8.1f} {p99:8.1f} {max:8.1f}".format(**figures)


def _records(workload: Workload) -> list[Record]:
    pairs = enumerate(workload.records())
    return [Record.of(number, key, value, PARTITIONS) for number, (key, value) in pairs]


def _floor_ms(here: runs.Place, workload: Workload, per_s: int) -> dict[str, float]:
    with runs.application(here, "ours", 0) as plan:
        runs.fill(here.broker, plan, Workload(0))
        where = plan.servers, plan.topic, plan.partitions
        with watching(*where) as watcher:
            sender = Sender(plan.servers, plan.topic)
            wake(sender, watcher, _spare())
            return latencies_ms(sender, watcher, _records(workload), per_s)


def _latency(
    here: runs.Place, engine: str, workload: Workload, per_s: int
) -> dict[str, float] | str:
    """Return the latencies of an engine, or what it did not manage; its outputs are checked."""
    with runs.application(here, engine, 0, mode="output") as plan:
        runs.fill(here.broker, plan, Workload(0))
        records = _records(workload)
        with runs.worker(here, plan), watching(plan.servers, plan.out, plan.partitions) as watcher:
            sender = Sender(plan.servers, plan.topic)
            wake(sender, watcher, _spare())
            try:
                found = latencies_ms(sender, watcher, records, per_s)
            except BehindError as exc:
                return f"behind: {exc}"
            _check_totals(watcher.seen(), workload)
    return found


def _check_totals(seen: dict[int, tuple[float, int]], workload: Workload) -> None:
    totals: dict[int, int] = defaultdict(int)
    for number, user in enumerate(workload.numbers()):
        totals[user] += amount_of(number)
        if seen[number][1] != totals[user]:
            msg = f"wrong output: {seen[number][1]} of event {number}, expected {totals[user]}"
            raise WorkerFailedError(msg)


def _spare() -> Record:
    value = event(0, _SPARE_USER).replace(b":0,", b":-1,", 1)
    return Record.of(-1, b"user-%08d" % _SPARE_USER, value, PARTITIONS)


# --- recovery -----------------------------------------------------------------------------------


def _recoveries(here: runs.Place, shrink: int) -> dict[str, Any]:
    print("a table rebuilt from its changelog, one record a row: records/s, us of CPU")
    found: dict[str, Any] = {}
    for engine, rows in _ROWS.items():
        found[engine] = each = recovery.of_own(
            here, engine, Workload(rows // shrink, rows // shrink)
        )
        rate, cpu = each["wall_per_s"], each["cpu_us"]
        print(f"  {_TITLES[engine]:24}{rate:10,.0f}{cpu:8.2f}  of {rows // shrink:,}", flush=True)
    return found
