"""Random flows over two topics, each step beside what it means for a plain list of records.

A model of a step takes all records that there ever are, in any order, and returns all results: it
knows no batches, watermarks, state or commits, so it holds only where no record is late.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import streamapp

if TYPE_CHECKING:
    from streamapp.pipelines.flow import Flow

SOURCES = ("left", "right")

Value = dict[str, Any]


class Event(NamedTuple):
    """A record between two steps."""

    key: Any
    time: int
    value: Value


@dataclass(frozen=True)
class Step:
    """How a step is declared, and what it makes of all records (``None``: order decides)."""

    declare: Callable[[Flow], Flow]
    model: Callable[[list[Event]], list[Event]] | None


# --- functions of the flows --------------------------------------------------------------------


def changed(value: Value) -> Value:
    return {**value, "n": value["n"] * 2 + 1, "g": (value["g"] + 1) % 3}


def is_kept(value: Value) -> bool:
    return bool(value["n"] % 3)


def copies(value: Value) -> list[Value]:
    return [{**value, "n": value["n"] + copy} for copy in range(value["g"])]


def is_even(value: Value) -> bool:
    return value["n"] % 2 == 0


def joined(left: Value | None, right: Value | None) -> Value:
    number = (left["n"] if left else 50) * 7 + (right["n"] if right else 900)
    some = left or right or {}
    return {"k": some["k"], "g": number % 3, "n": number}


def of_row(row: Any) -> Value:
    """Go on with a window as with a record."""
    return {"k": str(row.key), "g": row.total % 3, "n": row.total, "about": [row.n, row.kind]}


# --- windows -------------------------------------------------------------------------------------


def ms(count: int) -> float:
    return count / 1_000


def windows(spec: Any, starts: Any = None, *, last: int = 1, **emission: Any) -> Step:
    """Return a step that aggregates windows and goes on with their rows, ``last`` before an end."""

    def declare(flow: Flow) -> Flow:
        opened = flow.window(spec)
        if emission:
            opened = opened.emit(**emission)
        rows = opened.aggregate(n=streamapp.count(), total=streamapp.sum("n"))
        return rows.map(of_row)

    return Step(declare, None if starts is None else lambda events: _summed(events, starts, last))


def _summed(
    events: list[Event], windows_of: Callable[[list[int]], list[tuple[int, int]]], last: int
) -> list[Event]:
    """Aggregate each key's records over ``[start, end)``, as ``windows_of`` all its times says.

    Results have happened ``last`` before the end.
    """
    by_key: dict[Any, list[Event]] = defaultdict(list)
    for event in events:
        by_key[event.key].append(event)
    found = []
    for key, mine in by_key.items():
        for start, end in windows_of([event.time for event in mine]):
            inside = [event.value["n"] for event in mine if start <= event.time < end]
            total = sum(inside)
            value = {"k": str(key), "g": total % 3, "n": total, "about": [len(inside), "final"]}
            found.append(Event(key, end - last, value))
    return found


def hops(size: int, slide: int, offset: int = 0) -> Callable[[list[int]], list[tuple[int, int]]]:
    def windows_of(times: list[int]) -> list[tuple[int, int]]:
        starts = {s for t in times for s in range(t - size + 1, t + 1) if (s - offset) % slide == 0}
        return [(start, start + size) for start in starts]

    return windows_of


def gaps(gap: int) -> Callable[[list[int]], list[tuple[int, int]]]:
    def windows_of(times: list[int]) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for time in sorted(times):
            if found and time <= found[-1][1]:
                found[-1] = (found[-1][0], time + gap)
            else:
                found.append((time, time + gap))
        return found

    return windows_of


def stateless(declare: Callable[[Flow], Flow], values: Callable[[Value], Sequence[Value]]) -> Step:
    def model(events: list[Event]) -> list[Event]:
        return [e._replace(value=value) for e in events for value in values(e.value)]

    return Step(declare, model)


def rekeyed(declare: Callable[[Flow], Flow], field_: str) -> Step:
    return Step(declare, lambda events: [e._replace(key=e.value[field_]) for e in events])


STEPS: dict[str, Step] = {
    "map": stateless(lambda flow: flow.map(changed), lambda value: [changed(value)]),
    "filter": stateless(lambda flow: flow.filter(is_kept), lambda value: [value] * is_kept(value)),
    "flat_map": stateless(lambda flow: flow.flat_map(copies, into=dict[str, Any]), copies),
    "key_by": rekeyed(lambda flow: flow.key_by("k"), "k"),
    "group_by": rekeyed(lambda flow: flow.group_by("g"), "g"),
    "tumbling": windows(streamapp.tumbling(ms(5), offset=ms(2)), hops(5, 5, 2)),
    "hopping": windows(streamapp.hopping(ms(7), ms(3)), hops(7, 3)),
    "session": windows(streamapp.session(ms(3)), gaps(3), last=0),
    "lasting": windows(streamapp.tumbling(ms(5), late=ms(6)), hops(5, 5)),
    "every": windows(streamapp.tumbling(ms(20)), every=ms(4)),
    "sliding": windows(streamapp.sliding(ms(4), late=ms(3))),
    "dedup": Step(lambda flow: flow.dedup("n", within=ms(6)), None),
    "count": windows(streamapp.count_window(3)),
}
#: Steps whose results depend on where commits are.
PER_COMMIT: dict[str, Step] = {
    "updates": windows(streamapp.tumbling(ms(20), late=ms(6)), on="update"),
    "news": windows(streamapp.session(ms(3), late=ms(6)), on="update"),
    "so_far": windows(streamapp.global_window(count=4), on="update"),
}
MODELLED = [name for name, step in STEPS.items() if step.model is not None]


# --- how two sources become one flow -------------------------------------------------------------


def _one(left: Flow, right: Flow) -> Flow:
    del right
    return left


def _merged(left: Flow, right: Flow) -> Flow:
    return left.merge(right)


def _branched(left: Flow, right: Flow) -> Flow:
    both = left.branch(even=is_even, odd=lambda _: True)
    return both["even"].map(changed).merge(both["odd"], right)


def _joined(left: Flow, right: Flow) -> Flow:
    return left.join(right, before=ms(3), after=ms(2), combine=joined)


def _outer(left: Flow, right: Flow) -> Flow:
    return left.join(right, before=ms(3), after=ms(2), kind="outer", combine=joined)


def _as_of(left: Flow, right: Flow) -> Flow:
    return left.join_as_of(right, within=ms(9), kind="left", combine=joined)


def _self_joined(left: Flow, right: Flow) -> Flow:
    del right
    return left.join(left, before=ms(2), combine=joined)


def _of_self(left: Flow, right: Flow) -> Flow:
    return left.merge(right, left)


def _pairs(left: list[Event], right: list[Event], before: int, after: int) -> list[Event]:
    return [
        Event(a.key, max(a.time, b.time), joined(a.value, b.value))
        for a in left
        for b in right
        if a.key == b.key and -before <= b.time - a.time <= after
    ]


def _outer_model(left: list[Event], right: list[Event]) -> list[Event]:
    def meet(a: Event, b: Event) -> bool:
        return a.key == b.key and -3 <= b.time - a.time <= 2

    alone = [
        Event(a.key, a.time + 2, joined(a.value, None))
        for a in left
        if not any(meet(a, b) for b in right)
    ]
    alone += [
        Event(b.key, b.time + 3, joined(None, b.value))
        for b in right
        if not any(meet(a, b) for a in left)
    ]
    return alone + _pairs(left, right, 3, 2)


def _branched_model(left: list[Event], right: list[Event]) -> list[Event]:
    return right + [e._replace(value=changed(e.value)) if is_even(e.value) else e for e in left]


@dataclass(frozen=True)
class Head:
    """How the sources come together. ``uses`` are those that it reads."""

    declare: Callable[[Flow, Flow], Flow]
    model: Callable[[list[Event], list[Event]], list[Event]] | None
    uses: tuple[str, ...] = SOURCES


HEADS: dict[str, Head] = {
    "one": Head(_one, lambda left, _: left, ("left",)),
    "self": Head(_self_joined, lambda left, _: _pairs(left, left, 2, 0), ("left",)),
    "again": Head(_of_self, lambda left, right: left + right + left),
    "merge": Head(_merged, lambda left, right: left + right),
    "branch": Head(_branched, _branched_model),
    "join": Head(_joined, lambda left, right: _pairs(left, right, 3, 2)),
    "outer": Head(_outer, _outer_model),
    "as_of": Head(_as_of, None),
}
