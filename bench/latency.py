"""How long an output takes, and where: ``python bench/latency.py``.

A producer, a worker and a reader, each a process of its own, over one bus; all settings are the
defaults. Each record counts from the moment it was due (no coordinated omission) until the reader
has its output. ``--bare`` puts a loop of poll and commit in the worker's place, ``--source``
(several times) compares checkouts in alternating runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from latency_roles import PRODUCED, READ, STEPS, name_of

_HERE = Path(__file__).parent
#: Seconds until a run is given up.
_LIMIT_S = 90.0
#: The first records warm caches up.
_WARM_S = 1.0


@dataclass(frozen=True, slots=True)
class Case:
    """What one run measures."""

    source: Path
    is_bare: bool
    per_s: int
    seconds: float


def run(case: Case, parent: Path) -> tuple[dict[str, array[float]], float]:
    """Return the stamps of all steps in seconds, and the worker's CPU seconds per record."""
    count = round(case.per_s * case.seconds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lat-", dir=parent)))
        plan = {
            "folder": str(folder),
            "per_s": case.per_s,
            "count": count,
            "warm": round(case.per_s * _WARM_S),
        }
        roles = Roles(stack, case.source, folder, plan)
        producer = roles.start("produce", ["latency_roles.py", "produce"])
        _expect(producer, "made")
        faust = ["-m", "faust", "-A", "latency_worker", "worker", "-l", "warn", "--without-web"]
        worker = roles.start("work", ["latency_roles.py", "bare"] if case.is_bare else faust)
        reader = roles.start("read", ["latency_roles.py", "read"])
        for role, word in ((reader, "reads"), (producer, "produced"), (reader, "done")):
            _expect(role, word)
        _tell(worker)
        cpu_s = float(_expect(worker, "cpu").split()[-1])
        return _stamps(folder, count), cpu_s / count


class Roles:
    """Starts the processes of a run, all of which end with it."""

    def __init__(
        self, stack: ExitStack, source: Path, folder: Path, plan: dict[str, object]
    ) -> None:
        self._stack = stack
        self._folder = folder
        paths = os.pathsep.join((str(source), str(_HERE)))
        self._env = {**os.environ, "PYTHONPATH": paths, "LATENCY_PLAN": json.dumps(plan)}

    def start(self, name: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
        """Start one; its log is in the folder."""
        log = self._stack.enter_context((self._folder / f"{name}.log").open("w"))
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=_HERE,
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        self._stack.callback(_end, process)
        return process


def _expect(process: subprocess.Popen[str], word: str) -> str:
    """Read what it says up to this word."""
    for line in process.stdout or ():
        if line.startswith(word):
            return line.strip()
    msg = f"{process.args} ended before it said {word!r}"
    raise SystemExit(msg)


def _tell(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _stamps(folder: Path, count: int) -> dict[str, array[float]]:
    stamps = {}
    for path in folder.glob("*.stamps"):
        stamps[path.stem] = column = array("d")
        column.frombytes(path.read_bytes())
        if len(column) != count:
            raise SystemExit(path)
    return stamps


def steps_of(stamps: dict[str, array[float]], warm: int) -> dict[str, list[float]]:
    """Return the milliseconds of each step that was noted, and of the whole, sorted."""
    known = [step for step in STEPS if step in stamps]
    found = {}
    for before, after in [*pairwise(known), (PRODUCED[0], READ)]:
        pairs = list(zip(stamps[before], stamps[after], strict=True))[warm:]
        missing = sum(1 for pair in pairs if 0.0 in pair)
        if missing and READ in {before, after}:
            msg = f"{missing} records came to no output"
            raise SystemExit(msg)
        name = "whole" if after == READ and before == PRODUCED[0] else name_of(after)
        found[name] = sorted((end - begin) * 1e3 for begin, end in pairs)
    return found


def at(values: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values."""
    return values[min(len(values) - 1, int(len(values) * share))]


def _show(title: str, runs: list[dict[str, list[float]]], cpu_s: Sequence[float]) -> None:
    print(f"\n{title}: CPU of the worker {statistics.median(cpu_s) * 1e6:.0f} us per record")
    print(f"{'ms, median of runs':42}{'p50':>8}{'p90':>8}{'p99':>8}{'p99.9':>8}")
    for step in runs[0]:
        quantiles = [
            statistics.median(at(each[step], share) for each in runs)
            for share in (0.5, 0.9, 0.99, 0.999)
        ]
        print(f"{step:42}" + "".join(f"{value:8.2f}" for value in quantiles), flush=True)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, nargs="+", default=[1_000], help="records a second")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()),
                        help="where the bus is: /dev/shm leaves the disk out")  # fmt: skip
    parser.add_argument("--source", type=Path, action="append", help="a checkout (this one)")
    parser.add_argument("--bare", action="store_true", help="also poll and commit without engine")
    parser.add_argument("--realtime", action="store_true",
                        help="before all other programs, as if the machine were idle")  # fmt: skip
    options = parser.parse_args()
    if options.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    sources = options.source or [_HERE.parent]
    for per_s in options.rate:
        cases = [
            Case(source.resolve(), is_bare, per_s, options.seconds)
            for is_bare in ([True, False] if options.bare else [False])
            for source in (sources[:1] if is_bare else sources)
        ]
        runs: list[list[dict[str, list[float]]]] = [[] for _ in cases]
        cpu_s: list[list[float]] = [[] for _ in cases]
        for _ in range(options.runs):
            for number, case in enumerate(cases):
                stamps, cpu = run(case, options.folder)
                runs[number].append(steps_of(stamps, round(per_s * _WARM_S)))
                cpu_s[number].append(cpu)
                time.sleep(0.2)
        for case, found, cpus in zip(cases, runs, cpu_s, strict=True):
            what = "bare loop" if case.is_bare else f"worker of {case.source.name}"
            _show(f"{per_s}/s, {what}", found, cpus)


if __name__ == "__main__":
    main()
