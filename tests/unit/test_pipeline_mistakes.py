"""Mistakes in the declaration of a pipeline are told when it is declared, and how to mend them."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import faust
import pytest

import streamapp
from streamapp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamapp.pipelines.flow import Flow

numbers = count()


class Order(streamapp.Record):
    user: str
    amount: float
    ts: int

    @property
    def cents(self) -> int:
        return round(self.amount * 100)


class FaustOrder(faust.Record):
    user: str
    amount: float
    ts: int


class Plain:
    def __init__(self) -> None:
        self.user = "ann"


def flow_of(value_type: Any = Order) -> Flow:
    name = f"app{next(numbers)}"
    app = streamapp.App(name, broker=f"memory://{name}")
    return app.pipeline("p").source(app.topic("orders", value_type=value_type))


def windowed(**options: Any) -> Any:
    return flow_of().window(streamapp.tumbling("1m"), **options)


def joined(word: str, **options: Any) -> Any:
    flow = flow_of()
    return getattr(flow, word)(flow.pipeline.source("others"), **options)


async def asks(value: Any) -> Any:
    return value


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "key": (lambda: flow_of().group_by("usr"), "Order has no field 'usr'. Did you mean 'user'?"),
    "key of Faust": (lambda: flow_of(FaustOrder).key_by("usr"), "Did you mean 'user'?"),
    "id": (lambda: flow_of().dedup("id", within="1m"), "It has user, amount, ts"),
    "aggregate": (
        lambda: windowed().aggregate(total=streamapp.sum("amuont")),
        "Pipeline p: total: Order has no field 'amuont'. Did you mean 'amount'?",
    ),
    "second field": (
        lambda: windowed().aggregate(best=streamapp.top_k("user", 3, by="amuont")),
        "best: Order has no field 'amuont'",
    ),
    "window": (
        lambda: flow_of().window("1m"),  # type: ignore[arg-type] # on purpose
        "'1m' is no window. Give streamapp.tumbling",
    ),
    "no aggregates": (lambda: windowed().aggregate(), "aggregate() of nothing"),
    "no aggregate": (lambda: windowed().aggregate(n=len), "is no aggregate"),
    "taken name": (lambda: windowed().aggregate(start=streamapp.count()), "'start'"),
    "late": (lambda: windowed(on_late="corrects"), 'on_late=\'corrects\'. Use "drop", "correct"'),
    "side": (lambda: windowed(on_late="side"), 'on_late=app.topic("late-orders")'),
    "emit": (lambda: windowed().emit("updates"), 'Use "close", "update", or every="10s"'),
    "emit every": (lambda: windowed().emit(every=0), "every=0"),
    "text": (lambda: flow_of().map("amount"), "calls functions"),  # type: ignore[arg-type] # on purpose
    "coroutine": (lambda: flow_of().map(asks), "cannot await"),
    "rate": (lambda: flow_of().rate_limit(0), "at least 1"),
    "burst": (lambda: flow_of().rate_limit(5, burst=-1), "bursts of -1"),
    "no burst": (lambda: flow_of().rate_limit(5, burst=0), "bursts of 0"),
    "excess": (
        lambda: flow_of().rate_limit(2, excess="block"),  # type: ignore[arg-type] # on purpose
        "rate_limit(excess='block'). Use one of drop, delay",
    ),
    "sample": (lambda: flow_of().buffer(5, rate=1, sample_every=0), "buffer(sample_every=0)"),
    "merge": (lambda: flow_of().merge(flow_of()), "merge with a flow of another pipeline"),
    "join": (lambda: joined("join", kind="full"), "Use one of inner, left, outer"),
    "as of": (lambda: joined("join_as_of", kind="outer"), "Use one of inner, left"),
    "as-of": (lambda: joined("join_as_of", kind="inwards"), "join_as_of(kind='inwards')"),
    "join table": (lambda: flow_of().join_table(None, kind="outer"), "Use one of inner, left"),  # type: ignore[arg-type] # on purpose
    "joined topic": (lambda: flow_of().join(3), "join with 3, which is no flow"),  # type: ignore[arg-type] # on purpose
    "as of topic": (lambda: flow_of().join_as_of("o"), "join_as_of with 'o', which is no flow"),  # type: ignore[arg-type] # on purpose
    "merged topic": (lambda: flow_of().merge("o"), "Begin one with it: pipeline.source(topic)"),  # type: ignore[arg-type] # on purpose
    "table by name": (lambda: flow_of().join_table("users"), "'users', which is no table"),  # type: ignore[arg-type] # on purpose
    "source": (lambda: flow_of().pipeline.source(5), "source: 5 is no topic"),  # type: ignore[arg-type] # on purpose
    "target": (lambda: flow_of().to(topic=5), "5 is no topic"),
    "branch": (lambda: flow_of().branch(large=5), "calls functions"),  # type: ignore[arg-type] # on purpose
    "session's own": (
        lambda: flow_of().window(streamapp.session("1m")).aggregate(last=streamapp.last("user")),
        "an aggregate cannot be called 'last'. Take another Python name: rows have key, start",
    ),
    "Python's own": (lambda: windowed().aggregate(__slots__=streamapp.count()), "'__slots__'"),
    "no field": (
        lambda: windowed().aggregate(n=streamapp.sum(None)),  # type: ignore[arg-type] # on purpose
        "is None, neither a name nor a function",
    ),
    "share": (lambda: streamapp.quantile("amount", "0.5"), "'0.5', not a share"),  # type: ignore[arg-type] # on purpose
    "rows once": (
        lambda: flow_of().window(streamapp.count_window(3)).emit("update"),
        "leaves when it is complete",
    ),
    "rows once, too": (
        lambda: flow_of().window(streamapp.sliding("1m")).emit(every="1s"),
        "leaves when it is complete",
    ),
    "no side": (lambda: windowed(on_late=None), "on_late: None is no topic"),
    "parts of records": (lambda: flow_of().rate_limit(1.5), "cannot be 1.5"),  # type: ignore[arg-type] # on purpose
    "nowhere": (lambda: flow_of().to(), "without a target"),
    "number": (lambda: flow_of().to(sink=3), "3 cannot be called"),  # type: ignore[arg-type] # on purpose
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_told(mistake: str) -> None:
    declare, told = MISTAKES[mistake]
    with pytest.raises(ConfigError) as caught:
        declare()
    assert told in str(caught.value)


@pytest.mark.parametrize("event_time", ["t", "timestamp"])
def test_event_time_of_no_field(event_time: str) -> None:
    app = streamapp.App("shop", broker="memory://mistakes")
    with pytest.raises(ConfigError, match=f"Topic orders: event_time: .*{event_time}"):
        app.topic("orders", value_type=Order, event_time=event_time)


def test_what_cannot_be_known_is_not_refused() -> None:
    flow_of(None).group_by("usr")
    flow_of(dict).group_by("usr")
    flow_of().map(lambda _: Plain(), into=Plain).key_by("usr")
    flow_of(FaustOrder).group_by("user")
    flow_of().group_by("cents", name="c")
    flow_of().map(lambda order: {"u": order.user}).key_by("u")
    windowed(on_late="late-orders").aggregate(n=streamapp.count())
