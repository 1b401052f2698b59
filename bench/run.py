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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import guard
import kafka
import latency
import scaling
import stages
import windows

from streamapp.bench.keyed import recovery, runs
from streamapp.bench.keyed.workload import Workload


@dataclass(frozen=True, slots=True)
class Scenario:
    """``mode`` of the programs; events of a run of ours, of stock Faust's; least ratio of rates."""

    name: str
    mode: str
    title: str
    events: int
    stock_events: int
    target: float | None


SCENARIOS = (
    Scenario("stateless", "stateless", "agent without a table", 1_000_000, 10_000, 40),
    Scenario("table", "table", "totals[user] += amount", 1_000_000, 6_000, 60),
    Scenario("output", "forward", "an output record per event", 200_000, 8_000, None),
    Scenario("recovery", "recovery", "table rebuilt from its changelog", 600_000, 8_000, 50),
)
#: Distinct keys of the memory run, and the bound that the worker must stay under.
_ROWS, _RSS_MIB = 1_000_000, 400
_LATENCY_PER_S, _LATENCY_S = 1_000, 15
_WINDOW_EVENTS = 300_000
_QUICK = 5


def compare(scenario: Scenario, times: int) -> dict[str, Any]:
    """Run both so many times in turns; return all runs and the ratio of the medians."""
    found: dict[str, list[dict[str, float]]] = {"faust": [], "ours": []}
    for _ in range(times):
        for engine, each in found.items():
            events = scenario.events if engine == "ours" else scenario.stock_events
            each.append(_run(scenario.mode, engine, Workload(events)))
    ours, stock = found["ours"], found["faust"]
    ratio = _median(ours, "wall_per_s") / _median(stock, "wall_per_s")
    return {"ours": ours, "stock": stock, "ratio": round(ratio, 1), "target": scenario.target}


def _run(mode: str, engine: str, workload: Workload) -> dict[str, float]:
    """Run a program over a bus of its own."""
    with runs.place("sqlite://", {}) as here:
        if mode == "recovery":
            return recovery.of_log(here, engine, workload)
        return runs.run(here, engine, workload, mode)


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
    times = options.runs or (1 if options.quick else 3)
    results: dict[str, Any] = {"machine": machine(), "runs": times, "scenarios": {}}
    print("{cpu}, Python {python}, {system}, load {load}".format(**results["machine"]))
    print(f"Median of {times} (least-most); CPU is that of the whole process, commits included\n")
    chosen = [scenario for scenario in SCENARIOS if scenario.name in options.only]
    if chosen:
        print(_HEAD)
    for each in chosen:
        few = replace(each, events=each.events // shrink)
        if options.quick:
            few = replace(few, stock_events=each.stock_events // 2)
        found = results["scenarios"][each.name] = compare(few, times)
        print(_line(each, found), flush=True)
    _measure_others(options, shrink, times, results)
    return results


def _measure_others(
    options: argparse.Namespace, shrink: int, times: int, results: dict[str, Any]
) -> None:
    if "memory" in options.only:
        rows = _ROWS // shrink
        results["memory"] = found = _run("table", "ours", Workload(rows, rows))
        print(f"\nmemory    {_memory_line(rows, found)}", flush=True)
    if "latency" in options.only:
        results["latency_ms"] = found = _latency_ms(_LATENCY_S / shrink)
        print(
            f"latency   due to readable output at {_LATENCY_PER_S}/s:"
            f" p50 {found['p50']} ms, p99 {found['p99']} ms, max {found['max']} ms",
            flush=True,
        )
    if "windows" in options.only:
        results["windows"] = windows.measure(_WINDOW_EVENTS // shrink, options.runs or 3)
    if "kafka" in options.only:
        results["kafka"] = kafka.measure(shrink, times, options.kafka)
    if "scaling" in options.only:
        results["scaling"] = scaling.measure(shrink, times, is_full=options.full)
    if "stages" in options.only:
        found = results["stages_us"] = stages.profile(200_000 // shrink)
        table = results["scenarios"].get("table")
        whole = _median(table["ours"], "cpu_us") if table else None
        print("\nCPU microseconds per event of the table scenario, each stage alone:")
        print(stages.describe(found, whole))


def _latency_ms(seconds: float) -> dict[str, float]:
    case = latency.Case(Path(__file__).parents[1], is_bare=False, per_s=_LATENCY_PER_S,
                        seconds=seconds)  # fmt: skip
    stamps, _ = latency.run(case, Path(tempfile.gettempdir()))
    whole = latency.steps_of(stamps, _LATENCY_PER_S)["whole"]
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(latency.at(whole, share), 2) for name, share in shares.items()}


_HEAD = (
    f"{'':10}{'ours, events/s':>30}{'CPU us':>8}{'stock, events/s':>26}{'CPU us':>8}"
    f"{'ratio':>8}{'target':>8}"
)


def _line(scenario: Scenario, found: dict[str, Any]) -> str:
    ours, stock, target = found["ours"], found["stock"], found["target"]
    verdict = "" if target is None else "ok" if found["ratio"] >= target else "MISSED"
    return (
        f"{scenario.name:10}{_spread(ours):>30}{_median(ours, 'cpu_us'):8.2f}"
        f"{_spread(stock):>26}{_median(stock, 'cpu_us'):8.0f}"
        f"{found['ratio']:7.1f}x{f'{target:.0f}x' if target else '-':>8} {verdict:7}"
        f"{scenario.title}"
    )


def _memory_line(rows: int, run: dict[str, float]) -> str:
    verdict = "ok" if run["peak_mib"] < _RSS_MIB else "MISSED"
    return (
        f"{rows:,} rows, cache 64 MiB: peak RSS {run['peak_mib']:.0f} MiB"
        f" (below {_RSS_MIB}: {verdict}), {run['wall_per_s']:,.0f} events/s,"
        f" {run['cpu_us']} us CPU"
    )


def _spread(found: list[dict[str, float]]) -> str:
    rates = [run["wall_per_s"] for run in found]
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"


def _median(found: list[dict[str, float]], figure: str) -> float:
    return float(statistics.median(run[figure] for run in found))


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
