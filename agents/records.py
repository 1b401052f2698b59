"""What the application's topics and tables hold."""

from typing import Annotated

import msgspec

import streamapp
from streamapp.metrics.stats import Moments

#: Labels of a metric or an alert.
Labels = dict[str, str]


class Order(streamapp.Record):
    """A sale. ``ts_ms`` is when it happened, in epoch milliseconds."""

    user: str
    type: str
    amount: Annotated[float, msgspec.Meta(ge=0)]
    ts_ms: int


class Click(streamapp.Record):
    """A page view; ``load_ms`` is how long the page took to appear."""

    user: str
    page: str
    load_ms: Annotated[float, msgspec.Meta(ge=0)]
    ts_ms: int


class Partial(streamapp.Record):
    """The running total of one order type in one partition of the orders."""

    type: str
    partition: int
    amounts: Moments


class TypeTotals(streamapp.Record):
    """The total of one order type, and the parts that it is the sum of, by partition."""

    total: Moments
    parts: dict[str, Moments]


class Metric(streamapp.Record):
    """One value of one series, for the alert rules."""

    name: str
    value: float
    labels: Labels
    ts_ms: int


class Notice(streamapp.Record):
    """An alert that began or ceased to fire; ``id`` is the same when it is delivered again."""

    id: str
    alert: str
    status: str
    severity: str
    labels: Labels
    value: float
    at_ms: int
    active_at_ms: int
    annotations: Labels


class Tick(streamapp.Record):
    """Asks the demo for its next ``count`` events, to happen about ``now_ms``."""

    now_ms: int
    count: int
