"""Refuses, where it is written, what could not work: settings, agents, tables.

A mistake that only showed when a record comes (or never) would be found by the user's customers.
Pure: looks at what was declared and at nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from difflib import get_close_matches
from inspect import (
    Parameter,
    isasyncgenfunction,
    iscoroutinefunction,
    isfunction,
    signature,
    unwrap,
)
from pathlib import PurePath
from typing import Any

from streamapp.core.names import NAME_HINT, is_topic_name
from streamapp.errors import ConfigError

_BROKERS = frozenset({"sqlite", "memory", "kafka"})
_GUARANTEES = ("exactly_once", "effectively_once", "at_least_once")
_STORES = frozenset({"rocksdb", "memory"})


def check_id(app_id: object) -> None:
    """Check the name of an application: a part of its topics' names, and a folder.

    Raises:
        ConfigError: It cannot be either.
    """
    if not is_topic_name(app_id):
        msg = f"App: {app_id!r} is no name for an application"
        raise ConfigError(msg, hint=NAME_HINT)


def claim(owners: dict[str, str], name: str, owner: str) -> None:
    """Note who has a name; ``owners`` are those who have others.

    Raises:
        ConfigError: Somebody else has it.
    """
    if owners.setdefault(name, owner) != owner:
        msg = f"{owners[name]} and {owner} both have {name}"
        raise ConfigError(msg, hint="Rename one of them, or its group_by")


def check_known(
    whose: str, given: Iterable[str], known: Iterable[str], otherwise: str = "See the README"
) -> None:
    """Check that every setting is one; ``otherwise`` is the hint where none is alike.

    Raises:
        ConfigError: One is not; names the one that was probably meant.
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            close = get_close_matches(name, names, 1)
            msg = f"{whose} has no setting {name!r}"
            raise ConfigError(msg, hint=f"Did you mean {close[0]!r}?" if close else otherwise)


def options_of(*functions: Callable[..., Any]) -> set[str]:
    """Return the names that functions take by keyword only."""
    return {
        name
        for function in functions
        for name, parameter in signature(function).parameters.items()
        if parameter.kind is Parameter.KEYWORD_ONLY
    }


def check_counts(whose: str, settings: Mapping[str, object], least: int = 1) -> None:
    """Check settings that are whole numbers of at least so much.

    Raises:
        ConfigError: One is not.
    """
    for name, number in settings.items():
        if type(number) is not int or number < least:
            msg = f"{whose}: {name}={number!r}"
            raise ConfigError(msg, hint=f"It must be a whole number of at least {least}")


def check_guarantee(guarantee: str | None) -> None:
    """Check the name of a guarantee; ``None`` is the broker's own.

    Raises:
        ConfigError: There is none of that name.
    """
    if guarantee is not None and guarantee not in _GUARANTEES:
        msg = f"guarantee={guarantee!r} is not offered by this broker"
        raise ConfigError(msg, hint=f"Use {', '.join(map(repr, _GUARANTEES))}".replace("'", '"'))


def check_broker(broker: object) -> None:
    """Check that a broker is no bare path: without a scheme Faust takes it for servers of Kafka.

    Raises:
        ConfigError: It is.
    """
    text = str(broker)
    if isinstance(broker, str | PurePath) and "/" in text and ":" not in text:
        msg = f"App: broker={text!r} has no scheme"
        absolute = text if text.startswith("/") else f"/path/to/{text.removeprefix('./')}"
        raise ConfigError(msg, hint=f"Did you mean sqlite://{absolute}?")


def check_schemes(broker: str, store: str) -> None:
    """Check that there are such a broker and such a store, by the schemes of their URLs.

    Raises:
        ConfigError: One is not.
    """
    if broker not in _BROKERS:
        msg = f"App: no broker has the scheme {broker!r}"
        raise ConfigError(
            msg,
            hint="Use sqlite:// (in the data folder), sqlite:///folder, memory://name or "
            "kafka://host:port",
        )
    if store not in _STORES:
        msg = f"App: no store has the scheme {store!r}"
        raise ConfigError(msg, hint="Use rocksdb:// or memory://")


def check_agent(name: str, function: Callable[..., Any], taken: Container[str]) -> None:
    """Check an agent: an ``async def`` of one argument, under a name of its own.

    Raises:
        ConfigError: It is not. Two agents of one name would share positions: each would skip what
            the other has read.
    """
    whole = unwrap(function)
    if not (iscoroutinefunction(whole) or isasyncgenfunction(whole)):
        msg = f"Agent {name} is no coroutine function"
        raise ConfigError(msg, hint="Write `async def`, with `async for ... in stream` inside")
    try:
        signature(function).bind(None)
    except TypeError:
        msg = f"Agent {name} cannot be called with one argument, the stream"
        raise ConfigError(msg, hint=f"Write `async def {whole.__name__}(stream)`") from None
    if name in taken:
        msg = f"There are two agents named {name!r}"
        raise ConfigError(msg, hint="Rename one: @app.agent(topic, name='other')")


def check_channel(channel: object) -> None:
    """Check what an agent is to read.

    Raises:
        ConfigError: It is the agent's function: the decorator was not called.
    """
    if isfunction(channel):
        msg = f"@app.agent stands bare over {channel.__name__}"
        raise ConfigError(msg, hint="Write @app.agent(topic), or @app.agent() for one of its own")


def check_table(
    name: str, default: object, value_type: object, partitions: object, taken: Container[str]
) -> None:
    """Check the declaration of a table.

    Raises:
        ConfigError: Its name is taken or cannot be one, its default is not callable or would come
            back as something else, or its number of partitions is none.
    """
    if name in taken:
        msg = f"There are two tables named {name!r}"
        raise ConfigError(msg, hint="Rename one of them")
    if not is_topic_name(name):
        msg = f"{name!r} is no name for a table"
        raise ConfigError(msg, hint=NAME_HINT)
    if default is not None and not callable(default):
        msg = f"Table {name}: default={default!r} cannot be called"
        raise ConfigError(msg, hint="Give what makes the value, like default=int")
    if default in (set, frozenset, tuple) and value_type is Any:
        kind = default.__name__
        msg = f"Table {name}: a {kind} would come back as a list, which is its form in JSON"
        raise ConfigError(msg, hint=f"Say of what it is: value_type={kind}[str]")
    if partitions is not None:
        check_counts(f"Table {name}", {"partitions": partitions})
