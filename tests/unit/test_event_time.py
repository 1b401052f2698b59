"""When records happened: what is taken for a time, and what is refused with its reason."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from streamapp.core.event_time import EventTime, event_time_of
from streamapp.core.times import COLUMN_LIMIT_MS, NEVER_MS
from streamapp.core.watermarks import Headway
from streamapp.errors import ConfigError, EventTimeError, FutureTimeError, InputError

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
LIMIT = 1 << 62


class Reading(msgspec.Struct):
    ts: Any


class _Mute:
    def __repr__(self) -> str:
        raise ValueError


class _NoZone(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta | None:
        msg = "no idea"
        raise RuntimeError(msg)


def one(raw: object, **options: Any) -> int | str:
    """Return the time of one record, or the text of its error."""
    field = options.pop("field", "ts")
    how = EventTime(field, **{"max_future_ms": None, **options})
    times, errors = how.times_of([Reading(raw)], [5], NOW_MS)
    assert set(errors) == {index for index, time in enumerate(times) if time == NEVER_MS}
    return str(errors[0]) if errors else times[0]


@pytest.mark.parametrize(
    ("raw", "time_ms"),
    [
        (0, 0),
        (-1, -1),
        (1_700_000_000_123, 1_700_000_000_123),
        (LIMIT - 1, LIMIT - 1),
        (1 - LIMIT, 1 - LIMIT),
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
        (datetime(1970, 1, 1, 0, 0, 0, 1_999, tzinfo=UTC), 1),
        (datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 0),
        (datetime.max.replace(tzinfo=timezone(-timedelta(hours=23))), 253_402_383_599_999),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=23))), -62_135_679_600_000),
        ("1970-01-01T00:00:01Z", 1_000),
        ("1970-01-01T00:00:00.0015+00:00", 1),
        ("1970-01-01 01:00:00+01:00", 0),
    ],
    ids=str,
)
def test_time_is_exact_to_the_millisecond(raw: object, time_ms: int) -> None:
    assert one(raw) == time_ms


@pytest.mark.parametrize(
    ("raw", "unit", "time_ms"),
    [
        (-7, "s", -7_000),
        (1.5, "s", 1_500),
        (-0.0004, "s", 0),
        (1_999, "us", 1),
        (-1, "us", -1),
        (1_999_999, "ns", 1),
        (-1_000_000, "ns", -1),
        (LIMIT * 1_000_000 - 1, "ns", LIMIT - 1),
    ],
)
def test_numbers_are_in_the_declared_unit(raw: float, unit: str, time_ms: int) -> None:
    assert one(raw, unit=unit) == time_ms
    assert one("1970-01-01T00:00:01Z", unit=unit) == 1_000


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (True, "The event time True is not a time. A whole number of ms"),
        (1.5, "The event time 1.5 is not a time"),
        (float("nan"), "The event time nan is not a time"),
        (None, "The event time None is not a time"),
        (b"1", "The event time b'1' is not a time"),
        ([1], "The event time [1] is not a time"),
        (date(2024, 1, 1), "The event time datetime.date(2024, 1, 1) is not a time"),
        (datetime(2024, 1, 1), "The event time 2024-01-01T00:00:00 has no time zone"),  # noqa: DTZ001 - on purpose
        ("2024-01-01T00:00:00", "has no time zone. Write it with an offset or Z"),
        ("2024-01-01", "has no time zone"),
        ("10000-01-01T00:00:00Z", "The event time '10000-01-01T00:00:00Z' is not ISO 8601"),
        ("", "The event time '' is not ISO 8601"),
        ("x" * 9_000, "is not ISO 8601"),
        (LIMIT, "is out of range. Look at time_unit="),
        (-LIMIT, "is out of range"),
        (10**5_000, "of type int ms is out of range"),
        (_Mute(), "The event time of type _Mute is not a time"),
        (datetime(2024, 1, 1, tzinfo=_NoZone()), "no event time: RuntimeError('no idea')"),
    ],
    ids=lambda raw: type(raw).__name__,
)
def test_what_is_no_moment_is_refused(raw: object, text: str) -> None:
    told = one(raw)
    assert isinstance(told, str)
    assert text in told
    assert len(told) < 300


@pytest.mark.parametrize("raw", [float("nan"), float("inf"), True], ids=str)
def test_seconds_are_finite_numbers(raw: float) -> None:
    assert "is not a time" in str(one(raw, unit="s"))


def test_time_comes_from_a_name_a_key_or_a_function() -> None:
    values = [{"ts": 1, "at": {"ms": 7}}, {"ts": 2, "at": {"ms": 8}}]
    assert list(EventTime("ts").times_of(values, [0, 0], NOW_MS).ms) == [1, 2]
    nested = EventTime(lambda value: value["at"]["ms"])  # type: ignore[index] # a dict
    assert list(nested.times_of(values, [0, 0], NOW_MS).ms) == [7, 8]
    mixed = [{"ts": 1}, Reading(2), SimpleNamespace(ts=3)]
    assert list(EventTime("ts").times_of(mixed, [0, 0, 0], NOW_MS).ms) == [1, 2, 3]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    "raws",
    [
        [0, -1, 7, 1_999_999],
        [datetime(1969, 1, 1, 2, microsecond=3_999, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)],
        [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1)],  # noqa: DTZ001 - on purpose
        ["1970-01-01T00:00:00.0015Z", "1969-12-31T23:59:59.9999-01:00"],
        ["1970-01-01T00:00:01Z", "1970-01-01T00:00:01"],
        ["1970-01-01T00:00:01Z", "soon"],
        [1, "1970-01-01T00:00:01Z", datetime(2024, 1, 1, tzinfo=UTC), 1.5, True],
    ],
    ids=str,
)
def test_many_records_at_once_are_read_as_one_by_one(raws: list[Any], unit: str) -> None:
    how = EventTime("ts", max_future_ms=None, unit=unit)
    times, errors = how.times_of([Reading(raw) for raw in raws], [5] * len(raws), NOW_MS)
    told = [str(errors[i]) if i in errors else time for i, time in enumerate(times)]
    assert told == [one(raw, unit=unit) for raw in raws]


def test_bad_time_harms_no_other_record() -> None:
    values = [Reading(1), {"no": 1}, Reading("soon"), None, Reading(4), 5]
    times, errors = EventTime("ts").times_of(values, [60, 61, 62, 63, 64, 65], NOW_MS)
    # A deletion has no fields: its timestamp counts.
    assert list(times) == [1, NEVER_MS, NEVER_MS, 63, 4, NEVER_MS]
    assert {index: str(error) for index, error in errors.items()} == {
        1: "The record has no event time: KeyError('ts'). Look at event_time= of the topic",
        2: "The event time 'soon' is not ISO 8601. Write it like 2024-05-01T12:00:00Z",
        5: "The record has no event time: AttributeError(\"'int' object has no attribute 'ts'\"). "
        "Look at event_time= of the topic",
    }
    assert all(isinstance(error, InputError) for error in errors.values())


@pytest.mark.parametrize("field", [None, "ts"])
def test_future_is_refused_beyond_what_is_allowed(field: str | None) -> None:
    how = EventTime(field, max_future_ms=DAY_MS)
    stamps = [NOW_MS, NOW_MS + DAY_MS, NOW_MS + DAY_MS + 1, 253_402_300_800_000]
    times, errors = how.times_of([Reading(ts) for ts in stamps], stamps, NOW_MS)
    assert list(times) == [*stamps[:2], NEVER_MS, NEVER_MS]
    assert [type(errors[index]) for index in (2, 3)] == [FutureTimeError, FutureTimeError]
    assert "1 ms beyond what is allowed" in str(errors[2])
    without = EventTime(field, max_future_ms=None)
    times, errors = without.times_of([Reading(ts) for ts in stamps], stamps, NOW_MS)
    assert ([*times], errors) == (stamps, {})


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("wrong", [True, 1.0, 1 << 63, NEVER_MS, None])
def test_what_is_no_time_is_found_among_many(wrong: object, count: int) -> None:
    values: list[object] = [Reading(5)] * count + [Reading(wrong)] + [Reading(7)] * count
    times, errors = EventTime("ts").times_of(values, [0] * len(values), NOW_MS)
    assert [*times] == [5] * count + [NEVER_MS] + [7] * count
    assert errors.keys() == {count}


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("with_other", [False, True])
def test_numbers_of_other_libraries_are_numbers_in_any_company(
    count: int, *, with_other: bool
) -> None:
    how = EventTime(lambda value: value)
    values: list[object] = [np.int64(5)] * count + ["soon"] * with_other
    times, errors = how.times_of(values, [0] * len(values), NOW_MS)
    assert [*times][:count] == [5] * count
    assert len(errors) == with_other
    assert {*map(type, times)} == {int}


def test_timestamps_are_passed_on_as_they_are() -> None:
    stamps = (3, 1, 2)
    assert EventTime().times_of([None] * 3, stamps, NOW_MS).ms is stamps


# --- options -------------------------------------------------------------------------------------

DEFAULTS: dict[str, object] = {
    "event_time": None,
    "out_of_order": 0,
    "idle_after": "5s",
    "max_future": "1d",
    "advance_on_idle": "no",
    "time_unit": "ms",
}


def test_options_become_milliseconds() -> None:
    assert event_time_of(DEFAULTS) == EventTime(None, 0, 5_000, DAY_MS, "no", "ms")
    given = {
        "event_time": "ts",
        "out_of_order": "1m30s",
        "idle_after": None,
        "max_future": None,
        "time_unit": "us",
    }
    assert event_time_of(DEFAULTS | given) == EventTime("ts", 90_000, None, None, "no", "us")


@pytest.mark.parametrize("descriptor", [Reading.ts, SimpleNamespace(field="ts")])
def test_descriptor_of_a_record_names_its_field(descriptor: object) -> None:
    assert event_time_of(DEFAULTS | {"event_time": descriptor}).field == "ts"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("event_time", 7, "event_time=7 is neither a field's name nor a function"),
        ("event_time", "", "event_time='' is not the name of a field"),
        ("event_time", "at.ms", "event_time='at.ms' is not the name of a field"),
        ("out_of_order", "soon", "out_of_order: 'soon' is not a duration"),
        ("out_of_order", -1, "out_of_order: -1 is a negative duration"),
        ("out_of_order", "1000000000000000000d", "ms is too long"),
        ("idle_after", 0, "idle_after=0 ms"),
        ("idle_after", "0.1ms", "idle_after: '0.1ms' is not a whole number"),
        ("max_future", "1y", "max_future: '1y' is not a duration"),
        ("advance_on_idle", True, "advance_on_idle='True' is unknown. Use one of no, wallclock"),
        ("time_unit", "m", "time_unit='m' is unknown. Use one of s, ms, us, ns"),
    ],
)
def test_wrong_option_is_refused_with_its_value(name: str, value: object, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        event_time_of(DEFAULTS | {name: value})
    assert text in str(refused.value)


def test_clock_cannot_take_over_without_a_silence() -> None:
    with pytest.raises(ConfigError, match="idle_after=None"):
        EventTime(idle_ms=None, advance_on_idle="wallclock")


# --- headway -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "time_ms", "silent_ms", "headway"),
    [
        (EventTime(), 10, 0, Headway(9)),
        (EventTime(bound_ms=3), 10, 0, Headway(6)),
        (EventTime(bound_ms=3, idle_ms=5), 10, 4, Headway(6)),
        (EventTime(bound_ms=3, idle_ms=5), 10, 5, Headway(6, is_idle=True)),
        (EventTime(idle_ms=None), 10, DAY_MS, Headway(9)),
        (EventTime(), NEVER_MS, 0, Headway(NEVER_MS)),
        (EventTime(bound_ms=COLUMN_LIMIT_MS), NEVER_MS + 1, 0, Headway(NEVER_MS)),
        (EventTime(idle_ms=5, advance_on_idle="wallclock"), 10, 4, Headway(9)),
        (EventTime(idle_ms=5, advance_on_idle="wallclock"), 10, 6, Headway(15)),
        (
            EventTime(idle_ms=5, advance_on_idle="wallclock"),
            NEVER_MS,
            6,
            Headway(NEVER_MS, is_idle=True),
        ),
    ],
)
def test_headway(how: EventTime, time_ms: int, silent_ms: int, headway: Headway) -> None:
    assert how.headway(time_ms, silent_ms) == headway


def test_error_is_the_users_data() -> None:
    assert issubclass(FutureTimeError, EventTimeError)
    assert issubclass(EventTimeError, InputError)


def test_function_that_raises_stop_iteration_is_wrong_about_one_record() -> None:
    """``map`` took it for the end: the records behind it had no time at all."""
    values = [Reading([1]), Reading([]), Reading([3])]
    times = EventTime(lambda value: next(iter(value.ts))).times_of(values, [0] * 3, NOW_MS)
    assert [*times.ms] == [1, NEVER_MS, 3]
    assert [*times.errors] == [1]
