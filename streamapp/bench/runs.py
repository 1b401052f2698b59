"""Runs measurements one after the other, each in a process of its own, and checks what came out.

Engines take turns, run by run, so that a busy minute of the machine meets all of them. No rate
leaves here before the result was equal to the reference.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import streamapp
from streamapp.bench.program import ENGINES
from streamapp.bench.scenarios import SCENARIOS, digest
from streamapp.serde.columnar import IS_COMPILED

#: Seconds until a measurement is given up.
_LIMIT_S = 300
#: Engines that take a fraction of the events, so that a run ends within a minute.
_FRACTION = {"faust": 80, "quix": 20, "bytewax": 10, "pathway": 10}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure; ``pythons`` runs an engine by another interpreter than this one."""

    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    engines: tuple[str, ...] = tuple(ENGINES)
    events: int = 400_000
    runs: int = 3
    pythons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """All runs of one engine in one scenario; ``error`` says why there are none."""

    engine: str
    scenario: str
    events: int
    runs: tuple[Mapping[str, float], ...] = ()
    error: str = ""

    def median(self, figure: str) -> float:
        """Return the median over the runs."""
        return float(statistics.median(run[figure] for run in self.runs))

    def range(self, figure: str) -> tuple[float, float]:
        """Return least and most."""
        found = [run[figure] for run in self.runs]
        return min(found), max(found)


def machine() -> dict[str, str]:
    """Return what the figures depend on beside the code."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "?")
    return {
        "cpu": f"{os.cpu_count()} x {model}",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "reader": "compiled" if IS_COMPILED else "not compiled",
    }


def is_installed(engine: str, pythons: Mapping[str, str]) -> bool:
    """Tell whether an engine can be run."""
    module = ENGINES[engine][0]
    # What is loaded may have no spec: Faust takes the place of its own module.
    if engine in pythons or module in sys.modules:
        return True
    return importlib.util.find_spec(module) is not None


def measure(plan: Plan, say: Callable[[str], None]) -> Iterator[list[Measured]]:
    """Measure scenario by scenario: all engines that are installed, ours first.

    Args:
        plan: What to measure.
        say: Told what is about to run.
    """
    chosen = [engine for engine in plan.engines if is_installed(engine, plan.pythons)]
    for scenario in plan.scenarios:
        found: dict[str, Measured] = {}
        for number in range(plan.runs):
            for engine in chosen:
                before = found.get(engine)
                if before is None or not before.error:
                    say(f"{scenario}: {engine}, run {number + 1} of {plan.runs}")
                    found[engine] = _again(plan, engine, scenario, before)
        yield list(found.values())


def _again(plan: Plan, engine: str, scenario: str, before: Measured | None) -> Measured:
    events = max(1_000, plan.events // _FRACTION.get(engine, 1))
    runs = () if before is None else before.runs
    answer = _run(plan.pythons.get(engine, sys.executable), engine, scenario, events)
    error = str(answer.pop("error", ""))
    found = answer.pop("digest", "")
    expected = _expected(scenario, events)
    if not error and found != expected:
        error = f"wrong result: {found}, expected {expected}"
    if error:
        return Measured(engine, scenario, events, (), error)
    figures = {name: float(str(value)) for name, value in answer.items()}
    return Measured(engine, scenario, events, (*runs, figures))


@cache
def _expected(scenario: str, events: int) -> str:
    chosen = SCENARIOS[scenario]
    return digest(chosen.reference(chosen.events(events)))


def _run(python: str, engine: str, scenario: str, events: int) -> dict[str, object]:
    command = [python, "-m", "streamapp.bench.child", engine, scenario, str(events)]
    # Another interpreter has the engine, but not this package.
    root = Path(streamapp.__file__).parents[1]
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter is this one, or the user's choice
            command,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
            env={**os.environ, "PYTHONPATH": str(root), "POLARS_MAX_THREADS": "1"},
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {_LIMIT_S} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["?"])[-1][:200]}
    answer: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer
