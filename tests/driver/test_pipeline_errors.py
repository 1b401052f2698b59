"""What functions of an application raise in a pipeline: exactly what is at fault is set aside."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.engine_app import Bench

import streamapp
from streamapp.testing.pipeline_driver import DEAD_LETTERS, PipelineDriver


def driven(build: Any, **options: Any) -> PipelineDriver:
    """Return the driver of a pipeline that keeps dead letters and begins with topic ``in``."""
    app = Bench().app()
    source = {"key_type": str, "value_type": dict, "event_time": "ts", **options}
    pipeline = app.pipeline("p", on_error="dead_letter")
    build(pipeline.source(app.topic("in", **source)))
    return PipelineDriver(pipeline)


def put(driver: PipelineDriver, values: list[Any], size: int = 0) -> None:
    """Put values of one key into topic ``in``, in batches."""
    data = [json.dumps(value).encode() for value in values]
    for at in range(0, len(data), size or len(data)):
        part = data[at : at + (size or len(data))]
        driver.put("in", part, keys=[b"k"] * len(part))
    driver.commit()


def rows(driver: PipelineDriver) -> list[dict[str, Any]]:
    """Return the values of topic ``out``."""
    return [json.loads(record.value or b"null") for record in driver.records("out")]


def first_of(value: dict[str, Any]) -> Any:
    return next(iter(value["xs"]))


XS = [{"xs": [n] if n % 50 else [], "ts": n} for n in range(200)]


@pytest.mark.parametrize("size", [1, 100])
def test_function_that_raises_stop_iteration_loses_its_own_record_alone(size: int) -> None:
    """``map`` took it for the end of the records: it lost those behind it in silence."""

    def build(flow: Any) -> None:
        sums = flow.window(streamapp.tumbling(1)).aggregate(
            s=streamapp.sum(first_of), n=streamapp.count(first_of)
        )
        sums.to(topic="out")

    driver = driven(build)
    put(driver, [*XS, {"xs": [0], "ts": 9_000}], size)
    assert [(row["n"], row["s"]) for row in rows(driver)] == [
        (196, sum(n for n in range(200) if n % 50))
    ]
    assert driver.stats.dead_letters == 4


@pytest.mark.parametrize("size", [1, 100])
def test_key_whose_function_raises_stop_iteration_is_a_bad_record(size: int) -> None:
    driver = driven(lambda flow: flow.key_by(first_of).map(lambda v: v["ts"]).to(topic="out"))
    put(driver, XS, size)
    assert rows(driver) == [n for n in range(200) if n % 50]
    assert driver.stats.dead_letters == 4


def appended(state: list[Any], value: dict[str, Any]) -> list[Any]:
    state.append(value["n"])
    return state


def summed(state: int, value: dict[str, Any]) -> int:
    return state + value["m"]


SPECS = {
    "tumbling": streamapp.tumbling(1),
    "hopping": streamapp.hopping(2, 1),
    "session": streamapp.session(1),
    "sliding": streamapp.sliding(1),
    "count": streamapp.count_window(2),
}


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_record_that_fails_in_one_aggregate_is_in_none(spec: Any, size: int) -> None:
    """The first one has changed its state when the second one fails."""

    def run(values: list[Any]) -> tuple[list[Any], int]:
        driver = driven(
            lambda flow: (
                flow.window(spec)
                .aggregate(
                    all=streamapp.aggregate(list, appended, lambda a, b: a + b, list),
                    sum=streamapp.aggregate(int, summed, lambda a, b: a + b, lambda s: s),
                )
                .to(topic="out")
            )
        )
        put(driver, values, size)
        return rows(driver), driver.stats.dead_letters

    good = [{"n": n, "m": 1, "ts": ts} for n, ts in ((1, 1), (3, 3), (4, 4), (9, 9_000))]
    bad = {"n": 2, "m": "x", "ts": 2}
    assert run([good[0], bad, *good[1:3], {**bad, "ts": 5}, good[3]]) == (run(good)[0], 2)


def plus(state: Any, value: dict[str, Any]) -> Any:
    return state + value["n"]


def with_aggregate(spec: Any, aggregate: Any, **options: Any) -> PipelineDriver:
    return driven(
        lambda flow: flow.window(spec, **options).aggregate(t=aggregate).to(topic="out"),
        out_of_order="5s",
    )


def dead(driver: PipelineDriver) -> list[Any]:
    return [json.loads(letter.value or b"") for letter in driver.records(DEAD_LETTERS)]


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_result_that_fails_is_a_row_that_is_left_out(spec: Any, size: int) -> None:
    driver = with_aggregate(spec, streamapp.aggregate(int, plus, plus_both, lambda s: 12 // s))
    values = [{"n": n, "ts": ts} for n, ts in ((0, 1_000), (0, 1_000), (3, 20_000), (1, 20_000))]
    put(driver, [*values, {"n": 1, "ts": 90_000}], size)
    found = [row["t"] for row in rows(driver)]
    if spec is SPECS["sliding"]:
        assert found == [3, 3]
    else:
        assert found == ([3, 3] if spec is SPECS["hopping"] else [3])
    letters = dead(driver)
    assert len(letters) == driver.stats.dead_letters == len(found)
    assert {letter["key"] for letter in letters} == {"k"}
    assert all(letter["start"] <= 1_000 < letter["end"] for letter in letters)


def plus_both(one: int, other: int) -> int:
    return one + other


def test_result_of_an_update_or_a_correction_that_fails_is_left_out() -> None:
    mine = streamapp.aggregate(int, plus, plus_both, lambda s: 12 // s)
    driver = driven(
        lambda flow: (
            flow.window(streamapp.tumbling(1), on_late="correct")
            .emit("update")
            .aggregate(t=mine)
            .to(topic="out")
        )
    )
    put(driver, [{"n": 0, "ts": 1}])
    put(driver, [{"n": 2, "ts": 2}])
    assert [letter["kind"] for letter in dead(driver)] == ["update"]
    put(driver, [{"n": 0, "ts": 9_000}, {"n": 0, "ts": 5}, {"n": 4, "ts": 6}])
    assert [letter["kind"] for letter in dead(driver)] == ["update", "correction", "update"]
    assert [(row["kind"], row["t"]) for row in rows(driver)] == [
        ("update", 6),
        ("final", 6),
        ("correction", 3),
    ]


@pytest.mark.parametrize("size", [1, 100])
def test_record_that_joins_two_sessions_whose_merge_fails_is_a_bad_record(size: int) -> None:
    mine = streamapp.aggregate(int, plus, lambda _a, _b: 1 // 0, lambda s: s)
    driver = with_aggregate(streamapp.session(1), mine)
    times = (3_000, 1_000, 2_000, 3_500, 90_000)
    put(driver, [{"n": 1, "ts": ts} for ts in times], size)
    assert [(row["first"], row["last"], row["t"]) for row in rows(driver)] == [
        (1_000, 1_000, 1),
        (3_000, 3_500, 2),
    ]
    assert dead(driver) == [{"n": 1, "ts": 2_000}]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [(streamapp.hopping(2, 1), [1, 3, 2, 4, 5, 9, 9]), (streamapp.sliding(2), [1, 3, 6, 9])],
)
def test_window_whose_merge_fails_is_left_out(spec: Any, wanted: list[int]) -> None:
    def merged(one: int, other: int) -> int:
        return one + other if one < 4 else 1 // 0

    driver = with_aggregate(spec, streamapp.aggregate(int, plus, merged, lambda s: s))
    put(driver, [{"n": n, "ts": n * 1_000} for n in (1, 2, 4, 5, 9, 90)])
    assert [row["t"] for row in rows(driver)] == wanted
    assert len(dead(driver)) == driver.stats.dead_letters == 1


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_record_that_makes_a_state_that_is_not_kept_is_a_bad_record(spec: Any, size: int) -> None:
    """It is found at once: a commit would fail again and again."""
    mine = streamapp.aggregate(
        list,
        lambda s, v: [*s, (v["n"],) if v["n"] == 7 else v["n"]],
        lambda a, b: a + b,
        list,
    )
    good = [{"n": n, "ts": ts} for n, ts in ((1, 1), (2, 2), (3, 3), (4, 4), (5, 90_000))]
    bad = {"n": 7, "ts": 3}
    drivers = with_aggregate(spec, mine), with_aggregate(spec, mine)
    put(drivers[0], good, size)
    put(drivers[1], [bad, *good[:2], bad, *good[2:]], size)
    assert rows(drivers[1]) == rows(drivers[0])
    assert dead(drivers[1]) == [bad, bad]


class Cents(streamapp.Record):
    n: int


@pytest.mark.parametrize("size", [1, 100])
def test_row_of_another_type_than_its_table_is_a_bad_record(size: int) -> None:
    """It was written, and the table could not be read from then on."""

    def build(flow: Any) -> None:
        flow.map(lambda value: Cents(value["n"]), into=Cents).to(table="cents")

    driver = driven(build)
    put(driver, [{"n": 7, "ts": 0}, {"n": 0.5, "ts": 1}], size)
    assert driver.table("cents") == {"k": Cents(7)}
    assert driver.stats.errors == {"EncodeError": 1}


def doubled(value: dict[str, Any]) -> dict[str, Any]:
    """Change a value in place."""
    value["n"] *= 2
    return value


def test_value_changed_in_place_is_that_of_its_record_when_others_are_refused() -> None:
    """Those behind a record that is refused are run again: they were changed twice."""

    def build(flow: Any) -> None:
        halves = streamapp.sum(lambda value: 1 // value["x"])
        windows = flow.map(doubled).window(streamapp.tumbling(1))
        windows.aggregate(n=streamapp.sum("n"), x=halves).to(topic="out")

    values = [{"n": n, "x": int(n % 40 > 0), "ts": n} for n in range(100)]
    driver = driven(build)
    put(driver, [*values, {"n": 0, "x": 1, "ts": 9_000}])
    assert [row["n"] for row in rows(driver)] == [2 * sum(n for n in range(100) if n % 40)]
    assert driver.stats.dead_letters == 3


def test_value_changed_in_place_is_that_of_its_record_when_it_has_waited() -> None:
    def build(flow: Any) -> None:
        flow.map(doubled).rate_limit(1, per="5ms", excess="delay").to(topic="out")

    driver = driven(build)
    put(driver, [{"n": n, "ts": n} for n in range(4)])
    assert [row["n"] for row in rows(driver)] == [0, 2, 4, 6]


class Visit(streamapp.Record):
    page: str


def test_deletion_goes_through_group_by_as_one() -> None:
    """It became the text ``null`` on its way, which is no value of the type: a dead letter."""

    def build(flow: Any) -> None:
        pages = flow.group_by(lambda visit: visit.page if visit else "gone")
        pages.map(lambda visit: visit and visit.page).to(topic="out")

    driver = driven(build, value_type=Visit, event_time=None, allow_empty=True)
    driver.put("in", [b'{"page": "home"}', None, None], keys=[b"a", b"b", b"c"])
    driver.commit()
    assert [(record.key, record.value) for record in driver.records("out")] == [
        (b"home", b'"home"'),
        (b"gone", None),
        (b"gone", None),
    ]


@pytest.mark.parametrize(
    "window",
    [
        streamapp.tumbling(10),
        streamapp.session(10),
        streamapp.sliding(10),
        streamapp.count_window(8),
        streamapp.global_window(count=8),
    ],
    ids=lambda window: type(window).__name__,
)
def test_records_of_one_batch_may_be_bad_in_different_fields(window: Any) -> None:
    """The later one was found first; the earlier one then stopped the worker, for good."""

    def build(flow: Any) -> None:
        sums = flow.window(window).aggregate(a=streamapp.sum("a"), b=streamapp.sum("b"))
        sums.to(topic="out")

    driver = driven(build)
    values: list[dict[str, Any]] = [{"a": 1, "b": 1, "ts": n} for n in range(10)]
    values[2]["b"] = values[6]["a"] = "x"
    put(driver, [*values, {"ts": 60_000}])
    assert rows(driver)[-1]["a"] == rows(driver)[-1]["b"] == 8
    assert driver.stats.dead_letters == 2


STEPS: dict[str, Any] = {
    "buffer": lambda flow: flow.buffer(10, rate=10),
    "join": lambda flow: flow.join(flow, combine=lambda left, _: left),
    "as-of": lambda flow: flow.join_as_of(flow, combine=lambda left, _: left),
}


@pytest.mark.parametrize("step", STEPS)
def test_deletion_is_held_as_one(step: str) -> None:
    """It was the text ``null`` when it was read again, which is no value of the type."""

    def build(flow: Any) -> None:
        STEPS[step](flow).to(topic="out")

    driver = driven(build, value_type=Visit, event_time=None, allow_empty=True)
    driver.put("in", [b'{"page": "home"}', None], keys=[b"a", b"b"])
    driver.commit()
    driver.crash()
    driver.put("in", [b'{"page": "end"}'], keys=[b"z"], timestamps=[9_000])
    driver.commit()
    found = [(record.key, record.value) for record in driver.records("out")]
    assert found[:2] == [(b"a", b'{"page":"home"}'), (b"b", None)]
    assert dead(driver) == []
