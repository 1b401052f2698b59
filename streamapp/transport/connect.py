"""From a URL to a broker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from streamapp.errors import ConfigError

if TYPE_CHECKING:
    from streamapp.transport.broker import Broker

_SCHEMES = "Use sqlite:// (in the data folder), sqlite:///folder or memory://name."


def open_broker(url: str, datadir: Path) -> Broker:
    """Open the broker that a URL names; the caller closes it.

    ``sqlite://`` is the folder ``bus`` in ``datadir``, ``sqlite:///folder`` an absolute one,
    ``memory://name`` lives in this process.

    Raises:
        ConfigError: The URL names no broker.
        BrokerUnavailableError: The broker cannot be opened.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite":
            from streamapp.transport.sqlite import SqliteBroker  # noqa: PLC0415  # only when used

            return SqliteBroker(_folder(parts, datadir))
        case "memory":
            from streamapp.transport.memory import memory_broker  # noqa: PLC0415  # only when used

            return memory_broker(parts.netloc)
        case scheme:
            msg = f"no broker has the scheme {scheme!r} of {url!r}"
            raise ConfigError(msg, hint=_SCHEMES)


def _folder(parts: SplitResult, datadir: Path) -> Path:
    path = unquote(parts.path)
    if parts.netloc or (path and not path.startswith("/")):
        msg = f"{parts.geturl()!r} names no folder"
        raise ConfigError(msg, hint=_SCHEMES)
    return Path(path) if path else datadir / "bus"
