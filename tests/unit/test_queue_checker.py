"""The checker of runs finds each fault that is planted into a run, and none in good ones."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.queue_checker import Commit, Expected, Found, Kind, Sent, anomalies

if TYPE_CHECKING:
    from collections.abc import Callable

BAD, GONE = 0, 5
#: What both partitions hold besides records that are drawn: something to plant each fault into.
NEEDED = [(key, value) for key in "abc" for value in (BAD, 1, 3, GONE)]
#: What is processed at the end, and what is left over in the first partition.
END = [("c", 1), ("c", GONE)]
LAST = [("a", 1), ("b", 3), ("c", 1)]


class Application:
    """Counts keys in one partition, keeps their last values, sends the odd ones on."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Any] = {}

    def take(self, one: Sent) -> tuple[list[int], int, dict[tuple[str, str], Any]]:
        """Return the outputs, the number of dead letters, and the new state of rows."""
        key, value = one.body
        if value == BAD:
            return [], 1, {}
        new = {
            ("counts", key): self.rows.get(("counts", key), 0) + 1,
            ("last", key): None if value == GONE else value,
        }
        self.rows |= new
        return [one.offset] * (value % 2), 0, new


def expected_of(found: Found) -> Expected:
    """Return what the input leads to, up to the last commits."""
    due: dict[Any, list[Any]] = defaultdict(list)
    rest: dict[Any, list[Any]] = defaultdict(list)
    rows: dict[str, dict[Any, list[Any]]] = defaultdict(dict)
    letters: Counter[Any] = Counter()
    done = {one.partition: one.offset for one in found.commits}
    for p, application in enumerate([Application(), Application()]):
        for one in sorted(one for one in found.input if one.partition == p):
            outputs, bad, new = application.take(one)
            lane = p, one.body[0]
            if one.offset >= done[p]:
                rest[lane] += outputs
                continue
            due[lane] += outputs
            letters[p, one.offset] += bad
            for (table, key), state in new.items():
                rows[table].setdefault((p, key), []).append(state)
    return Expected(due, rest, +letters, rows)


def run(draw: random.Random, *, at_once: bool) -> Found:
    """Return what a good run leaves; with ``at_once`` workers die and repeat outputs."""
    found = Found(rows={"counts": {}, "last": {}})
    for p in (0, 1):
        some = [*NEEDED, *((draw.choice("abc"), draw.randrange(6)) for _ in range(6))]
        draw.shuffle(some)
        sent = [Sent(p, 2 * i, body) for i, body in enumerate([*some, *END, *LAST[: 3 - 3 * p]])]
        found.acknowledged.extend(sent)
        found.input.extend(sent)
        found.ends[p] = sent[-1].offset + 1
        _process(found, sent, draw, at_once=at_once)
    return found


def _process(found: Found, sent: list[Sent], draw: random.Random, *, at_once: bool) -> None:
    """Process a partition, with commits and new owners at random."""
    p, application, names = sent[0].partition, Application(), count()
    at, stop = 0, len(sent) if p else len(sent) - len(LAST)
    while at < stop:
        if not at or draw.random() < 0.4:
            owner = f"worker {next(names)}"
            found.commits.append(Commit(p, owner, sent[at - 1].offset + 1 if at else 0))
        if at_once:  # one that dies before its commit
            _send(found, sent[at : draw.randint(at, len(sent))])
        cut = sent[at : min(at + draw.randint(1, 4), stop)]
        _send(found, cut)
        dirty: dict[tuple[str, str], Any] = {}
        for one in cut:
            _, bad, new = application.take(one)
            dirty |= new
            if bad:
                found.letters[one.partition, one.offset] = bad
        for (table, key), state in dirty.items():
            found.rows[table].setdefault((p, key), []).append(state)
        found.commits.append(Commit(p, owner, cut[-1].offset + 1))
        at += len(cut)


def _send(found: Found, records: list[Sent]) -> None:
    for one in records:
        lane = found.outputs.setdefault((one.partition, one.body[0]), [])
        lane += Application().take(one)[0]


@given(st.integers(0, 1_000_000), st.booleans())
def test_nothing_is_found_in_good_runs(seed: int, at_once: bool) -> None:
    found = run(random.Random(seed), at_once=at_once)
    assert anomalies(expected_of(found), found, at_once=at_once) == []


# --- faults: each is done to a good run; where to is drawn ----------------------------------------


def lost_input(found: Found, draw: random.Random) -> None:
    found.input.remove(draw.choice(found.input))


def moved_input(found: Found, draw: random.Random) -> None:
    at = draw.randrange(len(found.input))
    found.input[at] = found.input[at]._replace(offset=found.input[at].offset + 1)


def doubled_input(found: Found, draw: random.Random) -> None:
    found.input.append(draw.choice(found.input)._replace(offset=999))


def strange_input(found: Found, _: random.Random) -> None:
    found.input.append(Sent(0, 999, ("a", 77)))


def swapped_input(found: Found, draw: random.Random) -> None:
    at = draw.randrange(1, len(found.input) // 2)
    one, two = found.acknowledged[at - 1], found.acknowledged[at]
    found.acknowledged[at - 1 : at + 1] = [two, one]


def _some_outputs(found: Found, draw: random.Random) -> tuple[list[Any], int]:
    """Return a lane with its outputs, and the place of one that is due and seen once."""
    due = expected_of(found).due
    places = [
        (found.outputs[lane], found.outputs[lane].index(body))
        for lane, bodies in due.items()
        for body in bodies
        if found.outputs[lane].count(body) == 1
    ]
    return draw.choice(places) if places else (found.outputs[0, "a"], 0)


def lost_output(found: Found, draw: random.Random) -> None:
    lane, bodies = draw.choice([(lane, due) for lane, due in expected_of(found).due.items() if due])
    gone = draw.choice(bodies)
    found.outputs[lane] = [one for one in found.outputs[lane] if one != gone]


def doubled_output(found: Found, draw: random.Random) -> None:
    lane, at = _some_outputs(found, draw)
    lane.insert(at, lane[at])


def changed_output(found: Found, draw: random.Random) -> None:
    lane, at = _some_outputs(found, draw)
    lane[at] = 777


def swapped_outputs(found: Found, draw: random.Random) -> None:
    lane = draw.choice([one for one in found.outputs.values() if len(set(one)) > 1])
    firsts = list(dict.fromkeys(lane))
    at = lane.index(draw.choice(firsts[1:]))
    lane.insert(0, lane.pop(at)) if lane.count(lane[at]) == 1 else lane.insert(0, lane[at])


def output_elsewhere(found: Found, draw: random.Random) -> None:
    lane, at = _some_outputs(found, draw)
    found.outputs.setdefault((0, "z"), []).append(lane.pop(at))


def uncommitted_output(found: Found, draw: random.Random) -> None:
    lane, bodies = draw.choice(
        [(lane, some) for lane, some in expected_of(found).rest.items() if some]
    )
    found.outputs[lane].append(bodies[0])


def lost_letter(found: Found, draw: random.Random) -> None:
    del found.letters[draw.choice(list(found.letters))]


def doubled_letter(found: Found, draw: random.Random) -> None:
    found.letters[draw.choice(list(found.letters))] += 1


def letter_of_good_record(found: Found, _: random.Random) -> None:
    good = next(one for one in found.input if one.body[1] != BAD)
    found.letters[good.partition, good.offset] = 1


def _written(found: Found, draw: random.Random, table: str = "counts") -> list[Any]:
    return found.rows[table][draw.choice(list(found.rows[table]))]


def lost_row(found: Found, draw: random.Random) -> None:
    _written(found, draw).pop()


def stale_row(found: Found, draw: random.Random) -> None:
    written = draw.choice([one for one in found.rows["counts"].values() if len(one) > 1])
    written.insert(draw.randrange(1, len(written)) + 1, written[0])


def row_counted_twice(found: Found, draw: random.Random) -> None:
    written = _written(found, draw)
    written[-1] += 1


def uncommitted_row(found: Found, _: random.Random) -> None:
    written: list[Any] = found.rows["counts"][0, "a"]
    written.append(written[-1] + 1)


def row_elsewhere(found: Found, draw: random.Random) -> None:
    (p, key), written = draw.choice(list(found.rows["counts"].items()))
    found.rows["counts"][1 - p, f"{key}{key}"] = written[-1:]


def lost_tombstone(found: Found, _: random.Random) -> None:
    found.rows["last"][0, "c"] = [1]


def _recommitted(found: Found, offset: int) -> None:
    last = next(one for one in reversed(found.commits) if one.partition == 0)
    found.commits.append(last._replace(offset=offset))


def position_beyond_the_work(found: Found, _: random.Random) -> None:
    _recommitted(found, found.ends[0])


def position_behind_the_work(found: Found, _: random.Random) -> None:
    found.commits[:] = [one for one in found.commits if one.partition == 1 or one.offset < 6]


def position_beyond_the_log(found: Found, _: random.Random) -> None:
    _recommitted(found, found.ends[0] + 1)


def position_that_went_back(found: Found, draw: random.Random) -> None:
    at = draw.choice(
        [i for i, one in enumerate(found.commits) if one.offset and one.partition == 0]
    )
    found.commits.insert(at + 1, found.commits[at]._replace(offset=found.commits[at].offset - 1))


def commit_of_a_former_owner(found: Found, draw: random.Random) -> None:
    mine = [i for i, one in enumerate(found.commits) if one.partition == 1]
    at = draw.choice([i for i in mine if found.commits[i - 1].offset < found.commits[i].offset])
    found.commits[at] = found.commits[at]._replace(owner="zombie")


IN_TURN = (False, True)
EXACTLY = (False,)
FAULTS: list[tuple[Callable[[Found, random.Random], None], Kind, tuple[bool, ...]]] = [
    (lost_input, Kind.LOST, IN_TURN),
    (moved_input, Kind.OFFSETS, IN_TURN),
    (doubled_input, Kind.DUPLICATED, IN_TURN),
    (strange_input, Kind.UNEXPECTED, IN_TURN),
    (swapped_input, Kind.REORDERED, IN_TURN),
    (lost_output, Kind.LOST, IN_TURN),
    (doubled_output, Kind.DUPLICATED, EXACTLY),
    (changed_output, Kind.UNEXPECTED, IN_TURN),
    (swapped_outputs, Kind.REORDERED, IN_TURN),
    (output_elsewhere, Kind.UNEXPECTED, IN_TURN),
    (uncommitted_output, Kind.UNEXPECTED, EXACTLY),
    (lost_letter, Kind.LOST, IN_TURN),
    (doubled_letter, Kind.DUPLICATED, IN_TURN),
    (letter_of_good_record, Kind.UNEXPECTED, IN_TURN),
    (lost_row, Kind.DIVERGED, IN_TURN),
    (stale_row, Kind.REORDERED, IN_TURN),
    (row_counted_twice, Kind.UNEXPECTED, IN_TURN),
    (uncommitted_row, Kind.UNEXPECTED, IN_TURN),
    (row_elsewhere, Kind.UNEXPECTED, IN_TURN),
    (lost_tombstone, Kind.DIVERGED, IN_TURN),
    (position_beyond_the_work, Kind.DIVERGED, IN_TURN),
    (position_behind_the_work, Kind.UNEXPECTED, IN_TURN),
    (position_beyond_the_log, Kind.OFFSETS, IN_TURN),
    (position_that_went_back, Kind.OFFSETS, IN_TURN),
    (commit_of_a_former_owner, Kind.OWNED_TWICE, IN_TURN),
]
CASES = [(fault, kind, at_once) for fault, kind, modes in FAULTS for at_once in modes]


@pytest.mark.parametrize(("fault", "kind", "at_once"), CASES)
def test_planted_fault_is_found(
    fault: Callable[[Found, random.Random], None],
    kind: Kind,
    at_once: bool,
) -> None:
    for seed in range(100):
        draw = random.Random(seed)
        found = run(draw, at_once=at_once)
        fault(found, draw)
        wrong = anomalies(expected_of(found), found, at_once=at_once)
        assert kind in {one.kind for one in wrong}, (seed, [str(one) for one in wrong])
