"""``streamapp checkpoints``: the copies of a worker's state, and the way back to one.

Those of the state in ``<datadir>/<application>/state/N`` are in ``.../checkpoints/N``.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option, Typer

from streamapp.cli.options import AsJson, Datadir, settings_of
from streamapp.cli.show import print_json, print_table, timestamp
from streamapp.errors import UsageError

if TYPE_CHECKING:
    from streamapp.state.checkpoint import Checkpoint, CheckpointStore

checkpoints = Typer(
    no_args_is_help=True,
    help="List and restore copies of a worker's state.",
    rich_markup_mode=None,
)

Id = Annotated[int, Argument(metavar="ID", help="Which one; `checkpoints list` shows them.")]
AppId = Annotated[str | None, Option(help="The application, where the data folder has several.")]
Slot = Annotated[int, Option(help="Which worker's state, where a machine runs several.", min=0)]


@checkpoints.command("list")
def list_(*, as_json: AsJson = False, datadir: Datadir = None) -> None:
    """List the checkpoints of all applications and state slots, oldest first."""
    root = settings_of(None, datadir).datadir
    found = [
        _describe(folder, checkpoint)
        for folder in sorted(root.glob("*/checkpoints/*"))
        for checkpoint in _store(folder).list()
    ]
    if as_json:
        print_json(found)
        return
    columns = ("app", "slot", "id", "created", "bytes", "files", "damage")
    print_table(
        [column.upper() for column in columns],
        [[row[column] for column in columns] for row in found],
        empty=f"No checkpoints in {root}.",
    )


@checkpoints.command()
def restore(
    checkpoint_id: Id, *, app_id: AppId = None, slot: Slot = 0, datadir: Datadir = None
) -> None:
    """Put a checkpoint in the place of the state of a worker that is stopped.

    The worker then replays the changelog from there: the tables end up as they were.
    """
    from streamapp.state.slots import claim_slot  # noqa: PLC0415 - --help must not wait for it

    home = _home(settings_of(None, datadir).datadir, app_id)
    store = _store(home / "checkpoints" / str(slot))
    known = [checkpoint.id for checkpoint in store.list()]
    if checkpoint_id not in known:
        message = f"There is no checkpoint {checkpoint_id} of slot {slot} in {home}"
        have = ", ".join(map(str, known)) or "none"
        raise UsageError(message, hint=f"Known ones: {have}")
    with claim_slot(home, slot) as state:
        store.restore(checkpoint_id, state)
        print(f"Restored checkpoint {checkpoint_id} to {state.folder}")


def _home(root: Path, app_id: str | None) -> Path:
    """Return the folder of the application; the only one that has checkpoints, if none is named."""
    homes = sorted(path.parent for path in root.glob("*/checkpoints"))
    if app_id is not None:
        return root / app_id
    if len(homes) == 1:
        return homes[0]
    if not homes:
        message = f"No checkpoints in {root}"
        raise UsageError(message, hint="Name the folder of the worker's data with --datadir")
    names = ", ".join(home.name for home in homes)
    message = f"{root} has checkpoints of {len(homes)} applications"
    raise UsageError(message, hint=f"Name one with --app-id; known ones: {names}")


def _store(folder: Path) -> "CheckpointStore":
    from streamapp.state.checkpoint import CheckpointStore  # noqa: PLC0415 - as above

    return CheckpointStore(folder)


def _describe(folder: Path, checkpoint: "Checkpoint") -> dict[str, object]:
    """Return a checkpoint as ``--json`` writes it; what a broken manifest hides is null."""
    manifest = checkpoint.manifest
    return {
        "app": folder.parent.parent.name,
        "slot": folder.name,
        "id": checkpoint.id,
        "created": None if manifest is None else timestamp(manifest.created_ms),
        "bytes": None if manifest is None else sum(file.size for file in manifest.files),
        "files": None if manifest is None else len(manifest.files),
        "damage": checkpoint.damage,
        "sources": () if manifest is None else manifest.sources,
        "changelogs": () if manifest is None else manifest.changelogs,
    }
