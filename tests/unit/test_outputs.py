"""The way out of an event: the outbox, and the records that topics make for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.batch import TP, OutRecord
from streamapp.core.limits import RECORD_BYTES, Limits
from streamapp.engine.outbox import Outbox
from streamapp.engine.outlet import Outlet
from streamapp.errors import BrokerUnavailableError, InputError, UsageError
from streamapp.transport.partitioner import StickyChooser, partition_for_key

#: Records of this topic wait for the commit.
WAITS = "own"


def records(topic: str, *numbers: int) -> list[OutRecord]:
    return [OutRecord(TP(topic, 0), None, b"%d" % number, 0) for number in numbers]


class Client:
    """Sends at once what is of no topic that waits, in the calls that it notes."""

    def __init__(self) -> None:
        self.calls: list[list[OutRecord]] = []
        self.is_up = True

    @property
    def left(self) -> list[OutRecord]:
        return [record for call in self.calls for record in call]

    def send(self, given: Sequence[OutRecord]) -> list[OutRecord]:
        if not self.is_up:
            msg = "no way"
            raise BrokerUnavailableError(msg)
        self.calls.append([record for record in given if record.tp.topic != WAITS])
        return [record for record in given if record.tp.topic == WAITS]


def outbox_of(client: Client) -> Outbox:
    outbox = Outbox()
    outbox.send = client.send
    return outbox


async def test_outputs_of_one_turn_leave_together_when_it_ends() -> None:
    client = Client()
    outbox = outbox_of(client)
    outbox.add(records("out", 1))
    outbox.add([*records("out", 2), *records(WAITS, 3)])
    assert client.calls == []
    assert len(outbox) == 3
    await asyncio.sleep(0)
    assert client.calls == [records("out", 1, 2)]
    assert outbox.wanted.is_set()
    assert outbox.take() == records(WAITS, 3)


async def test_outputs_of_a_long_turn_do_not_wait_for_its_end() -> None:
    client = Client()
    outbox = outbox_of(client)
    for number in range(250):
        outbox.add(records("out", number))
    assert client.left == records("out", *range(200))
    await asyncio.sleep(0)
    assert client.left == records("out", *range(250))
    assert not outbox.wanted.is_set()


async def test_cut_takes_no_event_whose_outputs_have_not_left() -> None:
    client = Client()
    outbox = outbox_of(client)
    outbox.add(records("out", 1))
    assert outbox.take() == []
    assert client.calls == [records("out", 1)]
    await asyncio.sleep(0)
    assert len(client.calls) == 1


async def test_outputs_that_cannot_leave_stay_and_the_cut_is_told() -> None:
    client = Client()
    outbox = outbox_of(client)
    client.is_up = False
    sent = records("out", *range(120))
    for record in sent:
        outbox.add([record])
    await asyncio.sleep(0)
    assert len(outbox) == len(sent)
    with pytest.raises(BrokerUnavailableError):
        outbox.take()
    client.is_up = True
    outbox.take()
    assert client.left == sent


async def test_dropped_outputs_never_leave() -> None:
    client = Client()
    outbox = outbox_of(client)
    outbox.add([*records("out", 1), *records(WAITS, 2)])
    outbox.drop()
    await asyncio.sleep(0)
    assert client.left == []
    assert outbox.take() == []


texts = st.sampled_from([None, b"", b"k", b"12345678"])


@given(
    limits=st.builds(
        Limits,
        st.sampled_from([None, RECORD_BYTES, RECORD_BYTES + 8, RECORD_BYTES + 9]),
        st.sampled_from([None, 0, 60_000]),
        st.booleans(),
    ),
    sent=st.lists(
        st.tuples(texts, texts, st.sampled_from([-3_600_000, 30_000, 3_600_000]), st.booleans()),
        max_size=5,
    ),
)
def test_outlet_refuses_what_the_limits_refuse(
    limits: Limits, sent: list[tuple[bytes | None, bytes | None, int, bool]]
) -> None:
    """Whatever was sent before; a topic takes what it takes, by the clock of now."""
    outlet = Outlet("out", 3, limits, StickyChooser())
    for key, value, ahead_ms, has_header in sent:
        now_ms = time.time_ns() // 1_000_000
        headers = (("h", b""),) if has_header else ()
        place = partition_for_key(key, 3) if key is not None else 0
        record = OutRecord(TP("out", place), key, value, now_ms + ahead_ms, headers)
        try:
            limits.check(record, now_ms)
        except InputError as exc:
            with pytest.raises(type(exc)):
                outlet.record(key, value, record.timestamp_ms, headers, None)
        else:
            assert outlet.record(key, value, record.timestamp_ms, headers, None) == record


def test_outlet_refuses_partitions_that_are_not_there() -> None:
    outlet = Outlet("out", 2, Limits(), StickyChooser())
    assert outlet.record(b"k", None, 0, (), 1).tp == TP("out", 1)
    for partition in (-1, 2):
        with pytest.raises(UsageError, match=f"no partition {partition}"):
            outlet.record(b"k", None, 0, (), partition)


def test_outlet_goes_by_new_limits() -> None:
    outlet = Outlet("out", 1, Limits(max_bytes=RECORD_BYTES + 1), StickyChooser())
    with pytest.raises(InputError):
        outlet.record(None, b"22", 0, (), None)
    outlet.set_limits(Limits(max_bytes=RECORD_BYTES + 2))
    outlet.record(None, b"22", 0, (), None)
