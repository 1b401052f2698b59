"""How a cluster is used: the options of a ``kafka://`` URL, and secrets from the environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from streamapp.core.duration import to_ms
from streamapp.errors import ConfigError
from streamapp.transport.kafka.security import SECRETS, Security, take_security

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_HINT = (
    "Use kafka://host:port[,host:port]?option=value with session_timeout, rebalance_timeout, "
    "instance_id, protocol (classic, consumer), replication, prefix, tls, sasl, user, token, "
    "or rdkafka.NAME for a setting of librdkafka"
)
#: The guarantee of clusters that have no transactions.
WITHOUT_TRANSACTIONS = "at_least_once"
_PROTOCOLS = ("classic", "consumer")
_PASSTHROUGH = "rdkafka."

#: Settings on which the guarantees rest: nobody changes them from outside.
_OURS = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "client.id",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "isolation.level",
        "partition.assignment.strategy",
        "request.required.acks",
        "transactional.id",
    }
)


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """How a cluster is used by this process; times in ms.

    ``session_timeout_ms``: silence after which a worker is taken for dead (classic protocol).
    ``rebalance_timeout_ms``: how long it may take to let go of its partitions. ``instance_id``
    names a worker for good: it keeps its partitions over a restart within its session, and what it
    left half written ends at once. ``replication`` -1 is the cluster's default. ``prefix`` stands
    before the names of all topics and groups. ``settings`` are librdkafka's. ``security`` is who we
    are. ``guarantee`` is no option of the URL but the application's; see ``guarantees``.
    """

    servers: str
    session_timeout_ms: int = 6_000
    rebalance_timeout_ms: int = 60_000
    instance_id: str = ""
    protocol: str = "classic"
    replication: int = -1
    prefix: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    guarantee: str = "effectively_once"
    security: Security = field(default_factory=Security)


#: A host (an address of IPv6 in brackets), and a port if it is not Kafka's own.
_SERVER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:\[\]]+)(?::(?P<port>\d{1,9}))?")
_PORT = 9092
_LAST_PORT = 65_535


def parse_options(parts: SplitResult, environ: Mapping[str, str]) -> KafkaOptions:
    """Read the options of a URL.

    Raises:
        ConfigError: An option is unknown or wrong, or a secret stands in the URL.
    """
    if not parts.netloc or parts.path.strip("/") or "@" in parts.netloc:
        raise _wrong(parts, "names no servers, or more than servers")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    settings = _passed_on(parts, given)
    try:
        security = take_security(given, settings, environ)
    except ValueError as exc:
        raise _wrong(parts, f"has {exc}") from exc
    read: dict[str, object] = {}
    for name, text in given.items():
        if name not in _READERS:
            raise _wrong(parts, f"has the option {name!r}, which is unknown")
        field_name, reader = _READERS[name]
        try:
            read[field_name] = reader(text)
        except (ValueError, ConfigError) as exc:
            raise _wrong(parts, f"has {name}={text!r}: {exc}") from exc
    return KafkaOptions(_servers(parts), settings=settings, security=security, **read)  # type: ignore[arg-type] # by name


def _servers(parts: SplitResult) -> str:
    """Return the servers with their ports, as the cluster's errors name them."""
    servers = []
    for server in filter(None, parts.netloc.split(",")):
        found = _SERVER.fullmatch(server)
        if found is None:
            raise _wrong(parts, f"names {server!r}, which is no host:port")
        port = int(found["port"] or _PORT)
        if not 0 < port <= _LAST_PORT:
            raise _wrong(parts, f"names port {port}; ports end at {_LAST_PORT}")
        servers.append(f"{found['host']}:{port}")
    return ",".join(servers)


def _passed_on(parts: SplitResult, given: dict[str, str]) -> dict[str, str]:
    """Take the settings of librdkafka out of the options."""
    settings = {
        name.removeprefix(_PASSTHROUGH): given.pop(name)
        for name in list(given)
        if name.startswith(_PASSTHROUGH)
    }
    for name in settings:
        if name in _OURS:
            raise _wrong(parts, f"changes {name}, on which the guarantees rest")
        if name.endswith(SECRETS):
            raise _wrong(parts, f"holds a secret ({name}): put it into the environment")
    return settings


def _wrong(parts: SplitResult, why: str) -> ConfigError:
    return ConfigError(f"kafka://{parts.netloc.rpartition('@')[2]} {why}", hint=_HINT)


def _duration(text: str) -> int:
    value = to_ms(text)
    if value <= 0:
        msg = "it must be longer than nothing"
        raise ValueError(msg)
    return value


def _protocol(text: str) -> str:
    if text not in _PROTOCOLS:
        msg = f"it is one of {', '.join(_PROTOCOLS)}"
        raise ValueError(msg)
    return text


_READERS: dict[str, tuple[str, Callable[[str], object]]] = {
    "session_timeout": ("session_timeout_ms", _duration),
    "rebalance_timeout": ("rebalance_timeout_ms", _duration),
    "instance_id": ("instance_id", str),
    "protocol": ("protocol", _protocol),
    "replication": ("replication", int),
    "prefix": ("prefix", str),
}
