"""What ``streamapp bench`` prints and writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from streamapp.bench.program import ENGINES
from streamapp.bench.runs import Measured
from streamapp.bench.scenarios import SCENARIOS

HEAD = (
    f"{'':9}{'events/s':>11} {'(least-most)':>23}{'CPU us':>9}{'MiB':>6}"
    f"{'of target':>11}{'ours is':>9}"
)


#: What is measured over a broker only: what it is, its aim in words, and the least ratio of our
#: rate to that of others.
_OVER_BROKERS: dict[str, tuple[str, str, dict[str, float]]] = {
    "keyed": (
        "a table of sums by user, whole workers",
        "150 times faust and 10 times quix",
        {"faust": 150, "quix": 10},
    ),
    "stateless": (
        "a sum of all amounts, whole workers beside a bare loop",
        "at most 1.5 times the CPU of plain",
        {"plain": 1 / 1.5},
    ),
}
#: Our two styles: event by event, and batch agents.
_STYLES = ("ours", "batches")


def over_broker_lines(scenario: str, url: str, found: Iterable[Measured]) -> Iterable[str]:
    """Return a line for each engine over one broker, ours first, with what each style reaches."""
    all_of = {one.engine: one for one in found}
    title, aim, least = _OVER_BROKERS[scenario]
    ours = [all_of[style] for style in _STYLES if style in all_of and all_of[style].runs]
    yield f"{scenario} over {url}: {title}; target {aim}"
    for one in all_of.values():
        line = f"  {one.engine:8}{_figures(one, None, None)}"
        others = ours if one.runs and one.engine not in _STYLES else []
        yield "  ".join([line, *(_ratio(style, one, least) for style in others)]).rstrip()


def _ratio(ours: Measured, other: Measured, least: Mapping[str, float]) -> str:
    ratio = ours.median("events_per_s") / other.median("events_per_s")
    words = f"{ours.engine} {'is' if ours.engine == 'ours' else 'are'} {ratio:.2f}x"
    aim = least.get(other.engine)
    return words if aim is None else f"{words} {'ok' if ratio >= aim else 'MISSED'}"


def over_broker_json(found: Iterable[Measured]) -> dict[str, Any]:
    """Return all figures of a scenario over one broker."""
    return {one.engine: _engine_json(one) for one in found}


def lines(found: Iterable[Measured]) -> Iterable[str]:
    """Return a line for each engine of one scenario, ours first."""
    all_of = list(found)
    ours = next((one for one in all_of if one.engine == "ours" and one.runs), None)
    scenario = SCENARIOS[all_of[0].scenario]
    yield f"{scenario.name}: {scenario.title}; target {scenario.target:,} events/s"
    for one in all_of:
        yield f"  {one.engine:7}{_figures(one, ours, scenario.target)}"


def as_json(found: Iterable[Measured]) -> dict[str, Any]:
    """Return all figures of one scenario."""
    all_of = list(found)
    scenario = SCENARIOS[all_of[0].scenario]
    return {
        "title": scenario.title,
        "target": scenario.target,
        "engines": {one.engine: {"what": _what(one.engine), **_engine_json(one)} for one in all_of},
    }


def _engine_json(one: Measured) -> dict[str, Any]:
    return {
        "events": one.events,
        "runs": list(one.runs),
        "events_per_s": one.median("events_per_s") if one.runs else None,
        "error": one.error,
    }


def _what(engine: str) -> str:
    return ENGINES[engine][1] if engine in ENGINES else f"a whole worker over {engine}://"


def _figures(one: Measured, ours: Measured | None, target: int | None) -> str:
    if not one.runs:
        return f"  {one.error}"
    rate = one.median("events_per_s")
    least, most = one.range("events_per_s")
    spread = f"({least:,.0f}-{most:,.0f})"
    ratio = f"{ours.median('events_per_s') / rate:8.2f}x" if ours is not None else ""
    part = f"{rate / target:10.2f}x" if target else " " * 11
    return (
        f"{rate:11,.0f} {spread:>23}{one.median('cpu_us'):9.2f}{one.median('peak_mib'):6.0f}"
        f"{part}{ratio if one.engine != 'ours' else ''}"
    )
