"""Laws of the clocks of stages: cuts, restarts and other inputs, against plain lists."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from streamapp.core.batch import Headers, OutRecord
from streamapp.core.event_time import EventTime
from streamapp.core.rows import Rows
from streamapp.core.times import NEVER_MS
from streamapp.core.watermarks import Headway
from streamapp.engine.stage_sinks import RegroupSink, Way
from streamapp.pipelines.clock import RegroupedInput, SourceInput, TaskClock, watermark_header
from streamapp.pipelines.codecs import StateCodec

BOUND_MS = 2
SOURCES = 2

#: A record: its input (0 a source, 1 behind two of a stage before), its time, and who tells what.
Record = tuple[int, int, tuple[int, int, bool] | None]

_TOLD = st.tuples(st.integers(0, SOURCES - 1), st.integers(-3, 12), st.booleans())
_RECORDS = st.one_of(
    st.tuples(st.just(0), st.integers(-3, 12), st.none()),
    st.tuples(st.just(1), st.just(0), st.none() | _TOLD),
)
_HISTORIES = st.lists(_RECORDS, max_size=20)


def clock_of(notes: Sequence[object] = (None, None), watermark_ms: int = NEVER_MS) -> TaskClock:
    inputs = SourceInput(EventTime(bound_ms=BOUND_MS)), RegroupedInput(SOURCES)
    for one, note in zip(inputs, notes, strict=True):
        one.restore(note)
    return TaskClock(inputs, watermark_ms)


def restarted(clock: TaskClock) -> TaskClock:
    """Return the clock as it comes back with what was committed."""
    text = json.dumps([[one.note() for one in clock.inputs], clock.headway.watermark_ms])
    notes, watermark_ms = json.loads(text)
    return clock_of(notes, watermark_ms)


def headers_of(record: Record) -> Headers:
    told = record[2]
    return () if told is None else watermark_header(told[0], told[1], is_idle=told[2])


def plainly(history: Sequence[Record]) -> tuple[list[int], int]:
    """Return the watermark of the task before each record (that tells, then is), and at the end."""
    latest = NEVER_MS
    told = dict.fromkeys(range(SOURCES), (NEVER_MS, False))
    # That of the second input does not go back either.
    of_second = now = NEVER_MS
    marks = []

    def reached() -> int:
        nonlocal of_second
        awake = [mark for mark, is_idle in told.values() if not is_idle]
        of_second = max(of_second, min(awake, default=of_second))
        first = latest - BOUND_MS - 1 if latest > NEVER_MS else NEVER_MS
        return max(now, min(first, of_second) if awake else first)

    for number, time, said in history:
        if said is not None:
            source, mark, is_idle = said
            told[source] = max(told[source][0], mark), is_idle
        now = reached()
        marks.append(now)
        if number == 0:
            latest = max(latest, time)
            now = reached()
    return marks, now


def run(clock: TaskClock, history: Sequence[Record]) -> list[int]:
    """Give all records of one input that follow each other to the clock at once."""
    marks: list[int] = []
    start = 0
    for stop in range(1, len(history) + 1):
        if stop == len(history) or history[stop][0] != history[start][0]:
            part = history[start:stop]
            times = [time for _, time, _ in part]
            marks += clock.marks(part[0][0], times, [headers_of(one) for one in part])[0]
            start = stop
    return marks


#: All sources of the second input are idle for a moment, so that the first decides alone.
_IDLE_IN_BETWEEN: list[Record] = [
    (0, 4, None),
    (1, 0, (0, 0, True)),
    (1, 0, (1, 0, True)),
    (1, 0, (0, 0, False)),
]


@example(_IDLE_IN_BETWEEN, set())
@given(history=_HISTORIES, cuts=st.sets(st.integers(0, 20)))
def test_watermarks_are_those_of_a_plain_list_wherever_it_is_cut_and_restarted(
    history: list[Record], cuts: set[int]
) -> None:
    clock, marks, start = clock_of(), list[int](), 0
    for cut in [*sorted(cut for cut in cuts if cut < len(history)), len(history)]:
        marks += run(clock, history[start:cut])
        clock = restarted(clock)
        start = cut
    assert (marks, clock.headway.watermark_ms) == plainly(history)


@given(history=_HISTORIES, refused=_HISTORIES, silences=st.lists(st.integers(0, 9_000)))
def test_records_that_are_taken_back_leave_nothing(
    history: list[Record], refused: list[Record], silences: list[int]
) -> None:
    clock = clock_of()
    run(clock, history)
    for silent_ms in silences:
        clock.be_silent(0, silent_ms)
    for index in (0, 1):
        before = clock.note(index), clock.headway, [one.note() for one in clock.inputs]
        run(clock, [one for one in refused if one[0] == index])
        clock.go_back(before[0])
        assert (clock.headway, [one.note() for one in clock.inputs]) == before[1:]


_TIMES = st.lists(st.integers(-9, 9) | st.just(NEVER_MS), max_size=5)


@given(st.lists(st.tuples(_TIMES, st.sampled_from([0, 0, 7_000]))), st.integers(0, 5))
def test_records_of_which_nobody_asks_move_the_watermark_alike(
    steps: list[tuple[list[int], int]], bound_ms: int
) -> None:
    asked, unasked = (SourceInput(EventTime(bound_ms=bound_ms)) for _ in range(2))
    for times, silent_ms in steps:
        asked.before(times, None)
        unasked.take(times, None)
        for each in (asked, unasked):
            each.be_silent(silent_ms)
        assert asked.note() == unasked.note()


#: How far the watermark moves, and what the stage does then: writes under keys, or tells.
_SAYS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1]), st.sampled_from(["a", "b", "tells", *["falls silent"] * 2])
    ),
    min_size=5,
)


@given(_SAYS)
def test_each_partition_of_the_next_stage_knows_what_it_was_told_whatever_was_sent_between(
    says: list[tuple[int, str]],
) -> None:
    sent: list[OutRecord] = []
    sink = RegroupSink("middle", StateCodec(), 2, 0, Way(sent.extend))
    watermark_ms = 0
    for move_ms, what in says:
        watermark_ms += move_ms
        if what in ("a", "b"):
            sink.write(Rows((what,), (watermark_ms + 1,), ({},), (watermark_ms,), (0,)))
            continue
        is_idle = what == "falls silent"
        sink.tell(watermark_ms, is_idle=is_idle)
        for partition in (0, 1):
            hears = RegroupedInput(1)
            mine = [record for record in sent if record.tp.partition == partition]
            hears.take([0] * len(mine), [record.headers for record in mine])
            assert hears.headway == Headway(watermark_ms, is_idle)
