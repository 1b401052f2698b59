"""Repartitioned streams: the new key, by a field or a function, and the way through a topic."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_type_hints

from streamapp.errors import UsageError

if TYPE_CHECKING:
    from streamapp.engine.stream import Stream
    from streamapp.engine.topic import Topic

#: Types of fields that make keys of their own type.
_KEY_TYPES = (str, int, float, bytes)


def key_function(key: Any) -> tuple[Callable[[Any], Any], str]:
    """Return the function from a value to its new key, and a name for it.

    Raises:
        UsageError: ``key`` is neither a field nor a function.
    """
    name = _field(key)
    if name is not None:
        return (
            lambda value: value[name] if isinstance(value, dict) else getattr(value, name)
        ), name
    if not callable(key):
        msg = f"group_by cannot use {key!r} as a key"
        raise UsageError(msg, hint="Give a field's name or a function of the value")
    return key, getattr(key, "__name__", "").strip("<>") or "key"


def key_type_of(key: Any, model: Any) -> Any:
    """Return the type of the new key where the record's class declares it; ``None`` elsewhere."""
    try:
        declared = get_type_hints(model).get(_field(key) or "")
    except (NameError, TypeError):
        return None
    return declared if declared in _KEY_TYPES else None


def _field(key: Any) -> str | None:
    name = key if isinstance(key, str) else getattr(key, "field", None)
    return name if isinstance(name, str) else None


def regrouped(
    source: Stream, key: Any, name: str | None, topic: Any, partitions: int | None
) -> tuple[Topic, Callable[[Any], Any]]:
    """Return where the records of a stream go by another key, and the function that makes it.

    Arguments as of ``Stream.group_by``, which says more.
    """
    choose, label = key_function(key)
    if topic is None:
        topic = source.app.engine.repartition_topic(
            source.channel, source.prefix, name or label, partitions
        )
        declared = key_type_of(key, source.channel.value_type)
        if declared is not None:
            topic = topic.derive_topic(key_type=declared, value_type=topic.value_type)
    return topic, choose


def forwarded(source: Stream, target: Topic, choose: Callable[[Any], Any] | None) -> Stream:
    """Send every value of a stream to a topic, under the key it has or is given, and read that."""

    async def forward(source: Stream) -> None:
        async for event in source.events():
            key = event.key if choose is None else choose(event.value)
            await target.send(key=key, value=event.value)

    source.app.engine.run_beside(source, forward)
    found: Stream = source.app.stream(
        target, prefix=source.prefix, concurrency_index=source.concurrency_index
    )
    found._prev = source  # noqa: SLF001 - Faust's chain of streams
    return found
