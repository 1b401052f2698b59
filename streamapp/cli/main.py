"""The ``streamapp`` command: its tree, and what becomes of errors.

Faust, aiohttp and RocksDB are imported by the commands that need them and not before: ``--help``
answers in a fifth of a second.
"""

import sys

import typer

from streamapp.cli.bench import bench
from streamapp.cli.checkpoints import checkpoints
from streamapp.cli.groups import groups
from streamapp.cli.pipelines import pipelines
from streamapp.cli.send import send
from streamapp.cli.tail import tail
from streamapp.cli.topics import topics
from streamapp.cli.worker import worker
from streamapp.errors import StreamappError

cli = typer.Typer(
    name="streamapp",
    help="Run a streaming application, and look into its broker and state.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: importing rich takes as long as all the rest
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (worker, send, tail, topics, groups, bench):
    cli.command()(command)
cli.add_typer(checkpoints, name="checkpoints")
cli.add_typer(pipelines, name="pipelines")


def main() -> None:
    """Run the command line; errors of the user are one line, ours are tracebacks.

    Exits with 0, 1 (failure), 2 (usage), 3 (broker unreachable), 4 (not ready) or 130 (Ctrl-C).
    """
    try:
        cli()
    except StreamappError as error:
        print(f"streamapp: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
