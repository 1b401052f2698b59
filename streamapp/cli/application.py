"""The application that a command is about: a module of the working folder."""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from streamapp.errors import ConfigError

if TYPE_CHECKING:
    from streamapp.app import App

AppName = Annotated[str, Option("-A", "--app", help="Module of the application, MODULE[:NAME].")]


def is_there(app: str) -> bool:
    """Make modules of the working folder importable; tell whether there is the application's."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.util.find_spec(app.partition(":")[0]) is not None
    except ModuleNotFoundError:  # the parent of a dotted name
        return False


def find_application(app: str) -> "App":
    """Import the application.

    Raises:
        ConfigError: It is not there, or is none.
    """
    import faust  # noqa: PLC0415 - half a second

    module, _, name = app.partition(":")
    _check_name(app)
    if not is_there(app):
        message = f"There is no module {module} in this folder"
        hint = "Go to the application's folder, or name its module with -A"
        raise ConfigError(message, hint=hint)
    name = name or "app"
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, faust.App):
        message = f"{name} of module {module} is no application"
        raise ConfigError(message, hint="Write `app = streamapp.App(...)`, or -A MODULE:NAME")
    return found


def _check_name(app: str) -> None:
    """Check that ``-A`` names a module, and no file.

    Raises:
        ConfigError: It does not; says what was probably meant.
    """
    module, colon, name = app.partition(":")
    if not module:
        message = "-A names no module"
        raise ConfigError(message, hint="Write -A MODULE, or -A MODULE:NAME")
    if colon and not name:
        message = f"-A {app} names no application"
        raise ConfigError(message, hint=f"Write -A {module}, or -A {module}:NAME")
    is_file = module.endswith(".py") and not is_there(app)
    if not is_file and "/" not in module and not module.startswith("."):
        return
    path = Path(module.removesuffix(".py"))
    meant = ".".join(path.parts).lstrip(".") or "MODULE"
    hint = f"Write -A {meant}{colon}{name}"
    if path.is_absolute() or ".." in path.parts:
        hint = f"Go to its folder and write -A {path.name}{colon}{name}"
    message = f"-A {app} is a file, no module"
    raise ConfigError(message, hint=hint)
