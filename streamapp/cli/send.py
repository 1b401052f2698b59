"""``streamapp send``: records from the command line or from standard input."""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, BinaryIO

import msgspec
from typer import Argument, Option

from streamapp.cli.options import BrokerUrl, Datadir, TopicName, opened, topic_of
from streamapp.core.batch import TP, Headers, OutRecord
from streamapp.errors import DecodeError, UsageError
from streamapp.serde.strict_json import check_depth
from streamapp.transport.broker import TopicSpec
from streamapp.transport.partitioner import partition_for_key

if TYPE_CHECKING:
    from streamapp.transport.broker import Broker

#: Bytes of one read of standard input, some thousand short records: what one append writes. A pipe
#: gives what is there, so a slow producer's lines do not wait for more.
_READ_BYTES = 1 << 17

Value = Annotated[
    str | None, Argument(metavar="[JSON]", help="The value; without it, each line of stdin is one.")
]
Key = Annotated[str | None, Option("-k", "--key", help="Key of every record.")]
KeyField = Annotated[str | None, Option(help="Take the key from this field of the value.")]
Header = Annotated[
    list[str] | None, Option("-H", "--header", help="Header, NAME=VALUE; repeatable.")
]
Partition = Annotated[
    int | None, Option("-p", "--partition", help="Write to this partition.", min=0)
]
Create = Annotated[int | None, Option(help="Create the topic, with N partitions.", min=1)]
Raw = Annotated[bool, Option("--raw", help="Send values as they are; do not check for JSON.")]


@dataclass(frozen=True, slots=True)
class Form:
    """How a line becomes a record. A record without a key goes to any partition."""

    topic: str
    partitions: int
    partition: int | None
    key: bytes | None
    key_field: str | None
    headers: Headers
    is_raw: bool

    def record(self, line: bytes, timestamp_ms: int, spare_partition: int) -> OutRecord:
        """Make the record of one line.

        Raises:
            DecodeError: The line is not JSON that a worker takes, or lacks the field of the key.
        """
        key = self.key
        if not self.is_raw:
            try:
                check_depth(line)
                value = msgspec.json.decode(line)
            except ValueError as error:
                message = f"not JSON ({error})"
                raise DecodeError(message) from error
            if self.key_field is not None:
                key = _field(value, self.key_field)
        partition = self.partition
        if partition is None:
            partition = spare_partition if key is None else partition_for_key(key, self.partitions)
        return OutRecord(TP(self.topic, partition), key, line, timestamp_ms, self.headers)


def send(
    topic: TopicName,
    value: Value = None,
    *,
    key: Key = None,
    key_field: KeyField = None,
    header: Header = None,
    partition: Partition = None,
    create_partitions: Create = None,
    raw: Raw = False,
    broker: BrokerUrl = None,
    datadir: Datadir = None,
) -> None:
    """Send one record, or each line of standard input as one.

    Stops at the first line that is not JSON; the lines before it are sent.
    """
    if key_field is not None and (raw or key is not None):
        message = "--key-field goes with neither --raw nor --key"
        raise UsageError(message)
    with opened(broker, datadir) as bus:
        if create_partitions is not None:
            bus.create_topic(TopicSpec(topic, create_partitions))
        form = Form(
            topic=topic,
            partitions=_partitions(bus, topic, partition),
            partition=partition,
            key=None if key is None else os.fsencode(key),
            key_field=key_field,
            headers=tuple(_header(text) for text in header or ()),
            is_raw=raw,
        )
        count = (
            _send(bus, form, _lines(sys.stdin.buffer))
            if value is None
            else _send_one(bus, form, os.fsencode(value))
        )
    print(f"Sent {count:,} record{'' if count == 1 else 's'} to {topic}", file=sys.stderr)


def _send_one(bus: "Broker", form: Form, value: bytes) -> int:
    """Append one value; return the number of records.

    Raises:
        DecodeError: It is not JSON, or lacks the field of the key.
    """
    now_ms = time.time_ns() // 1_000_000
    try:
        record = form.record(value, now_ms, now_ms % form.partitions)
    except DecodeError as error:
        message = f"The value is {error}"
        raise DecodeError(message, hint="--raw sends any text") from error
    return len(bus.append([record]))


def _send(bus: "Broker", form: Form, groups: Iterator[list[bytes]]) -> int:
    """Append each group of lines as one batch; return the number of records.

    Raises:
        DecodeError: A bad line; everything before it is sent, nothing after it.
    """
    sent = number = 0
    for turn, lines in enumerate(groups):
        now_ms = time.time_ns() // 1_000_000
        spare = (now_ms + turn) % form.partitions
        records: list[OutRecord] = []
        fault: DecodeError | None = None
        for line in lines:
            number += 1
            if not line.strip():
                continue
            try:
                records.append(form.record(line, now_ms, spare))
            except DecodeError as error:
                fault = error
                break
        sent += len(bus.append(records)) if records else 0
        if fault is not None:
            message = f"Line {number} is {fault}; {sent:,} records before it were sent"
            hint = f"Correct it and go on from there (tail -n +{number}); --raw sends any text"
            raise DecodeError(message, hint=hint) from fault
    return sent


def _lines(stream: BinaryIO) -> Iterator[list[bytes]]:
    """Yield complete lines, without their ends, as many as are there at a time."""
    if stream.isatty():
        print("One record a line; Ctrl-D ends.", file=sys.stderr)
    rest = b""
    read = getattr(stream, "read1", stream.read)
    while chunk := read(_READ_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        yield [line.removesuffix(b"\r") for line in lines]
    if rest:
        yield [rest]


def _partitions(bus: "Broker", topic: str, partition: int | None) -> int:
    """Return how many partitions the topic has; the wanted one must be among them."""
    count = topic_of(bus, topic).spec.partitions
    if partition is not None and partition >= count:
        message = f"Topic {topic} has no partition {partition}"
        raise UsageError(message, hint=f"It has {count}, numbered from 0")
    return count


def _field(value: object, name: str) -> bytes:
    """Return the field as a key: text as it is, anything else as its JSON."""
    if not isinstance(value, dict) or name not in value:
        message = f"without the field {name} of the key"
        raise DecodeError(message)
    field = value[name]
    return field.encode() if isinstance(field, str) else msgspec.json.encode(field)


def _header(text: str) -> tuple[str, bytes]:
    """Split ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        message = f"{text!r} is not a header"
        raise UsageError(message, hint="Write -H NAME=VALUE")
    if any("\ud800" <= character <= "\udfff" for character in name):  # no UTF-8: see os.fsdecode
        message = f"The name of the header {text!r} is not UTF-8"
        raise UsageError(message, hint="Only the value of a header may be any bytes")
    return name, os.fsencode(value)
