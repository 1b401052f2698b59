"""``streamapp tail``: the records of a topic, outside of any group."""

import os
import sys
import time
from collections import Counter
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
#: Times as many offsets that are looked at when the last ones did not hold enough records.
_FURTHER = 8
#: Seconds without a record after which there is none to wait for; a cluster far away needs some.
_SILENCE_S = 3.0

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
    matches = Matches(None if key is None else os.fsencode(key), _time(from_))
    with opened(broker, datadir, may_create=False) as bus:
        count = topic_of(bus, topic).spec.partitions
        ranges = bus.offsets([TP(topic, partition) for partition in range(count)])
        reader = bus.reader()
        try:
            if from_ is None:
                found, number = iter(_last(reader, ranges, matches, number or _LAST)), None
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


def _last(
    reader: Reader, ranges: Mapping[TP, OffsetRange], matches: Matches, wanted: int
) -> list[Seen]:
    """Return the last records, oldest first; goes back further where offsets hold none.

    Offsets tell nothing of records: Kafka's commits take some for themselves, compaction empties
    others. The last records of one key may be anywhere.
    """
    span = wanted
    while True:
        starts = {tp: max(have.earliest, have.end - span) for tp, have in ranges.items()}
        if matches.key is not None:
            starts = {tp: have.earliest for tp, have in ranges.items()}
        reader.assign(starts)
        counts: Counter[TP] = Counter()
        backlog = _counted(_backlog(reader, ranges), counts)
        found = nlargest(wanted, filter(matches, backlog))
        if all(counts[tp] >= wanted or starts[tp] == ranges[tp].earliest for tp in ranges):
            return sorted(found)
        span *= _FURTHER


def _counted(records: Iterable[Seen], counts: Counter[TP]) -> Iterator[Seen]:
    """Yield the records, and count them by partition."""
    for seen in records:
        counts[seen.tp] += 1
        yield seen


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

    Behind a commit that is being written nothing comes: silence ends it too.
    """
    silent_since = time.monotonic()
    while any(at < ranges[tp].end for tp, at in reader.positions().items()):
        for batch in reader.poll(_POLL_S, _POLL_RECORDS):
            silent_since = time.monotonic()
            yield from _rows(batch)
        if time.monotonic() - silent_since > _SILENCE_S:
            return


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
