"""Options that commands share, and the broker that they open."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from streamapp.errors import UnknownTopicError, UsageError

if TYPE_CHECKING:
    from streamapp.settings import Settings
    from streamapp.transport.broker import Broker, TopicInfo

BrokerUrl = Annotated[
    str | None,
    Option("--broker", help="Where the records are.", show_default="setting: sqlite://"),
]
Datadir = Annotated[
    Path | None,
    Option("--datadir", help="Folder of the worker's data.", show_default="setting: data"),
]
AsJson = Annotated[bool, Option("--json", help="Write JSON instead of a table.")]
TopicName = Annotated[str, Argument(metavar="TOPIC", show_default=False)]


def settings_of(broker: str | None, datadir: Path | None) -> "Settings":
    """Return the settings; options that were given win."""
    from streamapp.settings import load_settings  # noqa: PLC0415 - --help must not wait for it

    return load_settings(broker=broker, datadir=datadir)


@contextmanager
def opened(
    broker: str | None, datadir: Path | None, *, may_create: bool = True
) -> Iterator["Broker"]:
    """Open the broker that options and settings name, and close it at the end.

    A command that only looks creates nothing: where is no folder yet, it sees an empty broker.

    Raises:
        UsageError: The broker lives in another process.
    """
    from streamapp.transport.connect import is_there, open_broker  # noqa: PLC0415 - as above
    from streamapp.transport.memory import MemoryBroker  # noqa: PLC0415 - as above

    settings = settings_of(broker, datadir)
    if settings.broker.startswith("memory:"):
        message = f"{settings.broker} lives in its worker only: no command can open it"
        raise UsageError(message, hint="Use sqlite:// or kafka://host:port for both")
    if may_create or is_there(settings.broker, settings.datadir):
        bus: Broker = open_broker(settings.broker, settings.datadir)
    else:
        bus = MemoryBroker()
    try:
        yield bus
    finally:
        bus.close()


def topic_of(bus: "Broker", name: str) -> "TopicInfo":
    """Return the topic.

    Raises:
        UnknownTopicError: There is none of that name; says which one was probably meant.
    """
    from difflib import get_close_matches  # noqa: PLC0415 - as above

    topics = bus.topics()
    if name in topics:
        return topics[name]
    close = get_close_matches(name, topics, n=1)
    message = f"Topic {name} does not exist"
    hint = f"Did you mean {close[0]}?" if close else "`send --create-partitions 4` makes it"
    raise UnknownTopicError(message, hint=hint)
