"""``streamapp pipelines``: what is declared and whether it runs; ``check`` reads files of YAML."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Context, Exit, Option, Typer

from streamapp.cli.application import find_application, is_there
from streamapp.cli.options import AsJson, BrokerUrl, Datadir, opened
from streamapp.cli.show import print_json, print_table
from streamapp.errors import ConfigError

if TYPE_CHECKING:
    from streamapp.app import App
    from streamapp.pipelines.pipeline import Pipeline
    from streamapp.pipelines.plan import StagePlan, UnitPlan
    from streamapp.transport.broker import Broker

pipelines = Typer(
    invoke_without_command=True,
    help="List the pipelines, or check files of some.",
    rich_markup_mode=None,
)

Files = Annotated[list[Path], Argument(metavar="FILE...", help="Files or folders of pipelines.")]
MaybeApp = Annotated[
    str | None,
    Option("-A", "--app", help="Whose tables a file may name.", show_default="app, if it is there"),
]
ListedApp = Annotated[
    str | None,
    Option("-A", "--app", help="Module of the application, MODULE[:NAME].", show_default="app"),
]
State = Literal["running", "stopped", "new"]


@dataclass(frozen=True, slots=True)
class StageRow:
    """A stage as ``--json`` writes it.

    ``state`` is ``new`` while not all of its topics exist; ``lag`` counts the records before it.
    """

    pipeline: str
    stage: str
    reads: list[str]
    steps: list[str]
    writes: list[str]
    state: State
    lag: int | None
    file: str | None


@pipelines.callback()
def list_(
    context: Context,
    app: ListedApp = None,
    *,
    as_json: AsJson = False,
    broker: BrokerUrl = None,
    datadir: Datadir = None,
) -> None:
    """List the pipelines, their stages, and whether a worker has them in hand."""
    if context.invoked_subcommand is not None:
        context.obj = app
        return
    application = find_application(app or "app")
    with opened(broker, datadir, may_create=False) as bus:
        rows = [
            _row(application, pipeline, stage, bus)
            for pipeline in application.pipelines.values()
            for stage in pipeline.stages()
        ]
    if as_json:
        print_json(rows)
        return
    print_table(
        ("STAGE", "READS", "WRITES", "STATE", "LAG"),
        [
            (row.stage, "\n".join(row.reads), "\n".join(row.writes), row.state, row.lag)
            for row in rows
        ],
        empty="No pipelines: declare one with app.pipeline(...), or in YAML.",
    )


@pipelines.command()
def check(context: Context, files: Files, *, app: MaybeApp = None) -> None:
    """Tell what is wrong with files of pipelines; nothing is run.

    Exits with 1 if anything is.
    """
    try:
        application = _application(app or context.obj)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise Exit(1) from None
    is_good = True
    for file in files:
        is_good = _is_good(application, file) and is_good
    if not (is_good and _are_names_free(application)):
        raise Exit(1)


def _application(app: str | None) -> "App":
    """Return the application, or one of no tables where there is none."""
    if app is not None or is_there("app"):
        return find_application(app or "app")
    from streamapp.app import App  # noqa: PLC0415 - half a second

    return App("check", broker="memory://check")


def _is_good(application: "App", path: Path) -> bool:
    from streamapp.pipelines.yaml_load import yaml_files  # noqa: PLC0415 - --help must not wait

    is_good = True
    try:
        files = yaml_files(path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return False
    for file in files:
        try:
            names = _names_in(application, file)
        except ConfigError as error:
            print(error, file=sys.stderr)
            is_good = False
        else:
            print(f"{file}: {', '.join(names)}: good")
    return is_good


def _are_names_free(application: "App") -> bool:
    """Tell of stages and topics of good pipelines that would have one name; a worker would end."""
    from streamapp.engine.pipelines import claim_names  # noqa: PLC0415 - as above

    try:
        claim_names(application, {})
    except ConfigError as error:
        print(error, file=sys.stderr)
        return False
    return True


def _names_in(application: "App", file: Path) -> list[str]:
    """Return the pipelines of a file, which the application may have loaded by itself.

    Raises:
        ConfigError: The file holds a mistake.
    """
    loaded = application.pipeline_files.items()
    names = [name for name, other in loaded if other.resolve() == file.resolve()]
    return names or [pipeline.name for pipeline in application.load_pipelines(file)]


def _row(application: "App", pipeline: "Pipeline", stage: "StagePlan", bus: "Broker") -> StageRow:
    reads = [name for of in stage.inputs for name in of.topic.topics]
    state, lag = _progress(bus, application.conf.id, reads)
    file = application.pipeline_files.get(pipeline.name)
    nodes = [unit.node for unit in stage.units]
    return StageRow(
        pipeline.name,
        stage.name,
        reads,
        [name for unit in stage.units for name in _steps(unit)],
        [target for node in nodes if (target := _target(node)) is not None],
        state,
        lag,
        None if file is None else str(file),
    )


def _steps(unit: "UnitPlan") -> list[str]:
    """Return the names of steps that run as one."""
    return [type(step).__name__.lower() for step in unit.steps] or [unit.node.name]


def _target(node: object) -> str | None:
    """Return the topic or table that a step writes to."""
    from streamapp.pipelines.nodes import Regroup, ToTable, ToTopic  # noqa: PLC0415 - as above

    if isinstance(node, ToTable):
        return node.table.name
    if isinstance(node, Regroup | ToTopic):
        return str(node.topic.get_topic_name())
    return None


def _progress(bus: "Broker", group_name: str, topics: list[str]) -> tuple[State, int | None]:
    """Return whether a worker reads these topics, and how many records are before it."""
    from streamapp.core.batch import TP  # noqa: PLC0415 - as above

    known = bus.topics()
    if not all(topic in known for topic in topics):
        return "new", None
    tps = [TP(topic, n) for topic in topics for n in range(known[topic].spec.partitions)]
    group = bus.groups().get(group_name)
    positions = bus.committed(group_name, tps)
    ranges = bus.offsets(tps)
    lag = sum(
        of.end - (positions[tp].offset if tp in positions else of.earliest)
        for tp, of in ranges.items()
    )
    alive = [] if group is None else [member for member in group.members if member.is_alive]
    owned = {tp for member in alive for tp in member.tps}
    return "running" if owned.intersection(tps) else "stopped", lag
