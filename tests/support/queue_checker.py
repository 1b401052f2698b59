"""Tells what is wrong with a run of a streaming application, out of what it left in the cluster.

In the style of Jepsen's workload for queues: nothing is asked of the application. What producers
were told, the logs of all topics and the positions that were committed are held against what the
input must lead to. Pure: whoever reads the cluster, and whoever knows the application, come before.

Three things may look like faults and are none: with ``at_once`` outputs repeat after a crash, and
run ahead of the commit; a changelog leaves out states of a row between two commits; a record whose
producer was told nothing is there or not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class Kind(Enum):
    """What is wrong."""

    LOST = "lost"
    DUPLICATED = "duplicated"
    REORDERED = "reordered"
    UNEXPECTED = "unexpected"
    OFFSETS = "inconsistent offsets"
    DIVERGED = "diverged from the input"
    OWNED_TWICE = "owned twice"


class Anomaly(NamedTuple):
    """One fault and where it is."""

    kind: Kind
    where: Hashable
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.kind.value}: {self.what}"


class Sent(NamedTuple):
    """A record of the input, any ``body`` that has a hash; ``offset`` as told, or as found."""

    partition: int
    offset: int
    body: Any


class Commit(NamedTuple):
    """A position that the group took, and from whom."""

    partition: Hashable
    owner: str
    offset: int


#: A row, by its partition and key.
Row = tuple[int, Hashable]
#: By whatever keeps its order (a partition and a key): what was sent, each of it once.
Lanes = Mapping[Hashable, Sequence[Hashable]]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the input leads to.

    ``due`` outputs are those of committed input, ``rest`` of what follows. ``letters`` and ``rows``
    are of committed input; ``rows`` are the states of each row in their order, ``None`` is absent.
    """

    due: Lanes = field(default_factory=dict)
    rest: Lanes = field(default_factory=dict)
    letters: Mapping[Hashable, int] = field(default_factory=dict)
    rows: Mapping[str, Mapping[Row, Sequence[Hashable]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """What there is: logs in the order of their offsets, commits in that of the coordinator.

    ``acknowledged`` is in the order of sending; ``unanswered`` may be in the input or not. ``ends``
    are those of the partitions that are committed.
    """

    acknowledged: list[Sent] = field(default_factory=list)
    unanswered: list[Hashable] = field(default_factory=list)
    input: list[Sent] = field(default_factory=list)
    outputs: dict[Hashable, list[Hashable]] = field(default_factory=dict)
    letters: dict[Hashable, int] = field(default_factory=dict)
    rows: dict[str, dict[Row, list[Hashable]]] = field(default_factory=dict)
    commits: list[Commit] = field(default_factory=list)
    ends: dict[Hashable, int] = field(default_factory=dict)


def anomalies(expected: Expected, found: Found, *, at_once: bool) -> list[Anomaly]:
    """Return all that is wrong; ``at_once`` if outputs leave before the commit."""
    return [
        *_of_acknowledged(found),
        *_of_input(found),
        *_of_commits(found),
        *_of_outputs(expected, found, at_once=at_once),
        *_of_letters(expected.letters, found.letters),
        *_of_rows(expected, found),
    ]


def _of_acknowledged(found: Found) -> Iterator[Anomaly]:
    log = {(one.partition, one.offset): one.body for one in found.input}
    bodies = Counter((one.partition, one.body) for one in found.input)
    told = Counter((one.partition, one.body) for one in found.acknowledged)
    for one in found.acknowledged:
        where = "input", one.partition, one.offset
        if bodies[one.partition, one.body] < told[one.partition, one.body]:
            yield Anomaly(Kind.LOST, where, f"{one.body!r} was acknowledged")
        elif log.get((one.partition, one.offset)) != one.body:
            yield Anomaly(Kind.OFFSETS, where, f"{one.body!r} was acknowledged here, is elsewhere")


def _of_input(found: Found) -> Iterator[Anomaly]:
    sent = Counter(one.body for one in found.acknowledged) + Counter(found.unanswered)
    for body, count in Counter(one.body for one in found.input).items():
        if count > sent[body]:
            kind = Kind.DUPLICATED if sent[body] else Kind.UNEXPECTED
            yield Anomaly(kind, "input", f"{body!r}, sent {sent[body]} times, is there {count}")
    for partition, offsets in _grouped((s.partition, s.offset) for s in found.acknowledged).items():
        for before, after in pairwise(offsets):
            if before >= after:
                what = f"offset {before} was acknowledged before {after}"
                yield Anomaly(Kind.REORDERED, ("input", partition), what)


def _of_commits(found: Found) -> Iterator[Anomaly]:
    for partition, commits in _grouped((one.partition, one) for one in found.commits).items():
        for before, after in pairwise(commits):
            if after.offset < before.offset:
                what = f"{after.offset} was committed after {before.offset}"
                yield Anomaly(Kind.OFFSETS, partition, what)
            elif before.owner != after.owner and after.offset != before.offset:
                # Whoever takes over repeats the position: who does not had it all the time.
                what = f"{after} follows {before}"
                yield Anomaly(Kind.OWNED_TWICE, partition, what)
        end = found.ends.get(partition)
        if end is not None and commits[-1].offset > end:
            what = f"{commits[-1].offset} is committed, the log ends at {end}"
            yield Anomaly(Kind.OFFSETS, partition, what)


def _of_outputs(expected: Expected, found: Found, *, at_once: bool) -> Iterator[Anomaly]:
    for lane in _keys(expected.due, expected.rest, found.outputs):
        due, sent = expected.due.get(lane, ()), Counter(found.outputs.get(lane, ()))
        allowed = [*due, *(expected.rest.get(lane, ()) if at_once else ())]
        for body in due:
            if not sent[body]:
                yield Anomaly(Kind.LOST, lane, f"output {body!r}")
        for body, times in sent.items():
            if body not in allowed:
                yield Anomaly(Kind.UNEXPECTED, lane, f"output {body!r}")
            elif times > 1 and not at_once:
                yield Anomaly(Kind.DUPLICATED, lane, f"output {body!r}, {times} times")
        yield from _of_order(lane, [one for one in allowed if one in sent], sent)


def _of_order(
    lane: Hashable, wanted: Sequence[Hashable], sent: Iterable[Hashable]
) -> Iterator[Anomaly]:
    """Hold the first of each output against the order of what it comes from."""
    firsts = [one for one in sent if one in wanted]
    for have, want in zip(firsts, wanted, strict=True):
        if have != want:
            yield Anomaly(Kind.REORDERED, lane, f"output {have!r} stands before {want!r}")
            return


def _of_letters(due: Mapping[Hashable, int], found: Mapping[Hashable, int]) -> Iterator[Anomaly]:
    for about in _keys(due, found):
        want, have = due.get(about, 0), found.get(about, 0)
        what = f"dead letter, {want} expected, {have} found"
        if have < want:
            yield Anomaly(Kind.LOST, about, what)
        elif have > want:
            yield Anomaly(Kind.DUPLICATED if want else Kind.UNEXPECTED, about, what)


def _of_rows(expected: Expected, found: Found) -> Iterator[Anomaly]:
    for table in _keys(expected.rows, found.rows):
        due, have = expected.rows.get(table, {}), found.rows.get(table, {})
        for row in _keys(due, have):
            yield from _of_row((table, *row), due.get(row, ()), have.get(row, ()))


def _of_row(
    where: Hashable, states: Sequence[Hashable], written: Sequence[Hashable]
) -> Iterator[Anomaly]:
    """Hold a row's changelog against its states: some of them, in their order, and the last."""
    at = 0
    for value in written:
        later = next((i for i in range(at, len(states)) if states[i] == value), None)
        if later is None:
            kind = Kind.REORDERED if value in states else Kind.UNEXPECTED
            yield Anomaly(kind, where, f"row {value!r} after {states[at : at + 1]}")
            return
        at = later
    want = states[-1] if states else None
    have = written[-1] if written else None
    if have != want:
        yield Anomaly(Kind.DIVERGED, where, f"row {want!r} expected, {have!r} found")


def _grouped(pairs: Iterable[tuple[_K, _V]]) -> dict[_K, list[_V]]:
    found: dict[_K, list[_V]] = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return found


def _keys(*mappings: Mapping[_K, object]) -> Iterator[_K]:
    return iter(dict.fromkeys(key for mapping in mappings for key in mapping))
