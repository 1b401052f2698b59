"""Where the CPU time of a pipeline goes: the scenarios of ``streamapp bench``, stage by stage.

Clocks stand around the functions that work on whole batches, some ten calls for 5,000 events, so
that what they measure is hardly changed by them. A stage's time is without that of the stages
inside of it; what is in none is the driver's, which takes the place of a broker and of a store.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar
from unittest.mock import patch

from streamapp.bench.engines import ours
from streamapp.bench.scenarios import SCENARIOS
from streamapp.core.event_time import EventTime
from streamapp.engine.stage_sinks import TableSink, TopicSink
from streamapp.engine.stage_work import StageWork
from streamapp.operators.aligned import AlignedWindows
from streamapp.operators.fused import Fused
from streamapp.operators.session import SessionWindows
from streamapp.pipelines.clock import TaskClock
from streamapp.serde.columnar import BatchDecoder
from streamapp.state.memory import MemoryStore
from streamapp.testing import stage_driver

P = ParamSpec("P")
T = TypeVar("T")

_REST = "driver"
_WINDOWS = (AlignedWindows, SessionWindows)
#: What a function's time is called; the first line of the table is the first of these.
_STAGES: Sequence[tuple[str, Any, str]] = (
    ("decode", BatchDecoder, "__call__"),
    ("event times", EventTime, "times_of"),
    ("watermarks", TaskClock, "marks"),
    ("filter, map, key", Fused, "run"),
    *(("windows: add", kind, "process") for kind in _WINDOWS),
    *(("windows: when due", kind, "dues") for kind in _WINDOWS),
    *(("windows: close", kind, "advance") for kind in _WINDOWS),
    *(("windows: state to bytes", kind, "drain") for kind in _WINDOWS),
    ("results to topic", TopicSink, "write"),
    ("results to table", TableSink, "write"),
    ("bring to a commit", StageWork, "tick"),
    ("changelog records", stage_driver, "change_records"),
    ("store", MemoryStore, "apply"),
)


class _Clocks:
    """CPU time of each stage in ns, without that of stages inside of it."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()
        self._inside = [0]

    def around(self, stage: str, function: Callable[P, T]) -> Callable[P, T]:
        """Return the function with a clock around it."""

        @functools.wraps(function)
        def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            begun = time.process_time_ns()
            self._inside.append(0)
            try:
                return function(*args, **kwargs)
            finally:
                took = time.process_time_ns() - begun
                self.times[stage] += took - self._inside.pop()
                self._inside[-1] += took

        return timed

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have clocks around all stages."""
        with ExitStack() as stack:
            for stage, owner, name in _STAGES:
                timed = self.around(stage, getattr(owner, name))
                stack.enter_context(patch.object(owner, name, timed))
            yield


def measure(scenario: str, count: int, runs: int) -> dict[str, float]:
    """Return ns of CPU for each event, by stage, of the fastest of several runs."""
    events = SCENARIOS[scenario].events(count)
    found: list[Counter[str]] = []
    for _ in range(runs):
        program = ours.make(scenario, events)
        clocks = _Clocks()
        with clocks.running():
            clocks.around(_REST, program.work)()
        found.append(clocks.times)
    best = min(found, key=lambda times: times.total())
    return {stage: round(took / count, 1) for stage, took in best.items()}


def describe(scenarios: Sequence[str], count: int, runs: int = 5) -> dict[str, dict[str, float]]:
    """Print the table, and return it by scenario."""
    found = {name: measure(name, count, runs) for name in scenarios}
    print(f"\nns of CPU for each event, by stage\n{'':24}" + "".join(f"{n:>10}" for n in scenarios))
    for stage in dict.fromkeys([*(stage for stage, _, _ in _STAGES), _REST]):
        cells = [found[name].get(stage, 0.0) for name in scenarios]
        if any(cells):
            print(f"{stage:24}" + "".join(f"{cell:10.0f}" for cell in cells))
    totals = [sum(found[name].values()) for name in scenarios]
    print(f"{'all':24}" + "".join(f"{total:10.0f}" for total in totals), flush=True)
    return found


if __name__ == "__main__":
    describe(("filter", "tumbling", "sliding", "session", "stats"), 200_000)
