"""``streamapp bench``: how fast this is here, beside what else is installed."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from streamapp.errors import UsageError

if TYPE_CHECKING:
    from streamapp.bench.runs import Plan

Names = Annotated[
    list[str] | None,
    Option("--only", help="A scenario; may be given several times.", show_default="all six"),
]
Engines = Annotated[
    list[str] | None,
    Option("--engine", help="An engine; may be given several times.", show_default="all installed"),
]
Events = Annotated[int, Option(help="Events of a run; slow engines get a fraction.", min=2_000)]
Runs = Annotated[int, Option(help="Runs of each; the median counts.", min=1)]
Others = Annotated[
    list[str] | None,
    Option("--with", metavar="ENGINE=PYTHON", help="An interpreter that has an engine installed."),
]
Brokers = Annotated[
    list[str] | None,
    Option("--broker", help="Also a whole worker over this broker; may be given several times."),
]
JsonFile = Annotated[Path | None, Option("--json", help="Write all figures to this file.")]


def bench(
    *,
    only: Names = None,
    engine: Engines = None,
    events: Events = 400_000,
    runs: Runs = 3,
    others: Others = None,
    broker: Brokers = None,
    json_file: JsonFile = None,
) -> None:
    """Measure six scenarios from JSON in memory, here and in other frameworks.

    Rates are events per second of CPU, on one core. Nothing is shown before its result was
    compared with a plain reference. --broker sqlite:// (or kafka://host:port) measures a whole
    worker as well: records, state, changelog and commits.
    """
    from streamapp.bench.program import ENGINES  # noqa: PLC0415 - --help must not wait for it
    from streamapp.bench.runs import Plan, machine  # noqa: PLC0415 - as above
    from streamapp.bench.scenarios import SCENARIOS  # noqa: PLC0415 - as above

    pythons = dict(_pair(text) for text in others or [])
    _known(list(pythons), list(ENGINES))
    chosen = _known(only, list(SCENARIOS)), _known(engine, list(ENGINES))
    here = machine()
    print("{cpu}, Python {python}, {system}, load {load}".format(**here))
    print(f"Median of {runs}; per second of CPU, one core, from {events:,} JSON events in memory\n")
    scenarios = _measure(Plan(*chosen, events, runs, pythons), broker or [])
    if json_file is not None:
        figures = {"machine": here, "runs": runs, "events": events, "scenarios": scenarios}
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


def _measure(plan: "Plan", brokers: list[str]) -> dict[str, Any]:
    """Measure, print each scenario as soon as it is known, and return all figures."""
    from streamapp.bench import end_to_end, report  # noqa: PLC0415 - as above
    from streamapp.bench.runs import measure  # noqa: PLC0415 - as above

    print(report.HEAD, flush=True)
    figures = {}
    for found in measure(plan, _say):
        scenario = found[0].scenario
        for url in brokers:
            _say(f"{scenario}: workers over {url}")
            found.append(end_to_end.measure(scenario, url, plan.events, plan.runs))
        _say("")
        print("\n".join(report.lines(found)), flush=True)
        figures[scenario] = report.as_json(found)
    return figures


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _pair(text: str) -> tuple[str, str]:
    name, _, python = text.partition("=")
    if not python or not Path(python).exists():
        message = f"--with {text}: there is no such interpreter"
        raise UsageError(message, hint="Write ENGINE=PYTHON, e.g. bytewax=other/bin/python")
    return name, python


def _known(given: list[str] | None, names: list[str]) -> tuple[str, ...]:
    unknown = [name for name in given or [] if name not in names]
    if unknown:
        message = f"There is no {', '.join(unknown)}"
        raise UsageError(message, hint=f"Known: {', '.join(names)}")
    return tuple(given or names)
