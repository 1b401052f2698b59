"""The small parts of the engine: policies, positions, the gate, the outbox, rejects, runs."""

from __future__ import annotations

import asyncio
import logging
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.feeds import batch

from streamapp.core.batch import TP, OutRecord
from streamapp.core.positions import Place, Progress, parse_progress, progress_of
from streamapp.core.times import NEVER_MS
from streamapp.engine import gate as gates
from streamapp.engine.gate import Gate
from streamapp.engine.outbox import Outbox
from streamapp.engine.policy import ErrorPolicy, Verdict, policy_of
from streamapp.engine.rejects import FeedStats, Rejects
from streamapp.engine.states import NEXT, EngineState, follow
from streamapp.engine.work import Chunk, Window, open_slot
from streamapp.errors import ConfigError, DecodeError
from streamapp.state.changelog import (
    TOMBSTONES_KEPT_MS,
    Mark,
    change_records,
    changelog_topic,
    mark_key,
    read_mark,
    restore_from,
    write_mark,
)
from streamapp.transport.broker import OffsetRange

DEAD, SKIP, STOP, RETRY = Verdict.DEAD_LETTER, Verdict.SKIP, Verdict.STOP, Verdict.RETRY
NOW_MS = 1_700_000_000_000

# --- policy --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "failures", "is_retriable", "verdict"),
    [
        (ErrorPolicy(), 1, True, RETRY),
        (ErrorPolicy(), 3, True, RETRY),
        (ErrorPolicy(), 4, True, DEAD),
        (ErrorPolicy(), 1, False, DEAD),
        (ErrorPolicy(retries=0), 1, True, DEAD),
        (ErrorPolicy(retries=1, then="skip"), 1, True, RETRY),
        (ErrorPolicy(retries=1, then="skip"), 2, True, SKIP),
        (ErrorPolicy(then="skip"), 1, False, SKIP),
        (ErrorPolicy(then="stop"), 4, True, STOP),
        (ErrorPolicy(then=Verdict.STOP), 1, False, STOP),
        (ErrorPolicy(then="retry"), 1_000, True, RETRY),
        (ErrorPolicy(then="retry"), 1, False, DEAD),
    ],
)
def test_verdict(policy: ErrorPolicy, failures: int, is_retriable: bool, verdict: Verdict) -> None:
    assert policy.verdict(failures, is_retriable=is_retriable) is verdict


def test_pauses_double_up_to_a_bound() -> None:
    policy = ErrorPolicy(backoff_ms=100)
    pauses = [policy.pause_ms(n) for n in (1, 2, 3, 9, 10, 10_000)]
    assert pauses == [100, 200, 400, 25_600, 30_000, 30_000]
    assert ErrorPolicy(backoff_ms=0).pause_ms(5) == 0


@pytest.mark.parametrize(
    ("declared", "policy"),
    [
        (None, ErrorPolicy()),
        ("skip", ErrorPolicy(retries=0, then="skip")),
        (ErrorPolicy(retries=7), ErrorPolicy(retries=7)),
    ],
)
def test_policy_of_a_declaration(declared: ErrorPolicy | str | None, policy: ErrorPolicy) -> None:
    assert policy_of(declared) == policy


@pytest.mark.parametrize(
    "options",
    [
        {"then": "ignore"},
        {"then": ["stop"]},
        {"retries": -1},
        {"retries": "3"},
        {"retries": None},
        {"backoff_ms": -1},
        {"backoff_ms": "1s"},
        {"backoff_ms": 0.5},
    ],
    ids=str,
)
def test_wrong_policy_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        ErrorPolicy(**options)  # type: ignore[arg-type] # on purpose


# --- positions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agents", "progress"),
    [
        ({"a": Place(5)}, Progress(5)),
        ({"a": Place(5, 7), "b": Place(5, 7)}, Progress(5, {}, 7)),
        (
            {"a": Place(5, -3), "b": Place(9, 4, "b's"), "c": Place(6, -3)},
            Progress(5, {"b": 9, "c": 6}, -3, {"b": 4}, {"b": "b's"}),
        ),
        # The slowest of those that are equally far; one that has had no time stays without.
        ({"a": Place(5, 8), "b": Place(5, 7)}, Progress(5, {}, 7, {"a": 8})),
        ({"a": Place(5, 7), "b": Place(6)}, Progress(5, {"b": 6}, 7, {"b": NEVER_MS})),
        ({"a": Place(5), "b": Place(6, 0)}, Progress(5, {"b": 6}, NEVER_MS, {"b": 0})),
    ],
)
def test_progress_survives_the_broker(agents: dict[str, Place], progress: Progress) -> None:
    assert progress_of(agents) == progress
    again = parse_progress(progress.offset, progress.metadata())
    assert again == progress
    assert {agent: again.place_of(agent) for agent in agents} == agents
    assert again.place_of("new") == Place(progress.offset, progress.time_ms)


def test_position_of_an_earlier_version_is_read() -> None:
    progress = parse_progress(5, '{"ahead":{"b":9},"time_ms":7}')
    assert (progress.place_of("a"), progress.place_of("b")) == (Place(5, 7), Place(9, 7))


def test_note_alone_makes_another_position() -> None:
    notes = [progress_of({"a": Place(5, 7, note)}).metadata() for note in ("", "x", "y")]
    assert len(set(notes)) == 3


@pytest.mark.parametrize("note", ["", "{}", "not ours", '{"ahead": 7}', '{"ahead":{"a":"x"}}'])
def test_foreign_note_means_that_nobody_is_ahead(note: str) -> None:
    assert parse_progress(3, note) == Progress(3)


def test_agent_is_never_behind_the_offset() -> None:
    assert parse_progress(30, '{"ahead":{"a":7}}').of("a") == 30


def test_nobody_is_beyond_the_end_of_a_log() -> None:
    progress = Progress(5, {"b": 9, "c": 6}, 7, {"b": 8}, {"b": "b's"})
    assert progress.up_to(9) == progress
    assert {at: progress.up_to(at).of("b") for at in (7, 5, 2)} == {7: 7, 5: 5, 2: 2}
    assert progress.up_to(7).place_of("a") == Place(5, 7)
    assert progress.up_to(2).place_of("b") == Place(2, 8, "b's")


def test_plain_position_has_no_note() -> None:
    assert Progress(3).metadata() == ""


# --- changelog -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mark", "end", "offset"),
    [
        (None, 10, None),
        (Mark("u", 4, NOW_MS), 10, 4),
        (Mark("u", 10, NOW_MS), 10, 10),
        (Mark("u", 0, NOW_MS), 0, 0),
        (Mark("other", 4, NOW_MS), 10, None),
        (Mark("u", 11, NOW_MS), 10, None),
        (Mark("u", 4, NOW_MS - TOMBSTONES_KEPT_MS), 10, 4),
        (Mark("u", 4, NOW_MS - TOMBSTONES_KEPT_MS - 1), 10, None),
        (Mark("u", 10, NOW_MS - TOMBSTONES_KEPT_MS - 1), 10, 10),
        (Mark("u", 4, NOW_MS + 1), 10, 4),
    ],
)
def test_restore_from(mark: Mark | None, end: int, offset: int | None) -> None:
    assert restore_from(mark, "u", OffsetRange(0, end), NOW_MS) == offset


def test_mark_survives_the_store_and_rubbish_is_none() -> None:
    mark = Mark("u", 4, NOW_MS)
    assert read_mark(write_mark(mark)) == mark
    assert [read_mark(data) for data in (None, b"", b"{}", b"\xff")] == [None] * 4
    assert mark_key("t", 1) != mark_key("t", 2)


def test_changelog_records() -> None:
    spec = changelog_topic("app", "t", 3)
    assert (spec.name, spec.partitions, spec.cleanup) == (
        "app-t-changelog", 3, frozenset({"compact"}),
    )  # fmt: skip
    tp = TP(spec.name, 1)
    assert change_records(tp, {b"k": b"v", b"gone": None}, 5) == [
        OutRecord(tp, b"k", b"v", 5),
        OutRecord(tp, b"gone", None, 5),
    ]


# --- gate ----------------------------------------------------------------------------------------


async def _passes(gate: Gate, reader: object) -> bool:
    task = asyncio.ensure_future(gate.wait(reader))
    for _ in range(5):
        await asyncio.sleep(0)
    is_done = task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return is_done


async def test_gate_is_closed_while_there_is_a_reason() -> None:
    gate, reader = Gate(), object()
    assert not gate.closed
    assert await _passes(gate, reader)
    gate.close("b")
    gate.close("a")
    assert gate.closed
    assert gate.reasons == ("a", "b")
    gate.open("b")
    gate.open("b")
    assert gate.closed
    assert not await _passes(gate, reader)
    waiting = asyncio.ensure_future(gate.wait(reader))
    await asyncio.sleep(0)
    gate.open("a")
    await asyncio.wait_for(waiting, 5)
    assert not gate.closed


async def test_one_reader_passes_a_gate_that_is_closed_for_it() -> None:
    gate, one, other = Gate(), object(), object()
    gate.close_for_one(one)
    gate.close_for_one(other)
    assert gate.closed
    assert gate.reasons == ("an event runs alone",)
    assert await _passes(gate, one)
    assert not await _passes(gate, other)
    gate.open_for_all(other)
    assert gate.closed
    gate.close("a")
    assert not await _passes(gate, one)
    gate.open_for_all(one)
    assert gate.closed
    gate.open("a")
    assert not gate.closed


async def test_one_reader_does_not_run_alone_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "ALONE_FOR_S", 0.01)
    gate = Gate()
    gate.close_for_one(object())
    await asyncio.wait_for(gate.wait(object()), 5)
    assert not gate.closed


# --- outbox --------------------------------------------------------------------------------------


def test_outbox_keeps_order_and_wants_a_commit_only_for_records() -> None:
    outbox = Outbox()
    outbox.add([])
    assert not outbox.wanted.is_set()
    records = [OutRecord(TP("t", 0), None, b"%d" % n, 0) for n in range(3)]
    outbox.add(records[:2])
    outbox.add(records[2:])
    assert outbox.wanted.is_set()
    assert len(outbox) == 3
    assert outbox.take() == records
    assert not outbox.wanted.is_set()
    assert outbox.take() == []


# --- rejects -------------------------------------------------------------------------------------


def _rejects(policy: ErrorPolicy | None = None) -> Rejects:
    return Rejects("agent", "dead", policy or ErrorPolicy(), FeedStats())


def test_errors_are_counted_by_type_and_logged_seldom_when_many(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rejects = _rejects()
    with caplog.at_level(logging.WARNING):
        for _ in range(200):
            assert rejects.judge(ValueError("bad"), "in/0 offset 3", 1) is RETRY
        assert rejects.judge(DecodeError("worse"), "in/0 offset 4", 1) is DEAD
    assert rejects.stats.errors == {"ValueError": 200, "DecodeError": 1}
    assert rejects.stats.retries == 200
    assert rejects.stats.last_error == "DecodeError: worse"
    assert len(caplog.records) == 20 + 2
    assert "in/0 offset 3" in caplog.text


def test_letter_bounds_its_texts_and_keeps_own_headers() -> None:
    own = (("dead-letter-agent", b"an earlier one"), ("own", b"\xff"))
    records = batch(4, [1])
    with_headers = type(records)(
        records.tp, records.offsets, records.timestamps, records.keys, records.values, [own], 5, 1
    )
    letter = _rejects().letter(with_headers, 0, ValueError("é" * 20_000), 2)
    assert letter.headers[:2] == own
    headers = dict(letter.headers[2:])
    assert len(headers["dead-letter-cause"].decode()) == 1_000
    assert len(headers["dead-letter-stack"].decode()) <= 8_000
    assert (letter.key, letter.value, letter.timestamp_ms) == (b"k4", b"1", 4)
    assert _rejects().letter(records, 0, ValueError(), 1).headers[0][0] == "dead-letter-topic"


def test_lone_surrogate_in_an_error_does_not_break_its_letter() -> None:
    letter = _rejects().letter(batch(0, [1]), 0, ValueError("\ud800"), 1)
    assert dict(letter.headers)["dead-letter-cause"].startswith(b"ValueError: ")


# --- runs of records -----------------------------------------------------------------------------


def test_chunk_knows_position_and_time() -> None:
    chunk = Chunk(batch(0, [1, 2], offsets=[3, 8], next_offset=12, times=[5, 2]), [1, 2], 4)
    assert [chunk.time_at(i) for i in (-1, 0, 1)] == [4, 5, 5]
    assert (chunk.position, chunk.timestamp_ms, chunk.now_ms) == (3, 5, 5)
    chunk.advance()
    assert (chunk.position, chunk.timestamp_ms, chunk.now_ms) == (8, 2, 5)
    chunk.advance()
    assert chunk.position == 12
    chunk.extend([Chunk(batch(12, [3], times=[9]), [3], 5)])
    assert (chunk.position, chunk.end, chunk.now_ms) == (12, 3, 9)


def test_chunk_with_times_of_its_own_leaves_the_timestamps_alone() -> None:
    chunk = Chunk(batch(0, [1, 2], times=[50, 60]), [1, 2], 4, [7, NEVER_MS])
    assert [(chunk.time_at(i), chunk.times[i]) for i in (0, 1)] == [(7, 7), (7, NEVER_MS)]
    assert chunk.timestamp_ms == 7
    chunk.extend([Chunk(batch(2, [3], times=[70]), [3], 7, [6])])
    assert (list(chunk.times), chunk.time_at(2)) == ([7, NEVER_MS, 6], 7)
    assert list(chunk.batch.timestamps) == [50, 60, 70]


@given(
    st.lists(st.integers(-9, 999), min_size=1, max_size=400),
    st.booleans(),
    st.lists(st.integers(-1, 399), max_size=12),
    st.data(),
)
def test_the_time_at_a_record_is_the_greatest_so_far(
    times: list[int], is_array: bool, questions: list[int], data: st.DataObject
) -> None:
    count = len(times)
    column = array("q", times) if is_array else times
    chunk = Chunk(batch(0, [1] * count), [1] * count, 5, column)
    gone = 0
    for asked in questions:
        at = min(asked, len(times) - 1)
        assert chunk.time_at(at - gone) == max([5, *times[: at + 1]])
        what = data.draw(st.sampled_from(("", "extend", "drop")))
        if what == "extend":
            chunk.extend([Chunk(batch(len(times), [1]), [1], 0, [times[0] * 2])])
            times = [*times, times[0] * 2]
        elif what == "drop" and at - gone >= 0:
            # Nobody asks for what was dropped.
            chunk.at = chunk.given = at - gone
            gone += len(chunk.drop_done() or ())
            break
    rest = range(gone, len(times))
    assert [chunk.time_at(at - gone) for at in rest] == [max([5, *times[: a + 1]]) for a in rest]


def test_failures_count_in_a_row_only() -> None:
    chunk = Chunk(batch(0, [1, 2]), [1, 2], 0)
    assert [chunk.fail(), chunk.fail()] == [1, 2]
    chunk.advance()
    assert chunk.fail() == 1


def test_window_retires_finished_heads() -> None:
    window = Window(0, 0)
    chunk = Chunk(batch(0, [1, 2, 3], times=[4, 9, 2]), [1, 2, 3], 0)
    slots = [open_slot(chunk, i, i + 1, 1) for i in range(3)]
    window.slots.extend(slots)
    slots[1].is_finished = True
    assert window.retire() == ([], None)
    slots[0].is_finished = True
    assert window.retire() == (slots[:2], None)
    assert (window.position, window.time_ms) == (2, 9)


# --- states --------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", EngineState)
def test_states_follow_the_table(state: EngineState) -> None:
    for to in EngineState:
        if to in NEXT[state]:
            assert follow(state, to) is to
        else:
            with pytest.raises(AssertionError):
                follow(state, to)
