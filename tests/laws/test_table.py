"""A table is a dict that survives: whatever is cached, cut, written or opened anew."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tables import TableBench

import streamapp
from streamapp.errors import EncodeError, InputError, PartitionMismatchError, StateError, UsageError
from streamapp.records import Record
from streamapp.serde.ordered_keys import encode_key
from streamapp.state.scope import EventScope, Instant, current_scope


class Total(Record):
    user: str
    amount: float = 0.0


class Color(StrEnum):
    RED = "red"


#: Equal as keys of a dict, and four rows of a table; the rest are one of each kind.
KEYS = (1, 1.0, True, "1", "", "a", "ab", "b\x00", "é", b"a", None, -5, 2.5, 1 << 70, ("a", 1))
VALUES = (
    None, True, 0, 1, 1.0, -0.0, 2**63 - 1, 2**64, -(2**70), "", "text", "é", "x" * 5_000,
    [1, [2, {"a": None}]], {"b": [1]}, [],
)  # fmt: skip

_OPS = st.one_of(
    st.tuples(
        st.sampled_from(
            ("get", "item", "set", "set", "set", "del", "pop", "pop default", "setdefault", "in",
             "change a copy", "fail")
        ),
        st.integers(0, len(KEYS) - 1),
        st.integers(0, len(VALUES) - 1),
    ),
    st.tuples(
        st.sampled_from(("cut", "flush", "reopen", "rotate", "rows", "range", "update", "clear")),
        st.integers(0, len(KEYS) - 1),
        st.integers(0, len(KEYS) - 1),
    ),
)  # fmt: skip


class Model:
    """The rows by the bytes of their keys, each with its key."""

    def __init__(self) -> None:
        self.rows: dict[bytes, tuple[Any, Any]] = {}

    def shown(self, start: bytes = b"", end: bytes = b"\xff") -> list[str]:
        return [repr(row) for raw, row in sorted(self.rows.items()) if start <= raw < end]


class _FailedError(Exception):
    pass


def _step(bench: TableBench, model: Model, what: str, key: Any, value: Any) -> None:  # noqa: C901, PLR0912 - a branch an operation
    table, raw = bench.table, encode_key(key)
    row = model.rows.get(raw)
    if what == "get":
        assert repr(table.get(key, "none")) == repr(row[1] if row else "none")
    elif what == "item":
        assert repr(table[key]) == repr(row[1] if row else [])
    elif what == "set":
        table[key] = value
        model.rows[raw] = (key, value)
    elif what == "del":
        if row is None:
            with pytest.raises(KeyError):
                del table[key]
        else:
            del table[key]
            del model.rows[raw]
    elif what == "pop":
        if row is None:
            with pytest.raises(KeyError):
                table.pop(key)
        else:
            assert repr(table.pop(key)) == repr(model.rows.pop(raw)[1])
    elif what == "pop default":
        assert repr(table.pop(key, 7)) == repr(model.rows.pop(raw, (key, 7))[1])
    elif what == "setdefault":
        assert repr(table.setdefault(key, value)) == repr(row[1] if row else value)
        model.rows.setdefault(raw, (key, value))
    elif what == "in":
        assert (key in table) is (row is not None)
    elif what == "change a copy":
        held = table.get(key)
        if isinstance(held, list):
            held.append("not stored")
        mine = [value]
        table[key] = mine
        mine.append("nor this")
        model.rows[raw] = (key, [value])


def _whole(bench: TableBench, model: Model, what: str, key: Any, other: Any) -> None:
    table = bench.table
    if what == "update":
        table.update({"a": 1, "b": [2]})
        model.rows |= {encode_key(k): (k, v) for k, v in {"a": 1, "b": [2]}.items()}
    elif what == "clear":
        table.clear()
        model.rows.clear()
    elif what == "range":
        for reverse in (False, True):
            rows = [repr(row) for row in table.range(key, other, reverse=reverse)]
            expected = model.shown(encode_key(key), encode_key(other))
            assert rows == (expected[::-1] if reverse else expected)
    else:
        _compare(bench, model)


def _compare(bench: TableBench, model: Model) -> None:
    table = bench.table
    expected = model.shown()
    assert [repr(row) for row in table.items()] == expected
    assert len(table) == len(expected)
    assert [repr(key) for key in table] == [repr(model.rows[raw][0]) for raw in sorted(model.rows)]
    assert [repr(v) for v in table.values()] == [repr(model.rows[r][1]) for r in sorted(model.rows)]
    for reverse in (False, True):
        found = [repr(row) for row in table.prefix("a", reverse=reverse)]
        wanted = model.shown(encode_key("a"), encode_key("b"))
        assert found == (wanted[::-1] if reverse else wanted)


@given(st.lists(st.lists(_OPS, max_size=8), max_size=8), st.sampled_from((1 << 20, 700)))
def test_table_equals_a_dict(events: list[list[tuple[str, int, int]]], cache_bytes: int) -> None:
    bench, model = TableBench(cache_bytes=cache_bytes, default=list), Model()
    for event in events:
        before = dict(model.rows)
        commits = [op[0] for op in event if op[0] in {"cut", "flush", "reopen"}]
        try:
            with bench.event():
                for what, key, value in event:
                    _one(bench, model, what, key, value)
        except _FailedError:
            model.rows = before
        for what in commits:
            getattr(bench, what)()
        # Outside of events.
        _compare(bench, model)
        for key in KEYS:
            row = model.rows.get(encode_key(key))
            assert [repr(v) for _, v in bench.table.find(key)] == ([repr(row[1])] if row else [])


def _one(bench: TableBench, model: Model, what: str, key: int, value: int) -> None:
    if what == "fail":
        raise _FailedError
    if what == "cut":
        bench.cut()
    elif what == "rotate":
        for shard in bench.table.shards.values():
            shard.rotate()
    elif what in {"rows", "range", "update", "clear"}:
        _whole(bench, model, what, KEYS[key], KEYS[value])
    elif what not in {"flush", "reopen"}:
        _step(bench, model, what, KEYS[key], VALUES[value])


# --- values --------------------------------------------------------------------------------------


def test_record_comes_back_as_one_and_a_changed_copy_changes_nothing() -> None:
    bench = TableBench(value_type=Total)
    with bench.event():
        bench.table["ada"] = Total("ada", 1.5)
        bench.table["ada"].amount = 9.0
        assert bench.table["ada"] == Total("ada", 1.5)
    bench.reopen()
    assert bench.table["ada"] == Total("ada", 1.5)


def test_declared_float_is_a_float_whether_cached_or_not() -> None:
    bench = TableBench(value_type=float)
    with bench.event():
        bench.table["k"] = 1
    assert repr(bench.table["k"]) == "1.0"
    bench.reopen()
    assert repr(bench.table["k"]) == "1.0"


def test_default_is_made_on_reading_and_not_stored() -> None:
    bench = TableBench(default=list)
    with bench.event():
        bench.table["k"].append(1)
        assert bench.table["k"] == []
        assert bench.table.get("k") is None
        assert "k" not in bench.table
    assert len(bench.table) == 0
    assert bench.table["k"] == []


def test_absent_row_without_default_is_a_key_error() -> None:
    bench = TableBench()
    with bench.event(), pytest.raises(KeyError):
        bench.table["k"]


class _Order(streamapp.Record):
    user: str
    amount: float = 0.0


@pytest.mark.parametrize(
    ("value_type", "wrong"),
    [
        (_Order, {"usr": "ann"}),
        (_Order, _Order(5, "much")),  # type: ignore[arg-type] # which nobody has checked
        (list[int], None),
        (list[int], ["a"]),
        (dict[str, _Order], {"ann": {}}),
    ],
)
def test_what_could_not_be_read_again_is_refused(value_type: Any, wrong: object) -> None:
    bench = TableBench(value_type=value_type)
    with bench.event(), pytest.raises(EncodeError, match="Table t, key 'k': it could not be read"):
        bench.table["k"] = wrong
    with bench.event():
        assert "k" not in bench.table


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), [float("nan")], "\ud800", 10**5_000, object(), "x" * (9 << 20)],
    ids=lambda value: repr(value)[:12] if not isinstance(value, int) else "long int",
)
def test_value_that_cannot_be_written_is_refused_in_the_event(value: object) -> None:
    bench = TableBench()
    with bench.event(), pytest.raises(EncodeError, match="Table t, key 'k'"):
        bench.table["k"] = value
    bench.cut()
    assert "k" not in bench.table


@pytest.mark.parametrize("value", ["text", 1.5, None, True])
def test_value_of_another_type_than_declared_is_refused_in_the_event(value: object) -> None:
    bench = TableBench(value_type=int)
    with bench.event(), pytest.raises(EncodeError):
        bench.table["k"] = value


@pytest.mark.parametrize("key", ["\ud800", float("nan"), object(), (("nested",),)])
def test_key_that_cannot_be_written_is_refused_in_the_event(key: Any) -> None:
    bench = TableBench()
    with bench.event(), pytest.raises(InputError):
        bench.table[key] = 1
    bench.cut()


# --- where a table may be used -------------------------------------------------------------------


def test_table_is_read_only_outside_of_events() -> None:
    bench = TableBench(partitions=2)
    with bench.event(1):
        bench.table["k"] = 1
    assert bench.table["k"] == 1
    for change in (
        lambda: bench.table.__setitem__("k", 2),
        lambda: bench.table.__delitem__("k"),
        lambda: bench.table.pop("k"),
        lambda: bench.table.setdefault("new", 1),
        lambda: bench.table.update(k=2),
        bench.table.clear,
    ):
        with pytest.raises(UsageError, match="outside of an event"):
            change()
    assert dict(bench.table.items()) == {"k": 1}


def test_partitions_are_apart_inside_of_events_and_together_outside() -> None:
    bench = TableBench(partitions=3)
    for partition in (2, 0):
        with bench.event(partition):
            bench.table["k"] = partition
            bench.table[partition] = "own"
            assert len(bench.table) == 2
    assert list(bench.table.items()) == [(0, "own"), ("k", 0), (2, "own"), ("k", 2)]
    assert sorted(bench.table.find("k")) == [(0, 0), (2, 2)]
    assert list(bench.table.prefix("", reverse=True)) == [("k", 0), ("k", 2)]
    assert list(bench.table.range(0, 2, reverse=True)) == [(0, "own")]


def test_partition_that_goes_while_rows_are_looked_at_has_none() -> None:
    bench = TableBench(partitions=3)
    for partition in range(3):
        with bench.event(partition):
            bench.table[partition] = 1
    rows = bench.table.items()
    assert next(rows) == (0, 1)
    # A page or a task may await between two rows.
    del bench.table.shards[1]
    assert list(rows) == [(2, 1)]


def test_clear_deletes_what_the_event_sees_in_one_go() -> None:
    bench = TableBench(partitions=2)
    with bench.event(1):
        bench.table["elsewhere"] = 1
    with bench.event():
        bench.table.update(dict.fromkeys(range(10_000), 1))
    bench.reopen()
    with bench.event():
        bench.table["new"] = 1
        bench.table.clear()  # a scan for each row would take minutes
        bench.table["after"] = 1
    bench.reopen()
    assert sorted(bench.table) == ["after", "elsewhere"]


def test_topic_with_another_number_of_partitions_is_refused_for_reads_and_writes() -> None:
    bench = TableBench(partitions=2)
    scope = EventScope()
    scope.enter(Instant(0), 0, 2)
    token = current_scope.set(scope)
    bench.table["k"] = 1
    scope.finish()
    # The same agent goes on with a partition of another topic.
    scope.enter(Instant(0), 0, 4)
    try:
        for use in (
            lambda: bench.table["k"],
            lambda: bench.table.get("k"),
            lambda: bench.table.__setitem__("k", 2),
            lambda: list(bench.table),
        ):
            with pytest.raises(PartitionMismatchError, match=r"has 2 partitions.* has 4"):
                use()
        scope.enter(Instant(0), 3, 4)
        with pytest.raises(PartitionMismatchError):
            bench.table.get("k")
        scope.leave()
        with pytest.raises(UsageError, match="outside of an event"):
            bench.table.get("k")
    finally:
        current_scope.reset(token)


def test_read_that_fails_is_remembered_for_the_commit() -> None:
    bench = TableBench()
    bench.store.close()
    with bench.event(), pytest.raises(StateError):
        bench.table.get("k")
    assert isinstance(bench.budget.fault, StateError)


def test_uncommitted_rows_fill_the_budget() -> None:
    bench = TableBench(cache_bytes=4_000)
    with bench.event():
        for key in range(12):
            bench.table[key] = "v"
    assert bench.budget.is_crowded
    bench.cut()
    assert bench.budget.is_crowded
    bench.flush()
    assert not bench.budget.is_crowded


def test_view_does_not_see_the_event_in_hand() -> None:
    bench = TableBench()
    with bench.event():
        bench.table["old"] = 1
        bench.table["gone"] = 1
    with bench.event():
        bench.table["old"] = 2
        bench.table["new"] = 2
        del bench.table["gone"]
        assert [row[1:] for row in bench.table.rows(0)] == [("gone", 1), ("old", 1)]
        assert [row[1:] for row in bench.table.rows(0, reverse=True)] == [("old", 1), ("gone", 1)]
        assert list(bench.table.find("new")) == []
    assert list(bench.table.items()) == [("new", 2), ("old", 2)]
