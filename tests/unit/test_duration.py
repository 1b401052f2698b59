"""Durations and sizes: exact, or refused."""

from datetime import timedelta

import pytest

from streamapp.core.duration import to_ms
from streamapp.core.sizes import to_bytes
from streamapp.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("250ms", 250),
        ("5s", 5_000),
        (" 5 s ", 5_000),
        ("1.5h", 5_400_000),
        ("1m30s", 90_000),
        ("1m 30s", 90_000),
        ("2d", 172_800_000),
        ("0s", 0),
        ("5", 5_000),
        ("0.25", 250),
        (5, 5_000),
        (0.1, 100),
        (1e-3, 1),
        (timedelta(milliseconds=1_500), 1_500),
    ],
)
def test_exact_milliseconds(value: str | float | timedelta, expected: int) -> None:
    assert to_ms(value) == expected


@pytest.mark.parametrize("value", ["0.5ms", "0.0001s", 0.0001, timedelta(microseconds=1)])
def test_part_of_a_millisecond_is_refused(value: str | float | timedelta) -> None:
    with pytest.raises(ConfigError, match="whole number of milliseconds"):
        to_ms(value)


@pytest.mark.parametrize("value", [-1, -0.5, timedelta(seconds=-1)])
def test_negative_duration_is_refused(value: float | timedelta) -> None:
    with pytest.raises(ConfigError, match="negative"):
        to_ms(value)


@pytest.mark.parametrize(
    "value",
    ["", "s", "5 parsecs", "-5s", "5s-", "1e3s", "\u0665s", "nan", True, float("nan"), None],
)
def test_no_duration(value: str | float) -> None:
    with pytest.raises(ConfigError, match="is not a duration"):
        to_ms(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        ("7", 7),
        ("64MiB", 67_108_864),
        ("64 mib", 67_108_864),
        ("1.5KiB", 1_536),
        ("2kB", 2_000),
        ("1GB", 1_000_000_000),
    ],
)
def test_exact_bytes(value: str | int, expected: int) -> None:
    assert to_bytes(value) == expected


@pytest.mark.parametrize("value", ["", "MiB", "64MX", "0.3kiB", "-1", -1, True, 1.5])
def test_no_size(value: str | int) -> None:
    with pytest.raises(ConfigError, match="is not a size"):
        to_bytes(value)
