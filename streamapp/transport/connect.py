"""From a URL to a broker."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from streamapp.core.duration import to_ms
from streamapp.errors import ConfigError

if TYPE_CHECKING:
    from streamapp.transport.broker import Broker
    from streamapp.transport.sqlite.broker import SqliteOptions

_SCHEMES = (
    "Use sqlite:// (in the data folder), sqlite:///folder, memory://name or kafka://host:port."
)


def open_broker(url: str, datadir: Path, guarantee: str | None = None) -> Broker:
    """Open the broker that a URL names; the caller closes it.

    ``sqlite://`` is the folder ``bus`` in ``datadir``, ``sqlite:///folder`` an absolute one,
    ``memory://name`` lives in this process. ``?session_timeout=5s`` says how long a worker of a
    ``sqlite`` group may be silent (suspended, not dead: that is seen at once) before it is evicted.
    ``kafka://host:port,host:port`` is a cluster; ``transport.kafka.options`` has its options.

    ``guarantee`` is what the application asks for at least; by default the broker's own. The others
    have one only, the strongest.

    Raises:
        ConfigError: The URL names no broker, or has a part that means nothing.
        BrokerUnavailableError: The broker cannot be opened.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite":
            from streamapp.transport.sqlite import SqliteBroker  # noqa: PLC0415  # only when used

            return SqliteBroker(_folder(parts, datadir), _options(parts))
        case "memory":
            from streamapp.transport.memory import memory_broker  # noqa: PLC0415  # only when used

            return memory_broker(parts.netloc)
        case "kafka":
            from streamapp.transport.kafka import KafkaBroker, parse_options  # noqa: PLC0415  # only when used

            options = parse_options(parts, os.environ)
            return KafkaBroker(replace(options, guarantee=guarantee or options.guarantee))
        case _:
            raise _no_broker(url)


def check_url(url: str) -> None:
    """Check that a URL could name a broker, without looking for it.

    Raises:
        ConfigError: As ``open_broker``.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite":
            _folder(parts, Path())
            _options(parts)
        case "memory":
            pass
        case "kafka":
            from streamapp.transport.kafka import parse_options  # noqa: PLC0415  # only when used

            parse_options(parts, os.environ)
        case _:
            raise _no_broker(url)


def is_there(url: str, datadir: Path) -> bool:
    """Tell whether a broker may be there: only a folder can be missing before it is asked."""
    check_url(url)
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        return True
    folder = _folder(parts, datadir)
    found = next(path for path in (folder, *folder.parents) if path.exists())
    # A file in the way is for the broker to explain.
    return found == folder or not found.is_dir()


def _no_broker(url: str) -> ConfigError:
    scheme = urlsplit(url).scheme
    if not scheme and url.startswith("/"):
        return ConfigError(f"{url!r} has no scheme", hint=f"Did you mean sqlite://{url}?")
    return ConfigError(f"no broker has the scheme {scheme!r} of {url!r}", hint=_SCHEMES)


def _options(parts: SplitResult) -> SqliteOptions:
    from streamapp.transport.sqlite.broker import SqliteOptions  # noqa: PLC0415  # only when used

    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    session_ms = to_ms(given.pop("session_timeout", "10s"))
    if given or session_ms <= 0:
        msg = f"{parts.geturl()!r} has an option that is unknown or zero"
        raise ConfigError(msg, hint="The one option is session_timeout, e.g. ?session_timeout=10s")
    return SqliteOptions(session_timeout_ms=session_ms)


def _folder(parts: SplitResult, datadir: Path) -> Path:
    path = unquote(parts.path)
    if parts.netloc or (path and not path.startswith("/")):
        msg = f"{parts.geturl()!r} names no folder"
        raise ConfigError(msg, hint=_SCHEMES)
    return Path(path) if path else datadir / "bus"
