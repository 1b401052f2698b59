"""How the commands write times."""

import pytest

from streamapp.cli.show import timestamp


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
