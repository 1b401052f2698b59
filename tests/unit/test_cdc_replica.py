"""Decisions of a replica on the changes of one row."""

import msgspec
import pytest
from support.debezium import TOPIC, encode, key, source, value

from streamapp.cdc.change import Change
from streamapp.cdc.envelope import parse
from streamapp.cdc.replica import (
    PLACEHOLDER,
    Decision,
    Outcome,
    RowState,
    apply_change,
    raise_floor,
)
from streamapp.errors import DecodeError

ANNE = {"id": 1001, "name": "Anne", "note": "long text"}


def read(raw: bytes | None, raw_key: bytes | None = None) -> Change:
    parsed = parse(raw_key or key(), raw, topic=TOPIC)
    assert isinstance(parsed, Change)
    return parsed


def create(lsn: int, row: dict = ANNE) -> Change:
    return read(value("c", None, row, source(lsn)))


def update(lsn: int, row: dict, before: dict | None = None) -> Change:
    return read(value("u", before, row, source(lsn)))


def delete(lsn: int) -> Change:
    return read(value("d", {"id": 1001}, None, source(lsn)))


def snapshot(lsn: int, row: dict = ANNE) -> Change:
    return read(value("r", None, row, source(lsn, snapshot="true")))


def truncate(lsn: int) -> Change:
    parsed = parse(None, value("t", None, None, source(lsn)), topic=TOPIC)
    assert isinstance(parsed, Change)
    return parsed


def run(*changes: Change) -> Outcome:
    outcome = Outcome(Decision.NOTHING_TO_DELETE, None)
    for change in changes:
        outcome = apply_change(outcome.state, change)
    return outcome


def test_create_update_delete() -> None:
    assert run(create(1)).decision is Decision.INSERTED
    updated = run(create(1), update(2, ANNE | {"name": "Ann"}))
    assert updated.decision is Decision.UPDATED
    assert (updated.before, updated.after) == (ANNE, ANNE | {"name": "Ann"})
    deleted = run(create(1), delete(2))
    assert deleted.decision is Decision.DELETED
    assert (deleted.before, deleted.after) == (ANNE, None)


def test_delete_and_tombstone_delete_once() -> None:
    outcome = run(create(1), delete(2), read(None))
    assert outcome.decision is Decision.NOTHING_TO_DELETE
    assert not outcome.is_applied


def test_repeat_and_older_change_are_dropped_by_position() -> None:
    assert run(create(1), create(1)).decision is Decision.REPEATED
    late = run(create(1), update(3, ANNE), update(2, ANNE | {"name": "old"}))
    assert late.decision is Decision.OUTDATED
    assert late.after == ANNE


def test_an_older_change_cannot_resurrect_a_deleted_row() -> None:
    late = run(create(1), delete(5), read(None), update(4, ANNE))
    assert late.decision is Decision.OUTDATED
    assert late.after is None


def test_a_replayed_tombstone_leaves_the_new_life_of_its_key() -> None:
    reborn = run(create(1), delete(2), read(None), create(3))
    again = apply_change(reborn.state, read(None))
    assert again.decision is Decision.NOTHING_TO_DELETE
    assert again.after == ANNE


def test_a_snapshot_read_never_replaces_a_streamed_change() -> None:
    assert run(update(5, ANNE), snapshot(9)).decision is Decision.OUTDATED
    assert run(snapshot(9), update(5, ANNE)).decision is Decision.UPDATED


def test_placeholder_keeps_our_value() -> None:
    outcome = run(create(1), update(2, {"id": 1001, "name": "Ann", "note": PLACEHOLDER}))
    assert outcome.after == {"id": 1001, "name": "Ann", "note": "long text"}
    assert outcome.unresolved == ()


@pytest.mark.parametrize(
    "placeholder",
    [
        "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==",
        [PLACEHOLDER],
        [ord(letter) for letter in PLACEHOLDER],
        {PLACEHOLDER: PLACEHOLDER},
    ],
)
def test_placeholders_of_other_types(placeholder: object) -> None:
    outcome = run(create(1), update(2, ANNE | {"note": placeholder}))
    assert outcome.after == ANNE


def test_placeholder_is_filled_from_the_old_image_or_named() -> None:
    bare = update(2, ANNE | {"note": PLACEHOLDER})
    assert run(bare).after == {"id": 1001, "name": "Anne"}
    assert run(bare).unresolved == ("note",)
    full = update(2, ANNE | {"note": PLACEHOLDER}, before=ANNE)
    assert run(full).after == ANNE


def test_absent_columns_keep_our_value_in_an_update_only() -> None:
    assert run(create(1), update(2, {"id": 1001, "name": "Ann"})).after == ANNE | {"name": "Ann"}
    assert run(create(1), create(2, {"id": 1001})).after == {"id": 1001}


def test_a_new_life_does_not_show_columns_of_the_old_one() -> None:
    outcome = run(create(1), delete(2), update(3, {"id": 1001, "note": PLACEHOLDER}))
    assert outcome.after == {"id": 1001}
    assert outcome.unresolved == ("note",)


def test_truncate_removes_smaller_positions_and_spares_later_rows() -> None:
    assert run(create(1), truncate(2)).decision is Decision.TRUNCATED
    assert run(create(3), truncate(2)).decision is Decision.OUTDATED
    assert run(create(3), truncate(2)).after == ANNE


def test_the_floor_of_a_truncate_keeps_older_changes_out() -> None:
    floor = raise_floor(None, truncate(5))
    late = apply_change(None, create(4), floor=floor)
    assert (late.decision, late.state) == (Decision.TRUNCATED_BEFORE, None)
    assert apply_change(None, create(5), floor=floor).decision is Decision.TRUNCATED_BEFORE
    assert apply_change(None, create(6), floor=floor).decision is Decision.INSERTED
    assert raise_floor(floor, truncate(3)) == floor
    assert raise_floor(floor, truncate(7)) == truncate(7).position


def test_two_changes_of_one_millisecond_both_count() -> None:
    at = {"table": "t", "ts_ms": 5}
    first = read(encode({"op": "c", "after": {"n": 1}, "source": at}))
    second = read(encode({"op": "u", "after": {"n": 2}, "source": at}))
    assert run(first, second).after == {"n": 2}


def test_all_changes_of_a_mongodb_transaction_count() -> None:
    at = {"collection": "carts", "ts_ms": 5, "ord": 1, "lsid": "{}", "txnNumber": 3}
    first = read(encode({"op": "c", "after": '{"n": 1}', "source": at}))
    second = read(encode({"op": "u", "after": '{"n": 2}', "source": at}))
    third = read(encode({"op": "d", "after": None, "source": at}))
    assert run(first, second).after == {"n": 2}
    assert run(first, second, third).after is None


def test_without_the_envelope_the_tombstone_is_the_delete() -> None:
    row = read(encode({"id": 1001, "__lsn": 4}))
    assert run(row, read(None)).decision is Decision.DELETED
    # The tombstone came again after the row's new life: so will the new life.
    born = read(encode({"id": 1001, "__lsn": 6}))
    assert run(row, read(None), born, read(None), born).after == {"id": 1001}


def test_without_any_position_the_order_of_arrival_counts() -> None:
    assert run(read(encode({"n": 1})), read(encode({"n": 2}))).after == {"n": 2}


def test_a_change_without_a_position_leaves_the_last_one_standing() -> None:
    outcome = run(create(5), read(encode({"id": 1001, "name": "bare"})), update(4, ANNE))
    assert outcome.decision is Decision.OUTDATED
    assert outcome.after == {**ANNE, "name": "bare"}


def test_a_change_without_a_key_is_refused() -> None:
    keyless = parse(None, value("c", None, ANNE, source(1)), topic=TOPIC)
    assert isinstance(keyless, Change)
    with pytest.raises(DecodeError, match=r"message\.key\.columns"):
        apply_change(None, keyless)


def test_state_survives_json() -> None:
    state = run(create(2**62), delete(2**63), read(None)).state
    assert msgspec.json.decode(msgspec.json.encode(state), type=RowState) == state
    assert msgspec.convert(msgspec.to_builtins(state), RowState) == state
