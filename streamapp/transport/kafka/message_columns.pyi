from array import array
from collections.abc import Iterable

from confluent_kafka import Message

def take_run(
    messages: list[Message],
    start: int,
    offsets: array[int],
    timestamps: array[int],
    keys: list[bytes | None],
    values: list[bytes | None],
    headers: list[Iterable[object] | None],
) -> tuple[int, int]: ...
