"""Columns of batches and objects of their records are two views of the same values."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from support.compiled import needs_reader

import streamapp
from streamapp.core.aggregates.values import MAX_NUMBER
from streamapp.core.columned import Columned
from streamapp.serde import columnar
from streamapp.testing.pipeline_driver import DEAD_LETTERS, PipelineDriver

pytestmark = needs_reader
few = settings(max_examples=max(settings().max_examples // 4, 25))
_numbers = count()


class Order(streamapp.Record):
    user: str
    amount: float
    n: int
    ts: int
    is_gift: bool = False


#: Closes all windows before it.
END = b'{"user":"end","amount":0,"n":0,"ts":10000}'
#: Steps between a source and its results, by what they ask of values: fields, objects, or both.
STEPS: dict[str, Callable[[Any], Any]] = {
    "none": lambda flow: flow,
    "filter": lambda flow: flow.filter(lambda order: order.n % 3),
    "peek": lambda flow: flow.peek(str),
    "change": lambda flow: flow.map(doubled, into=Order),
}
WINDOWS: dict[str, Any] = {
    "tumbling": streamapp.tumbling("20ms", late="5ms"),
    "hopping": streamapp.hopping("20ms", "5ms"),
    "session": streamapp.session("7ms"),
    "sliding": streamapp.sliding("9ms"),
}
AGGREGATES = {
    "n": streamapp.count(),
    "total": streamapp.sum("amount"),
    "least": streamapp.min("n"),
    "latest": streamapp.last("user"),
    "gifts": streamapp.first("is_gift"),
    "some": streamapp.collect("user", limit=3),
}


def doubled(order: Order) -> Order:
    order.amount *= 2  # in place: the object is the one that was read
    return order


@contextmanager
def forms(*, columns: bool) -> Iterator[None]:
    """Read batches of any size as columns, or none."""
    reader = columnar.PlainJson if columns else None
    with patch.object(columnar, "_MANY", 1), patch.object(columnar, "PlainJson", reader):
        yield


def declare(step: str, window: str, key: str) -> PipelineDriver:
    app = streamapp.App(f"columned-{next(_numbers)}", broker="memory://columned", store="memory://")
    source = app.topic("orders", value_type=Order, event_time="ts", out_of_order="3ms")
    pipeline = app.pipeline("laws", on_error=streamapp.ErrorPolicy(then="dead_letter", retries=0))
    flow = STEPS[step](pipeline.source(source)).key_by(key)
    late = app.topic("late", value_type=Order)
    windowed = flow.window(WINDOWS[window], on_late=late) if window == "tumbling" else None
    (windowed or flow.window(WINDOWS[window])).aggregate(**AGGREGATES).to(
        topic=app.topic("results")
    )
    return PipelineDriver(pipeline)


_names = st.sampled_from(["ann", "bob", "zoë", "", 'q"q', "ann"])
_numbers_of = st.one_of(
    st.integers(-3, 12), st.sampled_from([2**53 + 1, -(2**63), 2**63, 10**18, 10**30])
)
_amounts = st.one_of(
    st.integers(-3, 3),
    st.floats(-9, 9, width=16),
    st.sampled_from([0.1, 1e300, 123456789012345678, -0.0]),
)


@st.composite
def records(draw: st.DrawFn) -> list[bytes | None]:
    """Draw records, most of them good; times rise, some of them late."""
    found: list[bytes | None] = []
    time = 0
    for _ in range(draw(st.integers(1, 30))):
        time += draw(st.integers(0, 6))
        one: dict[str, Any] = {
            "user": draw(_names),
            "amount": draw(_amounts),
            "n": draw(_numbers_of),
            "ts": time - draw(st.sampled_from([0, 0, 0, 1, 3, 20])),
            "more": [{"deep": [1, None, "x\\"]}] if draw(st.booleans()) else "text",
        }
        if draw(st.booleans()):
            one["is_gift"] = draw(st.booleans())
        flaw = draw(st.integers(0, 60))
        if flaw < 5:
            one[draw(st.sampled_from(["user", "amount", "n", "ts"]))] = draw(
                st.sampled_from([None, "text", [], 1.5])
            )
        if flaw == 5:
            del one[draw(st.sampled_from(["user", "amount", "n", "ts"]))]
        data = json.dumps(one, ensure_ascii=draw(st.booleans())).encode()
        found.append(data[:-1] if flaw == 6 else None if flaw == 7 else data)
    return found


def run(
    driver: PipelineDriver, history: Sequence[bytes | None], sizes: Sequence[int], crash: int
) -> dict[str, list[tuple[bytes | None, bytes | None]]]:
    """Return what comes out of batches of these sizes, with a crash before one of them."""
    at = 0
    for number, size in enumerate(sizes):
        if number == crash:
            driver.commit()
            driver.crash()
        driver.put("orders", history[at : at + size])
        at += size
    driver.put("orders", [*history[at:], END])
    driver.commit()
    topics = ("results", "late", DEAD_LETTERS)
    return {t: [(one.key, one.value) for one in driver.records(t)] for t in topics}


_programs = st.tuples(
    st.sampled_from([*STEPS]), st.sampled_from([*WINDOWS]), st.sampled_from(["user", "n"])
)
_sizes = st.lists(st.integers(1, 12), max_size=6)


@few
@given(records(), _programs, _sizes, st.integers(0, 5))
def test_results_are_those_of_objects(
    history: list[bytes | None], program: tuple[str, str, str], sizes: list[int], crash: int
) -> None:
    found = []
    for columns in (True, False):
        with forms(columns=columns):
            found.append(run(declare(*program), history, sizes, crash))
    assert found[0] == found[1]


@few
@given(records(), _sizes)
def test_sums_are_those_of_a_list(history: list[bytes | None], sizes: list[int]) -> None:
    with forms(columns=True):
        app = streamapp.App(f"sums-{next(_numbers)}", broker="memory://sums", store="memory://")
        source = app.topic("orders", value_type=Order)
        pipeline = app.pipeline("sums", on_error=streamapp.ErrorPolicy(then="skip", retries=0))
        flow = pipeline.source(source).key_by("user").window(streamapp.tumbling("1h"))
        flow.aggregate(total=streamapp.sum("amount"), n=streamapp.count()).to(table="sums")
        driver = PipelineDriver(pipeline)
        at = 0
        for size in [*sizes, len(history)]:
            driver.put("orders", history[at : at + size])
            at += size
        driver.put("orders", [END], timestamps=[7_200_000])
        driver.commit()
        rows = {key[0]: (row.total, row.n) for key, row in driver.table("sums").items()}
    amounts: defaultdict[str, list[float]] = defaultdict(list)
    for data in history:
        try:
            one = json.loads(data or b"")
            kinds = {"user": str, "amount": (int, float), "n": int, "ts": int}
            good = all(isinstance(one[name], kind) for name, kind in kinds.items())
        except (ValueError, KeyError):
            continue
        if good and one["amount"] < MAX_NUMBER:
            amounts[one["user"]].append(float(one["amount"]))
    assert rows == {user: (sum(of), len(of)) for user, of in amounts.items()}


def test_no_object_is_made_where_fields_are_all_that_is_asked_for() -> None:
    driver = declare("none", "tumbling", "user")
    lines = [
        json.dumps({"user": f"u{n % 7}", "amount": n / 4, "n": n, "ts": n, "is_gift": True})
        for n in range(1_000)
    ]
    with patch.object(columnar.PlainReader, "objects", side_effect=AssertionError):
        driver.put("orders", [line.encode() for line in lines])
        driver.commit()
    assert driver.records("results")


def test_objects_are_made_at_once_where_they_are_asked_for() -> None:
    driver = declare("peek", "tumbling", "user")
    line = b'{"user":"u","amount":1.5,"n":1,"ts":1,"is_gift":true}'
    driver.put("orders", [line] * 1_000)
    with patch.object(columnar.PlainReader, "columns", side_effect=AssertionError):
        driver.put("orders", [line] * 1_000)


class Listed:
    """Reads numbers and their negatives; counts what it makes."""

    def __init__(self) -> None:
        self.made = 0

    def objects(self, raw: Sequence[bytes]) -> list[object]:
        self.made += len(raw)
        return [*map(int, raw)]

    def column(self, raw: Sequence[bytes], name: str) -> Any:
        return [-int(one) for one in raw] if name == "minus" else None


@given(st.data())
def test_sequence_is_a_list(data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, 99), max_size=12))
    values: Any = Columned([b"%d" % one for one in numbers], Listed(), {})
    for _ in range(data.draw(st.integers(0, 4))):
        what = data.draw(st.sampled_from(["slice", "pick", "join", "make", "column"]))
        if what == "slice":
            low, high = data.draw(st.integers(0, 12)), data.draw(st.integers(0, 12))
            values, numbers = values[low:high], numbers[low:high]
        elif what == "pick" and isinstance(values, Columned) and numbers:
            places = sorted(data.draw(st.sets(st.integers(0, len(numbers) - 1))))
            values, numbers = values.pick(places), [numbers[place] for place in places]
        elif what == "join" and isinstance(values, Columned):
            joined = values.joined([values])
            assert (joined is None) == values.is_made
            values, numbers = (values, numbers) if joined is None else (joined, numbers * 2)
        elif what == "make":
            assert [*values] == numbers
        elif isinstance(values, Columned):
            known = values.column("minus")
            assert known is None if values.is_made else known == [-one for one in numbers]
            assert values.column("other") is None
    assert len(values) == len(numbers)
    assert [*values] == numbers
    assert [values[place] for place in range(len(numbers))] == numbers


def test_objects_are_made_once_and_count_from_then_on() -> None:
    reader = Listed()
    values = Columned([b"1", b"2"], reader, {"minus": [-1, -2]})
    assert values.column("minus") == [-1, -2]
    assert values[1:].column("minus") == [-2]  # type: ignore[attr-defined]
    assert reader.made == 0
    values.objects[0] = 5
    assert (values[0], [*values], values[:1], reader.made) == (5, [5, 2], [5], 2)
    assert values.column("minus") is None
