"""Ours against stock faust-streaming, on the same broker, machine and minutes: ``scripts/bench``.

Runs of both alternate, so that a busy minute of the machine meets both. README.md says how to read
what this prints.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faust_stock
import guard
import kafka
import scaling
import stages
import windows
from worker import Bench, Run
from workload import Workload, preload

from streamapp.transport.connect import open_broker


@dataclass(frozen=True, slots=True)
class Scenario:
    """Events of a run: ours, stock Faust's; ``target`` is the least ratio of the two rates."""

    name: str
    title: str
    events: int
    stock_events: int
    target: float | None


SCENARIOS = (
    Scenario("stateless", "agent without a table", 1_000_000, 10_000, 40),
    Scenario("table", "totals[user] += amount", 1_000_000, 6_000, 60),
    Scenario("output", "an output record per event", 200_000, 8_000, None),
    Scenario("recovery", "table rebuilt from its changelog", 600_000, 8_000, 50),
)
#: Distinct keys of the memory run, and the bound that the worker must stay under.
_ROWS, _RSS_MIB = 1_000_000, 400
_LATENCY_PER_S = 1_000
_WINDOW_EVENTS = 300_000
_QUICK = 5


def compare(bench: Bench, scenario: Scenario, runs: int) -> dict[str, Any]:
    """Run both ``runs`` times in turns; return all runs and the ratio of the medians."""
    ours, stock = [], []
    idle, source = Workload("idle", 0), Workload(f"events-{scenario.events}", scenario.events)
    for number in range(runs):
        stock.append(asdict(faust_stock.measure(scenario.name, scenario.stock_events)))
        app = f"{scenario.name}-{number}"
        run = (
            bench.recover(app, idle, source)
            if scenario.name == "recovery"
            else bench.run(scenario.name, app, source)
        )
        ours.append(asdict(run))
    ratio = _median(ours, "events_per_s") / _median(stock, "events_per_s")
    return {"ours": ours, "stock": stock, "ratio": round(ratio, 1), "target": scenario.target}


def machine() -> dict[str, Any]:
    """Return what the figures depend on beside the code."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "?")
    return {
        "cpu": f"{os.cpu_count()} x {model}",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 1),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run what was asked for and print each line as soon as it is known."""
    shrink = _QUICK if options.quick else 1
    runs = options.runs or (1 if options.quick else 3)
    results: dict[str, Any] = {"machine": machine(), "runs": runs, "scenarios": {}}
    print("{cpu}, Python {python}, {system}, load {load}".format(**results["machine"]))
    print(f"Median of {runs} (least-most); CPU is that of the whole process, commits included\n")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        broker = open_broker(f"sqlite://{folder}/bus", folder)
        try:
            bench = Bench(folder, broker)
            preload(broker, Workload("idle", 0))
            chosen = [s for s in SCENARIOS if s.name in options.only]
            for size in {s.events // shrink for s in chosen if s.name != "recovery"}:
                preload(broker, Workload(f"events-{size}", size))
            if chosen:
                print(_HEAD)
            for each in chosen:
                few = (
                    Scenario(
                        each.name,
                        each.title,
                        each.events // shrink,
                        each.stock_events // 2,
                        each.target,
                    )
                    if options.quick
                    else each
                )
                found = results["scenarios"][each.name] = compare(bench, few, runs)
                print(_line(each, found), flush=True)
            _measure_others(bench, options, shrink, results)
        finally:
            broker.close()
    return results


def _measure_others(
    bench: Bench, options: argparse.Namespace, shrink: int, results: dict[str, Any]
) -> None:
    if "memory" in options.only:
        rows = Workload("rows", _ROWS // shrink, None)
        preload(bench.broker, rows)
        run = bench.run("table", "memory", rows)
        results["memory"] = asdict(run)
        print(f"\nmemory    {_memory_line(run)}", flush=True)
    if "latency" in options.only:
        found = bench.latencies_ms("latency", _LATENCY_PER_S, 15 / shrink)
        results["latency_ms"] = found
        print(
            f"latency   append to visible output at {_LATENCY_PER_S}/s:"
            f" p50 {found['p50']} ms, p99 {found['p99']} ms, max {found['max']} ms",
            flush=True,
        )
    if "windows" in options.only:
        results["windows"] = windows.measure(_WINDOW_EVENTS // shrink, options.runs or 3)
    if "kafka" in options.only:
        times = options.runs or (1 if options.quick else 3)
        results["kafka"] = kafka.measure(shrink, times, options.kafka)
    if "scaling" in options.only:
        times = options.runs or (1 if options.quick else 3)
        results["scaling"] = scaling.measure(shrink, times, is_full=options.full)
    if "stages" in options.only:
        found = results["stages_us"] = stages.profile(200_000 // shrink)
        table = results["scenarios"].get("table")
        whole = _median(table["ours"], "cpu_us_per_event") if table else None
        print("\nCPU microseconds per event of the table scenario, each stage alone:")
        print(stages.describe(found, whole))


_HEAD = (
    f"{'':10}{'ours, events/s':>30}{'CPU us':>8}{'stock, events/s':>26}{'CPU us':>8}"
    f"{'ratio':>8}{'target':>8}"
)


def _line(scenario: Scenario, found: dict[str, Any]) -> str:
    ours, stock, target = found["ours"], found["stock"], found["target"]
    verdict = "" if target is None else "ok" if found["ratio"] >= target else "MISSED"
    return (
        f"{scenario.name:10}{_spread(ours):>30}{_median(ours, 'cpu_us_per_event'):8.2f}"
        f"{_spread(stock):>26}{_median(stock, 'cpu_us_per_event'):8.0f}"
        f"{found['ratio']:7.1f}x{f'{target:.0f}x' if target else '-':>8} {verdict:7}"
        f"{scenario.title}"
    )


def _memory_line(run: Run) -> str:
    verdict = "ok" if run.peak_rss_mib < _RSS_MIB else "MISSED"
    return (
        f"{run.events:,} rows, cache 64 MiB: peak RSS {run.peak_rss_mib:.0f} MiB"
        f" (below {_RSS_MIB}: {verdict}), {run.events_per_s:,.0f} events/s,"
        f" {run.cpu_us_per_event} us CPU"
    )


def _spread(runs: list[dict[str, Any]]) -> str:
    rates = [run["events_per_s"] for run in runs]
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"


def _median(runs: list[dict[str, Any]], field: str) -> float:
    return float(statistics.median(run[field] for run in runs))


def main() -> None:
    """Run what the command line asks for."""
    parts = [*(s.name for s in SCENARIOS), "memory", "latency", "windows", "stages"]
    # These take minutes, and Java or a venv of their own: only when they are asked for.
    more = ["kafka", "scaling"]
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the events, one run")
    parser.add_argument("--runs", type=int, help="runs of each scenario (3; 1 with --quick)")
    parser.add_argument("--only", nargs="+", choices=[*parts, *more], default=parts,
                        metavar="PART", help=f"of: {' '.join([*parts, *more])}")  # fmt: skip
    parser.add_argument("--kafka", metavar="URL", help="kafka:// of yours instead of a new one")
    parser.add_argument("--full", action="store_true", help="scaling: also ten million users")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--check", action="store_true", help="only compare ratios with those kept")
    parser.add_argument("--keep", action="store_true", help="with --check: keep the ratios")
    options = parser.parse_args()
    if options.check:
        guard.check(is_kept=options.keep)
        return
    results = measure(options)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
