"""Declarative pipelines: events of JSON in memory to results, on one core, beside a plain loop.

What is measured is a pipeline in ``PipelineDriver``, which does all that a worker does but the
broker and the store on disk: decoding with its checks, event times, watermarks, operators, rows of
windows, the table of results, and at a commit after every 250 ms the state as bytes and its
changelog records. The plain loop decodes the same events with the same library and adds them up in
a dict; it knows no lateness, closes no window and would lose all of it in a crash. Results of both
are compared with a naive reference before a rate is reported. Stock Faust's windowed table, where
it has such windows, is a whole worker on the embedded broker (``faust_stock``), with sums that were
checked. Rates are those of CPU time: the machine may be busy.
"""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import process_time
from typing import Any

import faust_stock
import windows_plain
from windows_plain import END, GAP_MS, Order, Results, rounded

import streamapp
from streamapp.testing.pipeline_driver import PipelineDriver

KEYS = 10_000
#: How much older than the newest event one may be; none is older.
BOUND_MS = 1_000
START_MS = 1_700_000_000_000
_FETCH = 5_000
#: What a worker does by default (``commit_interval``).
_COMMIT_S = 0.25
_SEED = 1
#: Windows that are open at once where their memory is measured.
_OPEN = 100_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """``per_s`` is how many events a second of event time has, ``target`` is in events/s."""

    name: str
    title: str
    target: int | None
    per_s: float
    declare: Callable[[Any], None]
    plain: Callable[[Sequence[bytes]], Results]
    reference: Callable[[Sequence[bytes]], Results]
    stock_events: int = 0


def _windows(window: Any, **more: Any) -> Callable[[Any], None]:  # noqa: ANN401 - any window
    totals = {"n": streamapp.count(), "total": streamapp.sum("amount")}

    def declare(orders: Any) -> None:  # noqa: ANN401 - a Flow
        orders.key_by("user").window(window).aggregate(**totals, **more).to(table="results")

    return declare


def _filter(orders: Any) -> None:  # noqa: ANN401 - a Flow
    (
        orders.filter(lambda order: order.amount > windows_plain.THRESHOLD)
        .map(lambda order: {"id": order.id, "amount": order.amount * 2})
        .key_by("id")
        .to(table="results")
    )


_STATS = {
    "least": streamapp.min("amount"),
    "most": streamapp.max("amount"),
    "sd": streamapp.stddev("amount"),
}
_TUMBLING = _windows(streamapp.tumbling("5s"))
_SESSION = _windows(streamapp.session("5m"))
_STOCK = 3_000
_5S = (_TUMBLING, windows_plain.tumbling, windows_plain.tumbling_reference)
_VISITS = (_SESSION, windows_plain.session, windows_plain.session_reference)
_PASSED = (_filter, windows_plain.passed, windows_plain.passed_reference)
_HOPS = (
    _windows(streamapp.hopping("30s", "5s")),
    windows_plain.hopping,
    windows_plain.hopping_reference,
)
_FIVE = (
    _windows(streamapp.tumbling("1m"), **_STATS),
    windows_plain.stats,
    windows_plain.stats_reference,
)
SCENARIOS = (
    Scenario("filter", "filter + map, 1 of 100 passes", 1_000_000, 20_000, *_PASSED),
    Scenario("tumbling", "tumbling 5 s, 10 events a row", 500_000, 20_000, *_5S, _STOCK),
    Scenario("tumbling-few", "tumbling 5 s, 2.5 events a row", None, 5_000, *_5S),
    Scenario("hopping", "hopping 30 s / 5 s", 200_000, 20_000, *_HOPS, _STOCK // 2),
    Scenario("session", "session 5 min, all stay open", 300_000, 20_000, *_VISITS),
    Scenario("session-few", "session 5 min, 10 events each", None, 77, *_VISITS),
    Scenario("stats", "five statistics, 1 min", 400_000, 20_000, *_FIVE),
)


def events(count: int, per_s: float, keys: int = KEYS) -> list[bytes]:
    """Return events of about 100 bytes; the last one, of no user, closes all windows.

    Amounts are multiples of a quarter, so that sums are exact in any order.
    """
    draw = random.Random(_SEED).random
    made = [
        b'{"id":%d,"user":"user-%05d","amount":%.2f,"ts":%d,"page":"/products/keyboards"}'
        % (
            number,
            int(draw() * keys),
            int(draw() * 400) / 4,
            START_MS + int(number * 1_000 / per_s) - int(draw() * BOUND_MS),
        )
        for number in range(count - 1)
    ]
    far = START_MS + int(count * 1_000 / per_s) + 2 * GAP_MS
    last = b'{"id":%d,"user":"%b","amount":0.0,"ts":%d}' % (count, END.encode(), far)
    return [*made, last]


def driver_of(scenario: Scenario) -> PipelineDriver:
    """Return the scenario's pipeline, which reads the topic ``orders``."""
    app = streamapp.App("bench", broker="memory://bench", store="memory://")
    source = app.topic("orders", value_type=Order, event_time="ts", out_of_order="1s")
    pipeline = app.pipeline("bench")
    scenario.declare(pipeline.source(source))
    return PipelineDriver(pipeline)


def run(scenario: Scenario, records: Sequence[bytes]) -> tuple[float, Results]:
    """Return the CPU seconds of the pipeline over these records, and its results."""
    driver = driver_of(scenario)
    gc.collect()
    gc.freeze()  # as a worker does when it has started
    begun = committed = process_time()
    for start in range(0, len(records), _FETCH):
        driver.put("orders", records[start : start + _FETCH])
        if process_time() - committed >= _COMMIT_S:
            driver.commit()
            committed = process_time()
    driver.commit()
    seconds = process_time() - begun
    gc.unfreeze()
    return seconds, _results(driver)


def bytes_per_window() -> dict[str, int]:
    """Return the traced memory of windows that are all open, with 10,000 records a commit."""
    scenario = next(one for one in SCENARIOS if one.name == "tumbling")
    records = events(_OPEN + 1, 1_000_000_000, keys=_OPEN * 10)[:-1]
    driver = driver_of(scenario)
    gc.collect()
    tracemalloc.start()
    try:
        for start in range(0, _OPEN, _FETCH):
            driver.put("orders", records[start : start + _FETCH])
            driver.commit()
        driver.changelog.clear()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    found = len(driver.table("bench-windows"))
    return {"windows": found, "peak": round(peak / found), "kept": round(kept / found)}


def compare(scenario: Scenario, count: int, runs: int) -> dict[str, Any]:
    """Run the pipeline and the plain loop in turns; return the median rates of both.

    Raises:
        SystemExit: A result is wrong.
    """
    records = events(count, scenario.per_s)
    run(scenario, records[: 2 * _FETCH])  # brings what is imported late
    expected = rounded(scenario.reference(records))
    ours, plain = [], []
    for _ in range(runs):
        begun = process_time()
        found = scenario.plain(records)
        plain.append(count / (process_time() - begun))
        _check(scenario.name, "plain loop", found, expected)
        seconds, found = run(scenario, records)
        ours.append(count / seconds)
        _check(scenario.name, "pipeline", found, expected)
    return {
        "title": scenario.title,
        "target": scenario.target,
        "rows": len(expected),
        "ours": round(median(ours)),
        "plain": round(median(plain)),
        "stock": _stock(scenario, runs) if scenario.stock_events else None,
    }


def _stock(scenario: Scenario, runs: int) -> int:
    """Return the median rate of stock Faust's windowed table: events per CPU second."""
    made = [faust_stock.measure(scenario.name, scenario.stock_events) for _ in range(runs)]
    return round(1e6 / median(one.cpu_us_per_event for one in made))


def measure(count: int, runs: int) -> dict[str, Any]:
    """Measure all scenarios, and print each line as soon as it is known."""
    print("\nPipelines: JSON in memory to rows, commits every 250 ms; CPU time of one core")
    print(f"{'':14}{'ours, events/s':>15}{'plain loop':>12}{'stock Faust':>12}{'target':>11}")
    found: dict[str, Any] = {}
    for scenario in SCENARIOS:
        one = found[scenario.name] = compare(scenario, count, runs)
        print(_line(scenario.name, one), flush=True)
    memory = found["memory"] = bytes_per_window()
    print(
        f"{memory['windows']:,} windows of one event each, all open, state committed: "
        f"{memory['kept']} bytes a window, {memory['peak']} at the peak"
    )
    return found


def _line(name: str, one: dict[str, Any]) -> str:
    target = one["target"]
    verdict = "" if target is None else "ok" if one["ours"] >= target else "MISSED"
    wanted = "-" if target is None else f"{target:,}"
    stock = "-" if one["stock"] is None else f"{one['stock']:,}"
    return (
        f"{name:14}{one['ours']:>15,}{one['plain']:>12,}{stock:>12}{wanted:>11} {verdict:7}"
        f"{one['title']}, {one['rows']:,} rows"
    )


def _results(driver: PipelineDriver) -> Results:
    found: Results = {}
    for key, row in driver.table("results").items():
        if isinstance(row, dict):
            found[key,] = (row["amount"],)
        elif END not in key:
            values = {name: getattr(row, name) for name in row.__struct_fields__}
            found[key] = tuple(values[name] for name in windows_plain.NAMES if name in values)
    return found


def _check(scenario: str, who: str, found: Results, expected: Results) -> None:
    if rounded(found) != expected:
        msg = f"{scenario}: the {who} has {len(found)} rows that are not the {len(expected)} right"
        raise SystemExit(msg)
