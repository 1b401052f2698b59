"""Declarative pipelines: the scenarios of ``streamapp bench``, and what an open window takes.

Ours, a plain loop and stock Faust's windowed table, each in a process of its own; see
``streamapp.bench``. Here is added the memory of windows that are all open.
"""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pipeline_stages

import streamapp
from streamapp.bench import report
from streamapp.bench.engines import ours
from streamapp.bench.runs import Plan
from streamapp.bench.runs import measure as measure_all
from streamapp.testing.pipeline_driver import PipelineDriver

_SCENARIOS = ("filter", "tumbling", "sliding", "session", "stats")
_ENGINES = ("ours", "plain", "faust")
#: Windows that are open at once where their memory is measured, and records of one commit.
_OPEN = 100_000
_COMMIT = 5_000


def bytes_per_window() -> dict[str, int]:
    """Return the traced memory of windows of one event each, all open."""
    app = streamapp.App("bench", broker="memory://bench", store="memory://")
    driver = PipelineDriver(ours.declare(app, "tumbling", "events"))
    events = [b'{"id":%d,"user":"user-%06d","amount":1.5,"ts":0}' % (n, n) for n in range(_OPEN)]
    gc.collect()
    tracemalloc.start()
    try:
        for start in range(0, _OPEN, _COMMIT):
            driver.put("events", events[start : start + _COMMIT])
            driver.commit()
        driver.changelog.clear()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    found = len(driver.table("bench-windows"))
    return {"windows": found, "peak": round(peak / found), "kept": round(kept / found)}


def measure(count: int, runs: int) -> dict[str, Any]:
    """Measure all scenarios, and print each as soon as it is known."""
    print(f"\nPipelines, from {count:,} JSON events in memory to rows\n{report.HEAD}", flush=True)
    results: dict[str, Any] = {}
    plan = Plan(_SCENARIOS, _ENGINES, count, runs)
    for found in measure_all(plan, lambda _: None):
        print("\n".join(report.lines(found)), flush=True)
        results[found[0].scenario] = report.as_json(found)
    results["stages"] = pipeline_stages.describe(_SCENARIOS, count)
    memory = results["memory"] = bytes_per_window()
    print(f"\n{memory['windows']:,} open windows: {memory['kept']} bytes each", flush=True)
    return results
