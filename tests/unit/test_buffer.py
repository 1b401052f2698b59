"""A bounded buffer, policy by policy."""

import pytest

from streamapp.core.buffer import Bounds, Buffer, BufferFullError, Excess, Offer
from streamapp.errors import ConfigError, TooLargeError


def filled(excess: Excess, **options: int) -> Buffer[str]:
    buffer = Buffer[str](Bounds(2, 10), excess, **options)
    for item in "ab":
        assert buffer.offer(item, 4) is Offer.ACCEPTED
    return buffer


def content(buffer: Buffer[str]) -> str:
    return "".join(buffer.take() for _ in range(len(buffer)))


def test_items_come_out_in_order_and_their_bytes_with_them() -> None:
    buffer = filled("block")
    assert (buffer.take(), buffer.size_bytes) == ("a", 4)
    assert (buffer.take(), buffer.size_bytes) == ("b", 0)
    with pytest.raises(IndexError):
        buffer.take()


def test_block_takes_nothing_in_and_counts_nothing_until_there_is_room() -> None:
    buffer = filled("block")
    assert buffer.offer("c", 1) is Offer.MUST_WAIT
    assert (buffer.offered, buffer.dropped) == (2, {})
    buffer.take()
    assert buffer.offer("c", 1) is Offer.ACCEPTED
    assert content(buffer) == "bc"


def test_drop_newest() -> None:
    buffer = filled("drop_newest")
    assert buffer.offer("c", 1) is Offer.DROPPED
    assert (buffer.dropped, content(buffer)) == ({"drop_newest": 1}, "ab")


def test_drop_oldest_makes_room_in_items() -> None:
    buffer = filled("drop_oldest")
    assert buffer.offer("c", 1) is Offer.ACCEPTED
    assert (buffer.dropped, content(buffer)) == ({"drop_oldest": 1}, "bc")


def test_drop_oldest_makes_room_in_bytes() -> None:
    buffer = filled("drop_oldest")
    assert buffer.offer("c", 10) is Offer.ACCEPTED
    assert (buffer.dropped, content(buffer)) == ({"drop_oldest": 2}, "c")


def test_an_item_that_never_fits_drives_nothing_out() -> None:
    buffer = filled("drop_oldest")
    assert buffer.offer("c", 11) is Offer.DROPPED
    assert (buffer.dropped, content(buffer)) == ({"drop_oldest": 1}, "ab")


def test_sample_lets_every_nth_in_that_finds_no_room() -> None:
    buffer = filled("sample", sample_every=3)
    offers = [buffer.offer(item, 1) for item in "cdefgh"]
    assert offers == [Offer.DROPPED, Offer.DROPPED, Offer.ACCEPTED] * 2
    assert (buffer.dropped, content(buffer)) == ({"sample": 6}, "eh")


def test_fail_changes_nothing() -> None:
    buffer = filled("fail")
    with pytest.raises(BufferFullError, match="2 items"):
        buffer.offer("c", 1)
    assert (buffer.offered, content(buffer)) == (2, "ab")


@pytest.mark.parametrize("excess", ["block", "fail"])
def test_an_item_that_would_wait_for_ever_is_an_error(excess: Excess) -> None:
    with pytest.raises(TooLargeError, match="11 bytes"):
        Buffer[str](Bounds(5, 10), excess).offer("c", 11)


def test_what_is_no_bound_is_refused() -> None:
    for items, size_bytes in ((0, None), (1, 0)):
        with pytest.raises(ConfigError, match="0"):
            Bounds(items, size_bytes)
    with pytest.raises(ConfigError, match="0"):
        Buffer[str](Bounds(1), "sample", sample_every=0)
