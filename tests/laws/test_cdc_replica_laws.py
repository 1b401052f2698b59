"""A replica equals the naive one, however often and from wherever its log is replayed."""

from dataclasses import dataclass
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st
from support.debezium import TOPIC, key, source, value

from streamapp.cdc.change import Change
from streamapp.cdc.envelope import parse
from streamapp.cdc.replica import PLACEHOLDER, RowState, apply_change


@dataclass
class Naive:
    """Applies a log once and in order, with a dict and no positions."""

    row: dict | None = None

    def apply(self, op: str, note: object) -> None:
        if op == "d":
            self.row = None
        elif note == PLACEHOLDER:
            kept = {} if op == "c" or self.row is None else self.row
            self.row = {"id": 1} | ({"note": kept["note"]} if "note" in kept else {})
        elif note is None:
            kept = {} if op == "c" or self.row is None else self.row
            self.row = kept | {"id": 1}
        else:
            self.row = {"id": 1, "note": note}


steps = st.lists(
    st.tuples(st.sampled_from("cud"), st.sampled_from([1, 2, None, PLACEHOLDER])),
    min_size=1,
    max_size=6,
)


def log_of(history: list[tuple[str, object]]) -> list[list[Change]]:
    """Render each step as its records: a delete is followed by a tombstone."""
    log = []
    for lsn, (op, note) in enumerate(history, start=1):
        after = {"id": 1} | ({} if note is None else {"note": note})
        raw = value(op, None, None if op == "d" else after, source(lsn))
        records = [parse(key(1), raw, topic=TOPIC)]
        if op == "d":
            records.append(parse(key(1), None, topic=TOPIC))
        log.append([record for record in records if isinstance(record, Change)])
    return log


def final(changes: list[Change]) -> dict | None:
    state: RowState | None = None
    for change in changes:
        state = apply_change(state, change).state
    return None if state is None else state.row


def expected(history: list[tuple[str, object]]) -> dict | None:
    naive = Naive()
    for op, note in history:
        naive.apply(op, note)
    return naive.row


@given(steps)
def test_the_log_once_gives_the_naive_row(history: list[tuple[str, object]]) -> None:
    assert final([*chain(*log_of(history))]) == expected(history)


@given(steps, st.data())
def test_duplicates_and_replayed_suffixes_change_nothing(
    history: list[tuple[str, object]], data: st.DataObject
) -> None:
    log = log_of(history)
    delivered: list[Change] = []
    for end in range(1, len(log) + 1):
        delivered += log[end - 1] * data.draw(st.integers(1, 2))
        if data.draw(st.booleans()):  # the connector starts again from an older offset
            start = data.draw(st.integers(0, end - 1))
            delivered += chain(*log[start:end])
    assert final(delivered) == expected(history)


@given(steps, st.data())
def test_late_repeats_in_any_order_change_nothing(
    history: list[tuple[str, object]], data: st.DataObject
) -> None:
    flat = [*chain(*log_of(history))]
    late = data.draw(st.lists(st.sampled_from(flat), max_size=6))
    assert final(flat + late) == expected(history)


@given(st.permutations(range(1, 5)), st.integers(1, 4))
def test_full_rows_in_any_order_end_with_the_newest(order: list[int], deleted: int) -> None:
    history = [("d" if lsn == deleted else "c", lsn) for lsn in range(1, 5)]
    log = log_of(history)
    assert final([log[lsn - 1][0] for lsn in order]) == expected(history)
