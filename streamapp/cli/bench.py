"""``streamapp bench``: how fast this is here, beside what else is installed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from streamapp.errors import UsageError

if TYPE_CHECKING:
    from streamapp.bench.runs import Plan

#: The scenarios that need a broker.
_OVER_BROKERS = ("keyed", "stateless")

Names = Annotated[
    list[str] | None,
    Option("--only", help="A scenario; may be given several times.", show_default="all"),
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
    worker as well: records, state, changelog and commits; and there are two more scenarios then,
    whole workers of each engine over the same broker: keyed, a table of sums by user, and
    stateless, beside a bare loop that reads and decodes.
    """
    from streamapp.bench.program import ENGINES  # noqa: PLC0415 - --help must not wait for it
    from streamapp.bench.runs import Plan, machine  # noqa: PLC0415 - as above
    from streamapp.bench.scenarios import SCENARIOS  # noqa: PLC0415 - as above

    pythons = dict(_pair(text) for text in others or [])
    _known(list(pythons), list(ENGINES))
    scenarios = _known(only, [*SCENARIOS, *(_OVER_BROKERS if broker or only else ())])
    whole = [name for name in scenarios if name in _OVER_BROKERS]
    if whole and not broker:
        message = f"{whole[0]} is measured over a broker"
        raise UsageError(message, hint="Add --broker sqlite:// or --broker kafka://host:port")
    plan = Plan(
        tuple(name for name in scenarios if name not in whole),
        _known(engine, list(ENGINES)),
        events,
        runs,
        pythons,
    )
    # Before minutes of measuring: what would end it, or leave it without a result.
    _check(engine or [], pythons, broker or [], json_file)
    here = machine()
    print("{cpu}, Python {python}, {system}, load {load}, reader {reader}".format(**here))
    print(f"Median of {runs}; per second of CPU, one core, from {events:,} JSON events in memory\n")
    figures = {"machine": here, "runs": runs, "events": events}
    figures["scenarios"] = _measure(plan, broker or [])
    for name in whole:
        figures[name] = _measure_whole(name, plan, broker or [])
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


def _check(
    engines: list[str], pythons: dict[str, str], brokers: list[str], file: Path | None
) -> None:
    """Check that what was asked for can be measured, and its figures written.

    Raises:
        UsageError: An engine is not there, a broker cannot be shared by processes, or the file
            cannot be written.
        ConfigError: A URL names no broker.
    """
    from streamapp.bench.program import ENGINES  # noqa: PLC0415 - as above
    from streamapp.bench.runs import is_installed  # noqa: PLC0415 - as above
    from streamapp.transport.connect import check_url  # noqa: PLC0415 - as above

    for engine, python in pythons.items():
        if not _has(python, ENGINES[engine][0]):
            message = f"--with {engine}={python}: that interpreter has no {ENGINES[engine][0]}"
            raise UsageError(message, hint="Install it there, or name another one")
    for engine in engines:
        if not is_installed(engine, pythons):
            message = f"--engine {engine}: {ENGINES[engine][0]} is not installed here"
            raise UsageError(message, hint=f"Install it, or write --with {engine}=other/bin/python")
    for url in brokers:
        check_url(url)
        if url.startswith("memory:"):
            message = f"--broker {url}: memory:// lives in one process, and the worker is another"
            raise UsageError(message, hint="Write sqlite:// or kafka://host:port")
    # Not opened: a measurement that is ended early leaves no empty file.
    if file is not None and (
        file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK)
    ):
        message = f"--json {file}: no such file can be written"
        raise UsageError(message, hint="Name a file in a folder that exists")


def _has(python: str, module: str) -> bool:
    """Tell whether an interpreter finds a package."""
    look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    try:
        return subprocess.run([python, "-c", look], check=False).returncode == 0  # noqa: S603 - the user's choice
    except OSError:  # a file that is no program
        return False


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


def _measure_whole(scenario: str, plan: "Plan", brokers: list[str]) -> dict[str, Any]:
    """Do the same for what is measured by whole workers only, broker by broker."""
    from streamapp.bench import report  # noqa: PLC0415 - as above
    from streamapp.bench.keyed import runs  # noqa: PLC0415 - as above

    figures = {}
    for url in brokers:
        found = runs.measure(scenario, plan, url, _say)
        _say("")
        print("\n".join(report.over_broker_lines(scenario, url, found)), flush=True)
        figures[url] = report.over_broker_json(found)
    return figures


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _pair(text: str) -> tuple[str, str]:
    name, _, python = text.partition("=")
    if not python or not Path(python).exists():
        message = f"--with {text}: there is no such interpreter"
        raise UsageError(message, hint="Write ENGINE=PYTHON, e.g. bytewax=other/bin/python")
    # Not resolved: an environment is known by where its interpreter is linked.
    return name, str(Path(python).absolute())


def _known(given: list[str] | None, names: list[str]) -> tuple[str, ...]:
    unknown = [name for name in given or [] if name not in names]
    if unknown:
        message = f"There is no {', '.join(unknown)}"
        raise UsageError(message, hint=f"Known: {', '.join(names)}")
    return tuple(given or names)
