"""The partitioner against the Java client's own test vectors and an independent port."""

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as murmur2_of_aiokafka
from hypothesis import given
from hypothesis import strategies as st

from streamapp.transport.partitioner import (
    StickyChooser,
    murmur2,
    partition_for_key,
    partitions_for_keys,
)

JAVA_VECTORS = {  # org.apache.kafka.common.utils.UtilsTest.testMurmur2, signed 32-bit
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), JAVA_VECTORS.items())
def test_hash_equals_the_java_client(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed % 2**32


@given(st.binary(max_size=600), st.integers(1, 1000))
def test_partition_equals_aiokafka_on_any_key(key: bytes, partitions: int) -> None:
    assert murmur2(key) == murmur2_of_aiokafka(key)
    everywhere = list(range(partitions))
    expected = DefaultPartitioner()(key, everywhere, everywhere)
    assert partition_for_key(key, partitions) == expected
    assert partition_for_key(key, partitions) == expected, "the cached answer differs"


keys = st.binary(max_size=70) | st.sampled_from([b"", b"\0", b"abc\0", b"abcd", b"\xff" * 64])


@given(st.lists(keys, max_size=40), st.integers(1, 1000))
def test_many_keys_at_once_go_where_each_of_them_goes(many: list[bytes], partitions: int) -> None:
    assert partitions_for_keys(many, partitions) == [
        (murmur2(key) & 0x7FFFFFFF) % partitions for key in many
    ]


def test_empty_key_is_hashed() -> None:
    assert murmur2(b"") == 275646681
    assert partition_for_key(b"", 7) == 275646681 % 7


def test_one_partition_takes_every_key() -> None:
    assert {partition_for_key(b"%d" % i, 1) for i in range(100)} == {0}


def test_sticky_chooser_stays_for_a_run_then_moves_on() -> None:
    chooser = StickyChooser(run=3)
    assert [chooser.choose("t", 2) for _ in range(9)] == [0, 0, 0, 1, 1, 1, 0, 0, 0]


def test_sticky_chooser_counts_topics_apart_and_starts_where_told() -> None:
    chooser = StickyChooser(run=2, start=5)
    assert [chooser.choose("a", 4) for _ in range(3)] == [1, 1, 2]
    assert chooser.choose("b", 3) == 2
