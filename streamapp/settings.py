"""The settings of the application, from flags, the environment and one file.

The first that names a setting wins: keyword of ``load_settings`` (a flag), ``STREAMAPP_<NAME>``,
``PORT`` (for ``web_port`` only), the file, the default. The file is ``config/app.toml`` where it
exists, or the one that ``STREAMAPP_CONFIG`` names. All faults are reported at once.

Unknown keys of the file are refused. Unknown ``STREAMAPP_*`` variables are not: an orchestrator
puts some of its own there (``STREAMAPP_SERVICE_HOST`` for a service of that name). One that is
nearly a setting is warned of.
"""

from __future__ import annotations

import logging
import os
import tomllib
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from streamapp.core.duration import to_ms
from streamapp.core.sizes import to_bytes
from streamapp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_core import ErrorDetails

log = logging.getLogger(__name__)

_FILE = Path("config/app.toml")
_PREFIX = "STREAMAPP_"
#: How alike a variable is to the setting that was meant: those of orchestrators are less so.
_ALIKE = 0.8
_T = TypeVar("_T")


def _parsed(parse: Callable[[_T], int]) -> BeforeValidator:
    """Make a validator of a parser: pydantic collects ``ValueError`` and lets others through."""

    def validate(value: _T) -> int:
        try:
            return parse(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(validate)


#: Whole milliseconds, written as a duration (``"250ms"``, ``"5s"``, or a number of seconds).
Milliseconds = Annotated[int, _parsed(to_ms)]
#: Whole bytes, written as a size (``"64MiB"`` or a number of bytes).
Bytes = Annotated[int, _parsed(to_bytes)]


class Settings(BaseSettings):
    """What the application was told; immutable. Make it with ``load_settings``."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, extra="forbid", frozen=True, validate_default=False
    )

    #: Where the records are: ``sqlite://`` (a file in ``datadir``), ``sqlite:///path``, ``memory://``,
    #: ``kafka://host:port``.
    broker: str = "sqlite://"
    #: Folder of everything that the worker keeps: broker, tables, checkpoints.
    datadir: Path = Path("data")
    web_host: str = "127.0.0.1"
    web_port: int = Field(default=6066, ge=1, le=65_535)
    #: How often offsets, tables and outputs are committed together; bounds what a crash repeats.
    commit_interval: Milliseconds = Field(default=250, ge=1)
    #: Bytes of table values and blocks kept in memory, all tables together.
    cache_size: Bytes = Field(default=64 << 20, ge=1 << 20)
    #: Most records of one fetch.
    batch_max: int = Field(default=5_000, ge=1)
    checkpoint_interval: Milliseconds = Field(default=60_000, ge=1)
    checkpoints_kept: int = Field(default=3, ge=1)
    #: How many other workers keep a copy of each partition of the tables, to take over at once.
    standbys: int = Field(default=0, ge=0)
    #: By default the broker's own: ``exactly_once`` on sqlite, ``effectively_once`` on Kafka.
    guarantee: Literal["exactly_once", "effectively_once", "at_least_once"] | None = None
    #: Folder of pipelines in YAML; ``None`` for none.
    pipelines_dir: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    #: Make events of its own, so that there is something to see.
    demo: bool = False
    #: Events per second of the demo.
    demo_rate: float = Field(default=100.0, gt=0)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - one file, not two
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - there are no secrets
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources, the strongest first."""
        port = os.environ.get("PORT")
        return (
            init_settings,
            env_settings,
            InitSettingsSource(settings_cls, {"web_port": port} if port else {}),
            TomlConfigSettingsSource(settings_cls, _file()),
        )


def load_settings(**flags: Any) -> Settings:  # noqa: ANN401 - pydantic checks each value
    """Read the settings from all sources; a flag that is ``None`` was not given.

    Raises:
        ConfigError: One or more settings are wrong; each is named with its source and remedy.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    for variable in os.environ:
        if variable.startswith(_PREFIX):
            _warn_of(variable)
    path = _file()
    if path != _FILE and not path.is_file():
        message = f"STREAMAPP_CONFIG names {path}, which is no file"
        raise ConfigError(message, hint="Correct the path, or unset it to use config/app.toml")
    try:
        return Settings(**given)
    except tomllib.TOMLDecodeError as error:
        message = f"{path} is not TOML: {error}"
        raise ConfigError(message) from error
    except ValidationError as error:
        faults = [_explain(fault, given) for fault in error.errors()]
        raise ConfigError("; ".join(faults)) from error


@cache  # once: the command and the application both read the settings
def _warn_of(variable: str) -> None:
    """Warn of a variable that is no setting but nearly one."""
    # Without the prefix, which would make all of them alike.
    name = variable.removeprefix(_PREFIX).upper()
    close = get_close_matches(name, [*map(str.upper, Settings.model_fields), "CONFIG"], 1, _ALIKE)
    if close and close[0] != name:
        log.warning("%s is no setting. Did you mean %s%s?", variable, _PREFIX, close[0])


def _file() -> Path:
    """Return the file of settings, whether it exists or not."""
    return Path(os.environ.get(f"{_PREFIX}CONFIG", _FILE))


def _explain(fault: ErrorDetails, flags: dict[str, Any]) -> str:
    """Say where the wrong setting stands, what is wrong, and what was probably meant."""
    name = str(fault["loc"][0])
    where = _origin(name, flags)
    if fault["type"] != "extra_forbidden":
        reason = fault["msg"].removeprefix("Value error, ")
        return f"{name} ({where}): {reason}, not {fault['input']!r}"
    close = get_close_matches(name, Settings.model_fields, n=1)
    meant = f"did you mean {close[0]}?" if close else f"known: {', '.join(Settings.model_fields)}"
    return f"{name} ({where}): no such setting; {meant}"


def _origin(name: str, flags: dict[str, Any]) -> str:
    """Name the source that a setting was read from."""
    variable = f"{_PREFIX}{name.upper()}"
    if name in flags:
        return f"--{name.replace('_', '-')}"
    if variable in os.environ:
        return variable
    return "PORT" if name == "web_port" and os.environ.get("PORT") else str(_file())
