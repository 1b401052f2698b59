"""Bad records meet a real worker: each becomes a dead letter, and the good one behind it counts.

One worker serves all cases: every bad record is followed by a good one in the same partition.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from streamapp.core.batch import TP, OutRecord
from streamapp.transport.broker import TopicSpec
from streamapp.transport.connect import open_broker

if TYPE_CHECKING:
    from streamapp.core.batch import Headers, RecordBatch
    from streamapp.transport.broker import Broker

TESTS = Path(__file__).parents[1]
DEADLINE_S = 60.0
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Case:
    """A record, and what the dead letter says of it (nothing: it is accepted)."""

    topic: str
    value: bytes | None
    cause: str = ""
    key: bytes | None = b"7"
    answer: list[Any] = field(default_factory=list)


def bad(topic: str, value: bytes | None, cause: str, *, key: bytes | None = b"7") -> Case:
    return Case(topic, value, cause, key)


def good(topic: str, value: bytes, *answer: object) -> Case:
    return Case(topic, value, answer=list(answer))


def deed(value: str, cause: str) -> Case:
    return Case("deeds", value.encode(), cause)


JSON = r"DecodeError: not valid JSON.*: "
CASES = {
    "empty": bad("orders", b"", JSON + "Input data was truncated"),
    "null": bad("orders", None, r"DecodeError: null value \(tombstone\).*Set allow_empty=True"),
    "no UTF-8": bad("orders", b'{"id": 1, "note": "\xff"}', JSON + r"invalid UTF-8 \(byte 19\)"),
    "no UTF-8 in a field not read": bad("orders", b'{"id": 1, "x": "\xff"}', JSON + "invalid UTF"),
    "truncated": bad("orders", b'{"id": 1, "am', JSON + "Input data was truncated"),
    "two documents": bad("orders", b'{"id": 1}{"id": 2}', JSON + "JSON is malformed"),
    "not an object": bad("orders", b"[1]", JSON + "Expected `object`, got `array`"),
    "wrong type": bad("orders", b'{"id": "one"}', JSON + r"Expected `int`, got `str` - at `\$.id`"),
    "missing field": bad("orders", b"{}", JSON + "Object missing required field `id`"),
    "NaN": bad("orders", b'{"id": 1, "amount": NaN}', JSON + "JSON is malformed"),
    "Infinity": bad("orders", b'{"id": 1, "amount": -Infinity}', JSON + "JSON is malformed"),
    "1e999": bad("orders", b'{"id": 1, "amount": 1e999}', JSON + "Number out of range"),
    "lone surrogate": bad(
        "orders", rb'{"id": 1, "note": "\ud800 "}', JSON + "Input data was truncated"
    ),
    "10,000 digits": bad("orders", b'{"id": ' + b"9" * 10_000 + b"}", JSON),
    "deep": bad("anything", b"[" * 100_000 + b"]" * 100_000, JSON + "nested deeper than 128"),
    "deep and open": bad("anything", b'{"a":' * 100_000, JSON),
    "deep field not read": bad(
        "orders", b'{"id": 1, "x": ' + b"[" * 200 + b"]" * 200 + b"}", JSON + "nested deeper"
    ),
    "9 MiB": bad("anything", b'"%s"' % (b"x" * 9 * MIB), JSON + "9437186 bytes, more than the bou"),
    "no key": bad("keyed", b'{"id": 1}', "DecodeError: .*", key=b"seven"),
    "empty key": bad("keyed", b'{"id": 1}', "DecodeError: .*", key=b""),
    "no UTF-8 as a value of text": bad(
        "deeds", b"\xff", "DecodeError: not valid str.* invalid UTF"
    ),
    "1 MiB": good("anything", b'"%s"' % (b"x" * MIB), "str", MIB),
    "beyond 64 bits": good("anything", b"%d" % (1 << 70), "int", 1 << 70),
    "duplicate names": good("orders", b'{"id": 1, "id": 2}', 2),
    "null key": Case("keyed", b'{"id": 5}', key=None, answer=[None, 5]),
    "store NaN": deed("store NaN", "EncodeError: Table totals, key 'a': .* JSON has no nan"),
    "store an object": deed(
        "store an object",
        "EncodeError: Table totals, key 'a': a value of type object ",
    ),
    "store what contains itself": deed("store what contains itself", "EncodeError: .* nested too"),
    "store under a lone surrogate": deed(
        "store under a lone surrogate", r"InputError: Table key '\\ud800' is not valid Unicode. Rem"
    ),
    "store under NaN": deed("store under NaN", "InputError: NaN cannot be a table key"),
    "store a lone surrogate": deed("store a lone surrogate", "EncodeError: .* lone surrogate"),
    "store another type": deed("store another type", "EncodeError: Table counts, key 'a': .*"),
    "read an absent row": deed("read an absent row", "KeyError: 'absent'"),
    "fail with a lone surrogate": deed("fail with a lone surrogate", r"ValueError: \\ud800$"),
    "fail with a long text": deed("fail with a long text", "ValueError: xxx"),
    "fail without words": deed("fail without words", "_Mute"),
    "be cancelled": deed("be cancelled", "RuntimeError: Something that the event waited for was"),
    "send NaN": deed("send NaN", "EncodeError: .* JSON has no nan"),
    "send to an unknown partition": deed(
        "send to an unknown partition", "UsageError: Topic done has no partition 9. It has 1,"
    ),
    "send to an unknown topic": deed(
        "send to an unknown topic", "UnknownTopicError: Topic nowhere does not exist. Create it, or"
    ),
}
#: Name of a case -> number of the record behind it.
NUMBERS = {name: number for number, name in enumerate(CASES, 1_000)}
#: The good record behind each one, and what its agent answers.
BEHIND = {"orders": b'{"id": %d}', "anything": b"%d", "keyed": b'{"id": %d}', "deeds": b"good"}
AGENTS = {
    "orders": ("typed", "wide", "grouped"),
    "anything": ("open",),
    "keyed": ("keyed",),
    "deeds": ("doer",),
}
#: Failures of the data itself: trying again, as the doer's policy does, would not cure them.
NOT_TRIED_AGAIN = ("DecodeError", "EncodeError", "InputError")
HEADERS: Headers = (("trace", b"\xff\x00"), ("trace", b"again"))
LETTERS, DONE = TP("bad-dead-letters", 0), TP("done", 0)


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, its headers in two parts: the record's own, and those that explain."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    own: Headers
    about: dict[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """What there is once the worker has seen everything and has ended."""

    offsets: dict[str, int]
    letters: dict[tuple[str, str, int], Letter]
    answers: list[list[Any]]
    status: int
    log: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("bad-input")
    with closing(open_broker("sqlite://", folder / "data")) as broker:
        for topic in (*BEHIND, "done"):
            broker.create_topic(TopicSpec(topic, 1))
        offsets = {name: _send(broker, NUMBERS[name], case) for name, case in CASES.items()}
        status = _work(broker, folder)
        letters = [_letter(*place) for place in _read(broker, LETTERS)]
        answers = [json.loads(batch.values[at] or b"") for batch, at in _read(broker, DONE)]
    by_place = {
        (one.about["agent"], one.about["topic"], int(one.about["offset"])): one for one in letters
    }
    assert len(by_place) == len(letters), "an agent has sent two letters about one record"
    return Run(offsets, by_place, answers, status, (folder / "log").read_text())


def _send(broker: Broker, number: int, case: Case) -> int:
    """Append the record and a good one; return the offset of the first."""
    tp = TP(case.topic, 0)
    behind = BEHIND[case.topic]
    value = behind % number if b"%" in behind else behind
    pair = [
        OutRecord(tp, case.key, case.value, number, HEADERS),
        OutRecord(tp, b"7", value, number),
    ]
    return broker.append(pair)[0]


def _work(broker: Broker, folder: Path) -> int:
    """Let a worker run until it has dealt with all records; return its exit status."""
    env = {
        **os.environ,
        "BAD_DATADIR": str(folder / "data"),
        "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}",
    }
    command = [sys.executable, "-m", "faust", "-A", "support.bad_input_app", "worker"]
    with (folder / "log").open("w") as log:
        worker = subprocess.Popen(
            [*command, "--without-web", "-l", "info"], cwd=folder, env=env, stdout=log, stderr=log
        )
        try:
            deadline = time.monotonic() + DEADLINE_S
            while _is_behind(broker) and worker.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            worker.send_signal(signal.SIGTERM)
            return worker.wait(timeout=30)
        finally:
            worker.kill()
            worker.wait()


def _is_behind(broker: Broker) -> bool:
    tps = [TP(topic, 0) for topic in BEHIND]
    committed = broker.committed("bad", tps)
    ends = broker.offsets(tps)
    return any(tp not in committed or committed[tp].offset < ends[tp].end for tp in tps)


def _read(broker: Broker, tp: TP) -> list[tuple[RecordBatch, int]]:
    """Return the places of all records of a partition."""
    end = broker.offsets([tp])[tp].end
    batches: list[RecordBatch] = []
    with closing(broker.reader()) as reader:
        reader.assign({tp: 0})
        deadline = time.monotonic() + DEADLINE_S
        while (batches[-1].next_offset if batches else 0) < end:
            assert time.monotonic() < deadline
            batches += reader.poll(0.1, 1_000)
    return [(batch, at) for batch in batches for at in range(len(batch))]


def _letter(batch: RecordBatch, at: int) -> Letter:
    headers = batch.headers[at] if batch.headers is not None else ()
    prefix = "dead-letter-"
    return Letter(
        batch.keys[at],
        batch.values[at],
        batch.timestamps[at],
        tuple(pair for pair in headers if not pair[0].startswith(prefix)),
        {name.removeprefix(prefix): text.decode() for name, text in headers if prefix in name},
    )


def _pairs(*, is_bad: bool) -> list[tuple[str, str]]:
    """Return the names of cases, each with each agent that reads its topic."""
    return [
        (name, agent)
        for name, case in CASES.items()
        for agent in AGENTS[case.topic]
        if bool(case.cause) is is_bad
    ]


@pytest.mark.parametrize(("name", "agent"), _pairs(is_bad=True))
def test_bad_record_is_a_dead_letter(run: Run, name: str, agent: str) -> None:
    case, number = CASES[name], NUMBERS[name]
    letter = run.letters[agent, case.topic, run.offsets[name]]
    assert (letter.key, letter.value) == (case.key, case.value)
    assert (letter.own, letter.timestamp_ms) == (HEADERS, number)
    about = dict(letter.about)
    cause = about.pop("cause")
    assert re.match(case.cause, cause, re.DOTALL), cause
    assert len(cause) <= 1_000
    assert cause.partition(":")[0] in about.pop("stack")
    assert about == {
        "topic": case.topic,
        "partition": "0",
        "offset": str(run.offsets[name]),
        "timestamp-ms": str(number),
        "agent": agent,
        "failures": "1" if agent != "doer" or cause.startswith(NOT_TRIED_AGAIN) else "2",
    }


@pytest.mark.parametrize(("name", "agent"), _pairs(is_bad=False))
def test_odd_record_is_accepted(run: Run, name: str, agent: str) -> None:
    case = CASES[name]
    assert (agent, case.topic, run.offsets[name]) not in run.letters
    assert run.answers.count([agent, *case.answer]) == 1


@pytest.mark.parametrize(("name", "agent"), _pairs(is_bad=False) + _pairs(is_bad=True))
def test_good_record_behind_it_counts(run: Run, name: str, agent: str) -> None:
    number = NUMBERS[name]
    before = [other for other, case in CASES.items() if case.topic == "deeds"].index
    answer = {
        "orders": lambda: [number],
        "anything": lambda: ["int", number],
        "keyed": lambda: [7, number],
        # What a deed that fails has counted or sent before is undone.
        "deeds": lambda: ["good", 1 + before(name)],
    }[CASES[name].topic]()
    assert run.answers.count([agent, *answer]) == 1


def test_nothing_else_happened(run: Run) -> None:
    bad_ones = _pairs(is_bad=True)
    assert len(run.letters) == len(bad_ones)
    assert len(run.answers) == 2 * len(_pairs(is_bad=False)) + len(bad_ones)
    assert run.status == 0
    assert "Traceback" not in run.log
    assert max(map(len, run.log.splitlines())) < 2_000
