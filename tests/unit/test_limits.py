"""What topics take: the bound itself passes, one byte more does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.batch import TP, OutRecord, RecordBatch
from streamapp.core.limits import NO_LIMITS, Limits, size_of
from streamapp.engine.policy import ErrorPolicy
from streamapp.engine.rejects import FeedStats, Rejects
from streamapp.errors import InputError, RefusedError, TooLargeError

if TYPE_CHECKING:
    from streamapp.core.batch import Headers

OUT = TP("out", 0)
NOW = 1_000_000


def record(key: bytes | None = b"k", value: bytes | None = b"v", **more: object) -> OutRecord:
    return OutRecord(OUT, key, value, NOW)._replace(**more)  # type: ignore[arg-type] # by name


def test_size_is_bounded_and_the_error_names_it() -> None:
    large = record(b"key", bytes(1_000), headers=(("h", b"x" * 50),))
    bound = size_of(large)
    assert 1_053 < bound < 1_200
    Limits(bound).check(large, NOW)
    with pytest.raises(TooLargeError, match=r"topic out \(key b'key'\)\. It takes 1,1"):
        Limits(bound - 1).check(large, NOW)


def test_compacted_topic_wants_keys() -> None:
    Limits(needs_key=True).check(record(b""), NOW)
    with pytest.raises(RefusedError, match="no key"):
        Limits(needs_key=True).check(record(None), NOW)


def test_time_may_be_ahead_by_the_bound() -> None:
    limits = Limits(max_ahead_ms=60)
    limits.check(record(timestamp_ms=NOW + 60), NOW)
    with pytest.raises(RefusedError, match="ahead"):
        limits.check(record(timestamp_ms=NOW + 61), NOW)


sizes = st.sampled_from([0, 1, 2, 9, 10, 11, 12])
headers = st.sampled_from([(), (("h", b"12"),)])
records = st.builds(
    lambda key, value, ahead, some: OutRecord(
        OUT, None if key is None else bytes(key), bytes(value), NOW + ahead, some
    ),
    st.none() | sizes, sizes, st.sampled_from([-1, 0, 5, 6]), headers,
)  # fmt: skip
limits_ = st.builds(
    Limits, st.none() | st.sampled_from([110, 111, 112, 120]), st.none() | st.just(5), st.booleans()
)


@given(limits_, st.lists(records, max_size=4))
def test_many_records_are_refused_as_each_of_them_is(
    limits: Limits, given: list[OutRecord]
) -> None:
    def refuses(some: list[OutRecord]) -> bool:
        try:
            for one in some:
                limits.check(one, NOW)
        except InputError:
            return True
        return False

    try:
        limits.check_all(given, NOW)
    except InputError:
        assert refuses(given)
    else:
        assert not refuses(given)


# --- letters that fit ----------------------------------------------------------------------------


def letter(value: bytes, key: bytes, own: Headers, most: int | None) -> OutRecord:
    limits = {} if most is None else {"dead": Limits(most)}
    rejects = Rejects("agent", "dead", ErrorPolicy(), FeedStats(), limits)
    batch = RecordBatch(TP("in", 0), [7], [NOW], [key], [value], [own], 8, 1)
    return rejects.letter(batch, 0, ValueError("bad"), 1)


@pytest.mark.parametrize(("value", "key"), [(10, 1), (5_000, 1), (5_000, 5_000)])
def test_letter_is_cut_to_what_the_topic_takes(value: int, key: int) -> None:
    whole = letter(b"v" * value, b"k" * key, (), None)
    cut = letter(b"v" * value, b"k" * key, (), 2_000)
    assert size_of(cut) <= 2_000
    if size_of(whole) <= 2_000:
        assert cut == whole
        return
    assert dict(cut.headers)["dead-letter-cut"] == b"%d" % value
    assert (b"v" * value).startswith(cut.value or b"")
    assert {name for name, _ in whole.headers} <= {name for name, _ in cut.headers}


def test_no_limits_take_everything() -> None:
    NO_LIMITS.check_all([record(None, bytes(1 << 20), timestamp_ms=1 << 50)], NOW)
