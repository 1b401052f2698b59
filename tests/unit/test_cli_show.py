"""How the commands write times and values."""

import pytest

from streamapp.cli.show import print_table, structured, timestamp


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (1_500, "1970-01-01T00:00:01.500Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (253_402_300_800_000, "253402300800000 ms"),
        (-(1 << 62), f"{-(1 << 62)} ms"),
        (1 << 62, f"{1 << 62} ms"),
    ],
)
def test_every_time_can_be_written(ms: int, text: str) -> None:
    assert timestamp(ms) == text


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (None, None),
        (b'{"n": [1]}', {"n": [1]}),
        (b"plain", "plain"),
        (b"\xff", {"base64": "/w=="}),
        (b"[" * 5_000, "[" * 5_000),
        (b"[" * 129 + b"]" * 129, "[" * 129 + "]" * 129),
        (b"9" * 5_000, "9" * 5_000),
    ],
)
def test_values_are_json_where_a_worker_takes_them_so(data: bytes | None, shown: object) -> None:
    assert structured(data) == shown


def test_names_are_not_cut_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "count"], [["x" * 300, 7]], "none")
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "count"]
    assert row.split() == ["x" * 300, "7"]
