"""One measurement: ``python -m streamapp.bench.child ENGINE SCENARIO EVENTS``.

In a process of its own, so that none inherits another's heap, threads or warm caches, and peak
memory is its own. Writes one line of JSON.
"""

from __future__ import annotations

import gc
import importlib
import json
import resource
import sys
import time
from pathlib import Path

from streamapp.bench.scenarios import SCENARIOS, digest

_MIB = 1 << 20
#: Linux only; elsewhere no peak is told.
_STATUS = Path("/proc/self/status")


def measure(engine: str, scenario: str, count: int) -> dict[str, object]:
    """Run a program over events in memory.

    ``peak_mib`` is how much the process grew above the events it was given.
    """
    events = SCENARIOS[scenario].events(count)
    module = importlib.import_module(f"streamapp.bench.engines.{engine}")
    try:
        program = module.make(scenario, events)
    except KeyError:
        return {"error": "not expressible"}
    gc.collect()
    # The events are the benchmark's, not the engine's: its collections need not visit them.
    gc.freeze()
    before = _peak_mib(reset=True)
    wall, cpu = time.perf_counter(), _cpu_s()
    program.work()
    wall, cpu = time.perf_counter() - wall, _cpu_s() - cpu
    return {
        "events_per_s": round(count / cpu),
        "wall_per_s": round(count / wall),
        "cpu_us": round(cpu / count * 1e6, 3),
        "peak_mib": round(_peak_mib() - before, 1),
        "digest": digest(program.results()),
    }


def _cpu_s() -> float:
    """Return the CPU seconds of this process and the children that it waited for."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in found)


def _peak_mib(*, reset: bool = False) -> float:
    if not _STATUS.exists():
        return 0.0
    if reset:
        _STATUS.with_name("clear_refs").write_text("5")
    status = _STATUS.read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / _MIB


if __name__ == "__main__":
    # What engines print goes elsewhere.
    answer, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))), file=answer)
