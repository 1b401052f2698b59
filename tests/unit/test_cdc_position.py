"""The order of changes in the logs of the databases."""

import msgspec
import pytest

from streamapp.cdc.position import Position, compare, position_of
from streamapp.errors import DecodeError


def streamed(**source: object) -> Position:
    position = position_of(source, streamed=True)
    assert position is not None
    return position


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"sequence": '[null,"9"]'}, {"sequence": '["5","6"]'}),
        ({"sequence": '["9","12"]'}, {"sequence": '["10","11"]'}),
        ({"lsn": 9}, {"lsn": 10}),
        (
            {"file": "mysql-bin.999999", "pos": 9, "row": 0},
            {"file": "mysql-bin.1000000", "pos": 4, "row": 0},
        ),
        ({"file": "b.1", "pos": 4, "row": 9}, {"file": "b.1", "pos": 4, "row": 10}),
        (
            {"commit_lsn": "00000027:00000758:0005", "change_lsn": "00000027:00000758:0003"},
            {"commit_lsn": "00000027:00000758:000a", "change_lsn": "00000027:00000758:0002"},
        ),
        (
            {"commit_lsn": "1:1:1", "change_lsn": "1:1:1", "event_serial_no": 1},
            {"commit_lsn": "1:1:1", "change_lsn": "1:1:1", "event_serial_no": 2},
        ),
        ({"scn": "99", "commit_scn": "200"}, {"scn": "98", "commit_scn": "201"}),
        (
            {"scn": "9", "commit_scn": "9", "rs_id": " 0x000026.000c7e1a.0010 "},
            {"scn": "9", "commit_scn": "9", "rs_id": " 0x000026.000c7e1b.0001 "},
        ),
        (
            {"scn": "9", "rs_id": None, "lcr_position": "0000000000a9000000010000000101"},
            {"scn": "9", "rs_id": None, "lcr_position": "0000000000aa000000010000000001"},
        ),
        ({"ts_ms": 5, "ord": 9}, {"ts_ms": 6, "ord": 1}),
        ({"ts_ms": 5}, {"ts_ms": 6}),
        ({"ts_ms": 5, "ts_us": 5_001}, {"ts_ms": 5, "ts_ns": 5_001_001}),
    ],
)
def test_order(earlier: dict[str, object], later: dict[str, object]) -> None:
    assert compare(streamed(**earlier), streamed(**later)) < 0
    assert compare(streamed(**later), streamed(**earlier)) > 0
    assert compare(streamed(**later), streamed(**later)) == 0


def test_snapshot_reads_rank_below_every_streamed_change() -> None:
    read = position_of({"lsn": 1_000}, streamed=False)
    assert read is not None
    assert compare(read, streamed(lsn=1)) < 0
    assert compare(streamed(file="bin.1", pos=1), read) > 0


def test_positions_of_two_databases_have_no_order() -> None:
    with pytest.raises(DecodeError, match="one connector"):
        compare(streamed(lsn=1), streamed(file="bin.1", pos=1))


def test_nothing_that_orders_gives_no_position() -> None:
    assert position_of({"connector": "postgresql", "lsn": None}, streamed=True) is None


@pytest.mark.parametrize(
    ("source", "is_exact"),
    [
        ({"ts_ms": 1}, False),
        ({"lsn": 1}, True),
        ({"ts_ms": 1, "ord": 1, "lsid": None, "txnNumber": None}, True),
        ({"ts_ms": 1, "ord": 1, "lsid": '{"id":"a"}', "txnNumber": 3}, False),
        ({"ts_ms": 1, "ord": 1}, False),
        ({"scn": "1", "rs_id": "0x1.2.3", "lcr_position": None}, True),
        ({"scn": "1", "rs_id": None, "lcr_position": "00a9"}, True),
        ({"scn": "1", "rs_id": None, "lcr_position": None}, False),
    ],
)
def test_what_different_changes_may_share_proves_no_repeat(
    source: dict[str, object], is_exact: bool
) -> None:
    assert streamed(**source).is_exact is is_exact


@pytest.mark.parametrize(
    "source",
    [
        {"commit_lsn": 5},
        {"commit_lsn": "1:2"},
        {"scn": "1", "lcr_position": 7},
        {"scn": "1", "lcr_position": "a" * 5_000},
    ],
)
def test_unreadable_positions_are_bad_input(source: dict[str, object]) -> None:
    with pytest.raises(DecodeError, match="cannot be read"):
        streamed(**source)


def test_a_position_of_xstream_goes_through_json() -> None:
    position = streamed(scn="1", lcr_position="f" * 128)
    assert msgspec.json.decode(msgspec.json.encode(position), type=Position) == position
