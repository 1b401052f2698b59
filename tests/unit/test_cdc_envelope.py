"""The three forms of Debezium records, control records, and what is refused."""

import base64
import json
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import debezium
from support.debezium import TOPIC, encode, key, source, value, with_schema

from streamapp.cdc.change import Change, Control, ControlKind, Op, row_key
from streamapp.cdc.envelope import parse, table_of_topic
from streamapp.cdc.position import Position
from streamapp.errors import DecodeError, InputError

ANNE = {"id": 1001, "name": "Anne", "email": "anne@example.org"}


def change(raw_key: bytes | None, raw: bytes | None, topic: str = TOPIC) -> Change:
    parsed = parse(raw_key, raw, topic=topic)
    assert isinstance(parsed, Change)
    return parsed


def control(raw_key: bytes | None, raw: bytes | None, topic: str = TOPIC) -> ControlKind:
    parsed = parse(raw_key, raw, topic=topic)
    assert isinstance(parsed, Control)
    return parsed.kind


# --- the envelope ----------------------------------------------------------------------------


def test_create() -> None:
    parsed = change(key(), value("c", None, ANNE, source(24_023_128, commit=24_023_000)))
    assert parsed == Change(
        table="public.customers",
        op=Op.CREATE,
        key={"id": 1001},
        before=None,
        after=ANNE,
        position=Position("postgresql", streamed=True, order=(24_023_000, 24_023_128)),
        ts_ms=1_700_024_023_128,
    )


@pytest.mark.parametrize("wrap", [bytes, with_schema])
def test_the_schema_block_changes_nothing(wrap: Callable[[bytes], bytes]) -> None:
    raw = value("u", None, ANNE, source(5, commit=4))
    assert change(key(), wrap(raw)) == change(key(), raw)
    assert change(with_schema(key()), raw).key == {"id": 1001}


def test_delete_carries_the_old_row_and_no_new_one() -> None:
    parsed = change(key(), value("d", {"id": 1001}, None, source(6)))
    assert (parsed.op, parsed.before, parsed.after) == (Op.DELETE, {"id": 1001}, None)


def test_tombstone_takes_its_table_from_the_topic() -> None:
    parsed = change(key(), None)
    assert (parsed.op, parsed.table, parsed.position) == (Op.TOMBSTONE, "public.customers", None)
    assert change(key(), b"null").op is Op.TOMBSTONE


@pytest.mark.parametrize("flag", ["true", "first", "last", "incremental", True])
def test_snapshot_reads_are_not_streamed(flag: object) -> None:
    parsed = change(key(), value("r", None, ANNE, source(7, snapshot=flag)))
    assert parsed.is_snapshot
    assert parsed.position is not None
    assert not parsed.position.streamed


@pytest.mark.parametrize("flag", ["false", False, None])
def test_streamed_changes_are_no_snapshot(flag: object) -> None:
    assert not change(key(), value("u", None, ANNE, source(7, snapshot=flag))).is_snapshot


def test_truncate_has_no_key() -> None:
    parsed = change(None, value("t", None, None, source(9)))
    assert (parsed.op, parsed.key, parsed.table) == (Op.TRUNCATE, None, "public.customers")


def test_mysql_names_the_table_by_database() -> None:
    origin = {"connector": "mysql", "db": "shop", "table": "orders", "snapshot": "false"}
    origin |= {"file": "mysql-bin.000003", "pos": 484, "row": 2, "ts_ms": 5, "gtid": None}
    parsed = change(key(), value("c", None, ANNE, origin), topic="renamed")
    assert parsed.table == "shop.orders"
    assert parsed.position == Position("mysql", streamed=True, order=(3, 484, 2))


def test_mongodb_documents_are_json_texts() -> None:
    origin = {"connector": "mongodb", "db": "shop", "collection": "carts", "ts_ms": 9, "ord": 4}
    origin |= {"lsid": None, "txnNumber": None}
    raw = encode({"op": "u", "after": json.dumps({"_id": 1, "n": 2}), "source": origin})
    parsed = change(encode({"id": "1"}), raw)
    assert (parsed.table, parsed.after) == ("shop.carts", {"_id": 1, "n": 2})
    assert parsed.position == Position("mongodb", streamed=True, order=(9, 4))


def test_integers_beyond_64_bits_stay_exact() -> None:
    huge = 123_456_789_012_345_678_901_234_567_890
    parsed = change(key(), value("c", None, {"id": huge}, source(1)))
    assert parsed.after == {"id": huge}


def test_the_transaction_block_is_kept() -> None:
    block = {"id": "571:53195829", "total_order": 1, "data_collection_order": 1}
    raw = encode({"op": "c", "after": ANNE, "source": source(1), "transaction": block})
    assert change(key(), raw).transaction == block


# --- unwrapped rows --------------------------------------------------------------------------


def test_bare_row_is_an_update_without_a_position() -> None:
    parsed = change(key(), encode(ANNE))
    assert (parsed.op, parsed.after, parsed.position) == (Op.UPDATE, ANNE, None)
    assert not parsed.is_wrapped


def test_added_fields_give_operation_position_and_time() -> None:
    added = {"__op": "c", "__lsn": 55, "__source_ts_ms": 7, "__ts_ms": 9, "__deleted": "false"}
    parsed = change(key(), encode(ANNE | added))
    assert (parsed.op, parsed.after, parsed.ts_ms) == (Op.CREATE, ANNE, 7)
    assert parsed.position == Position("postgresql-lsn", streamed=True, order=(55,))


def test_rewritten_delete() -> None:
    parsed = change(key(), encode({"id": 1001, "name": None, "__deleted": "true", "__lsn": 56}))
    assert (parsed.op, parsed.after) == (Op.DELETE, None)


def test_columns_of_the_user_may_start_with_underscores() -> None:
    assert change(key(), encode({"id": 1, "__v": 3})).after == {"id": 1, "__v": 3}


def test_row_with_columns_named_like_the_envelope() -> None:
    row = {"id": 1, "op": 7, "source": "web", "schema": {"a": 1}, "payload": 2}
    assert change(key(), encode(row)).after == row


# --- control records -------------------------------------------------------------------------


def test_heartbeats_by_topic_and_by_key() -> None:
    beat = encode({"ts_ms": 1})
    assert control(None, beat, "__debezium-heartbeat.shop") is ControlKind.HEARTBEAT
    assert control(encode({"serverName": "shop"}), beat) is ControlKind.HEARTBEAT
    assert change(key(), beat).after == {"ts_ms": 1}


def test_transaction_boundaries() -> None:
    begin = {"status": "BEGIN", "id": "571:53195829", "ts_ms": 1, "event_count": None}
    raw = encode(begin | {"data_collections": None})
    assert control(encode({"id": "571:53195829"}), raw) is ControlKind.TRANSACTION


def test_schema_change_is_never_executed_only_kept() -> None:
    fields = {"source": source(1), "databaseName": "shop", "ddl": "DROP TABLE x", "ts_ms": 3}
    parsed = parse(None, encode(fields | {"tableChanges": []}), topic="shop")
    assert isinstance(parsed, Control)
    assert parsed.kind is ControlKind.SCHEMA_CHANGE
    assert parsed.payload["ddl"] == "DROP TABLE x"


def test_logical_message() -> None:
    message = {"prefix": "audit", "content": base64.b64encode(b"hello").decode()}
    raw = encode({"op": "m", "ts_ms": 1, "source": source(3), "message": message})
    assert control(encode({"prefix": "audit"}), raw) is ControlKind.MESSAGE


def test_null_key_and_null_value() -> None:
    assert control(None, None) is ControlKind.EMPTY


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"{", "value of the change event: "),
        (b"", "value of the change event: "),
        (b'"\xff"', "value of the change event: "),
        (b'{"a": NaN}', "value of the change event: "),
        (b"[1]", "JSON object, not list"),
        (value("x", None, ANNE, source(1)), "Unknown operation 'x'"),
        (value("u", None, None, source(1)), 'no "after" image'),
        (encode({"op": "u", "after": [1], "source": {}}), '"after" of a change event'),
        (encode({"op": "u", "after": ANNE}), 'no "source" object'),
        (value("c", None, ANNE, source(1) | {"sequence": "[1.5,2]"}), "postgresql position"),
        (value("c", None, ANNE, {"file": "bin.x", "pos": 1}), "mysql position"),
    ],
)
def test_refusals_say_what_is_wrong(raw: bytes, says: str) -> None:
    with pytest.raises(DecodeError) as caught:
        parse(key(), raw, topic=TOPIC)
    assert says in str(caught.value)


@pytest.mark.parametrize(("levels", "fits"), [(127, True), (128, False), (100_000, False)])
def test_depth_is_bounded(levels: int, fits: bool) -> None:
    raw = b'{"a":' + b"[" * levels + b"]" * levels + b"}"
    if fits:
        assert change(key(), raw).op is Op.UPDATE
    else:
        with pytest.raises(DecodeError, match="nested deeper"):
            parse(key(), raw, topic=TOPIC)


@given(st.binary(max_size=60), st.binary(max_size=20))
def test_no_bytes_crash_the_parser(raw_key: bytes, raw: bytes) -> None:
    with suppress(InputError):
        parse(raw_key, raw, topic=TOPIC)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["c", "u", "d", "r", "t", "m", 1, None, "tombstone"]),
        "source": st.dictionaries(
            st.sampled_from([*debezium.source(1), "file", "scn"]), json_values
        )
        | json_values,
        "before": json_values,
        "after": json_values,
        "schema": json_values,
        "payload": json_values,
        "message": json_values,
        "ts_ms": json_values,
    },
)


@given(json_values, envelopes)
def test_no_json_crashes_the_parser(row_id: object, fields: dict[str, object]) -> None:
    with suppress(InputError):
        parse(encode(row_id), encode(fields), topic=TOPIC)


# --- names -----------------------------------------------------------------------------------


def test_row_keys_do_not_depend_on_the_order_of_columns() -> None:
    assert row_key({"id": 7}) == "7"
    assert row_key({"code": "x"}) == "x"
    assert row_key({"b": 1, "a": "x"}) == row_key({"a": "x", "b": 1}) == '{"a":"x","b":1}'


def test_topics_name_tables() -> None:
    assert table_of_topic("shop.public.customers") == "public.customers"
    assert table_of_topic("server.db.dbo.orders") == "dbo.orders"
    assert table_of_topic("orders") == "orders"
