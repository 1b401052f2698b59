"""``streamapp tail``: the records of a topic, outside of any group."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import nlargest
from itertools import chain, islice, repeat
from typing import Annotated, NamedTuple

from typer import Option

from streamapp.cli.options import AsJson, BrokerUrl, Datadir, TopicName, opened, topic_of
from streamapp.cli.show import print_json, readable, structured, timestamp
from streamapp.core.batch import TP, Headers, RecordBatch
from streamapp.errors import UsageError
from streamapp.transport.broker import OffsetRange, Reader

_LAST = 10
_POLL_S = 0.5
_POLL_RECORDS = 5_000

Last = Annotated[
    int | None,
    Option("-n", "--number", help="How many.", show_default="10; all with --from", min=1),
]
Follow = Annotated[bool, Option("-f", "--follow", help="Go on with what comes, until Ctrl-C.")]
From = Annotated[
    str | None,
    Option("--from", help="earliest, latest, an offset, or a time (2026-01-31T12:00Z)."),
]
OnlyKey = Annotated[str | None, Option("-k", "--key", help="Only records of this key.")]


class Seen(NamedTuple):
    """A record as it was read; sorts by time, then place."""

    timestamp_ms: int
    tp: TP
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class Matches:
    """Which records are wanted: those of a key, those from a time on."""

    key: bytes | None
    since_ms: int | None

    def __call__(self, seen: Seen) -> bool:
        """Return whether the record is wanted."""
        if self.since_ms is not None and seen.timestamp_ms < self.since_ms:
            return False
        return self.key is None or seen.key == self.key


def tail(
    topic: TopicName,
    *,
    number: Last = None,
    follow: Follow = False,
    from_: From = None,
    key: OnlyKey = None,
    as_json: AsJson = False,
    broker: BrokerUrl = None,
    datadir: Datadir = None,
) -> None:
    """Print the records of a topic.

    The last ones, oldest first; with --from, those from a place on.
    """
    matches = Matches(None if key is None else key.encode(), _time(from_))
    with opened(broker, datadir) as bus:
        count = topic_of(bus, topic).spec.partitions
        ranges = bus.offsets([TP(topic, partition) for partition in range(count)])
        reader = bus.reader()
        try:
            if from_ is None:
                last = number or _LAST
                # The last records of one key may be anywhere, those of all keys are at the end.
                reader.assign(_before_end(ranges, None if matches.key else last))
                found = iter(sorted(nlargest(last, filter(matches, _backlog(reader, ranges)))))
                number = None
            else:
                reader.assign({tp: _position(from_, have) for tp, have in ranges.items()})
                found = filter(matches, _backlog(reader, ranges))
            if follow:
                found = chain(found, filter(matches, _arriving(reader)))
            _print_all(islice(found, number), as_json=as_json)
        finally:
            reader.close()


def _print_all(records: Iterable[Seen], *, as_json: bool) -> None:
    """Print records as they come; Ctrl-C is the usual end of following."""
    try:
        for seen in records:
            if as_json:
                print_json(_document(seen))
            else:
                when, where = timestamp(seen.timestamp_ms), f"{seen.tp.partition}:{seen.offset}"
                print(f"{when}  {where:>8}  {readable(seen.key)}  {readable(seen.value)}")
            sys.stdout.flush()
    except KeyboardInterrupt:
        return


def _document(seen: Seen) -> dict[str, object]:
    """Return the record as ``--json`` writes it."""
    return {
        "topic": seen.tp.topic,
        "partition": seen.tp.partition,
        "offset": seen.offset,
        "timestamp_ms": seen.timestamp_ms,
        "key": structured(seen.key),
        "value": structured(seen.value),
        "headers": [[name, structured(value)] for name, value in seen.headers],
    }


def _before_end(ranges: Mapping[TP, OffsetRange], last: int | None) -> dict[TP, int]:
    """Return the positions ``last`` offsets before the ends; the beginnings for ``None``."""
    if last is None:
        return {tp: have.earliest for tp, have in ranges.items()}
    return {tp: max(have.earliest, have.end - last) for tp, have in ranges.items()}


def _position(place: str, have: OffsetRange) -> int:
    """Return where to begin in one partition; for a time, at its beginning: no index of times."""
    if place == "latest":
        return have.end
    return min(int(place), have.end) if place.isdecimal() else have.earliest


def _time(place: str | None) -> int | None:
    """Return the epoch milliseconds that ``--from`` names; ``None`` where it names no time."""
    if place is None or place in {"earliest", "latest"} or place.isdecimal():
        return None
    try:
        when = datetime.fromisoformat(place)
    except ValueError as error:
        message = f"--from {place!r} is no place in a topic"
        hint = "Write earliest, latest, an offset, or a time such as 2026-01-31T12:00Z"
        raise UsageError(message, hint=hint) from error
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return int(when.timestamp() * 1_000)


def _backlog(reader: Reader, ranges: Mapping[TP, OffsetRange]) -> Iterator[Seen]:
    """Yield the records up to the ends that were seen at the start.

    What compaction took from the end never comes: a poll without any record ends it too.
    """
    missing = {tp: have.end for tp, have in ranges.items() if have.end > have.earliest}
    while missing and (batches := reader.poll(_POLL_S, _POLL_RECORDS)):
        for batch in batches:
            yield from _rows(batch)
            if batch.next_offset >= missing.get(batch.tp, 0):
                missing.pop(batch.tp, None)


def _arriving(reader: Reader) -> Iterator[Seen]:
    """Yield what comes, without end."""
    while True:
        for batch in reader.poll(_POLL_S, _POLL_RECORDS):
            yield from _rows(batch)


def _rows(batch: RecordBatch) -> Iterator[Seen]:
    """Yield the records of a batch."""
    headers: Iterable[Headers] = repeat(()) if batch.headers is None else batch.headers
    columns = zip(batch.timestamps, batch.offsets, batch.keys, batch.values, headers, strict=False)
    for timestamp_ms, offset, key, value, some in columns:
        yield Seen(timestamp_ms, batch.tp, offset, key, value, some)
