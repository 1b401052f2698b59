"""The made-up shop: reproducible, and with all that real data brings."""

from collections import Counter

import msgspec
import pytest

from agents.demo_events import DemoRecord, demo_records
from agents.records import Click, Order
from streamapp.cdc.change import Change, row_key
from streamapp.cdc.envelope import parse
from streamapp.cdc.replica import Decision, RowState, apply_change

NOW_MS = 1_700_000_000_000


def records(topic: str, upto: int = 8_000) -> list[DemoRecord]:
    made = (one for number in range(upto) for one in demo_records(7, number, NOW_MS))
    return [one for one in made if one.topic == topic]


def decoded(topic: str, kind: type) -> list:
    values = []
    for one in records(topic):
        try:
            values.append(msgspec.json.decode(one.value or b"", type=kind))
        except msgspec.DecodeError:
            values.append(None)
    return values


def test_an_event_can_be_made_again_from_its_number() -> None:
    numbers = (0, 4, 19, 996, 12_345)
    first = [demo_records(7, number, NOW_MS) for number in numbers]
    assert first == [demo_records(7, number, NOW_MS) for number in numbers]
    assert first != [demo_records(8, number, NOW_MS) for number in numbers]


def test_orders_come_late_and_out_of_order_and_a_few_are_broken() -> None:
    orders = decoded("orders", Order)
    times = [order.ts_ms for order in orders if order]
    assert 1 <= orders.count(None) < 20
    assert max(times) <= NOW_MS
    assert NOW_MS - 60_000 <= min(times) < NOW_MS - 5_000
    assert times != sorted(times)


def test_phases_make_alerts_fire_and_resolve() -> None:
    def biggest(first: int, last: int) -> float:
        made = [one for n in range(first, last) for one in demo_records(7, n, NOW_MS)]
        orders = [
            msgspec.json.decode(one.value or b"", type=Order)
            for one in made
            if one.topic == "orders" and (one.value or b"").endswith(b"}")
        ]
        return max(order.amount for order in orders)

    assert biggest(0, 990) < 200
    assert biggest(1_000, 1_990) > 400
    assert biggest(2_000, 2_990) < 200
    loads = [click.load_ms for click in decoded("clicks", Click) if click.page == "/checkout"]
    assert min(loads) < 500
    assert max(loads) > 800


def test_the_replica_drops_what_comes_twice_or_too_late() -> None:
    states: dict[str, RowState | None] = {}
    decisions: Counter[Decision] = Counter()
    for one in records("shop.public.customers"):
        change = parse(one.key, one.value, topic=one.topic)
        assert isinstance(change, Change)
        key = row_key(change.key)
        outcome = apply_change(states.get(key), change)
        states[key] = outcome.state
        decisions[outcome.decision] += 1
        assert outcome.unresolved == ()
    assert set(decisions) == {
        Decision.INSERTED,
        Decision.UPDATED,
        Decision.DELETED,
        Decision.REPEATED,
        Decision.OUTDATED,
        Decision.NOTHING_TO_DELETE,
    }
    assert decisions[Decision.DELETED] == decisions[Decision.NOTHING_TO_DELETE]


@pytest.mark.parametrize("topic", ["orders", "clicks"])
def test_keys_are_users(topic: str) -> None:
    assert {b"ada", b"grace"} <= {one.key for one in records(topic)}
