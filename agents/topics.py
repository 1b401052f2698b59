"""The topics of the application, each declared once."""

from __future__ import annotations

from agents.records import Click, Metric, Notice, Order, Partial
from app import app

_timed = {"event_time": "ts_ms", "out_of_order": "5s"}
orders = app.topic("orders", key_type=str, value_type=Order, **_timed)
clicks = app.topic("clicks", key_type=str, value_type=Click, **_timed)

#: Keyed by order type.
order_partials = app.topic("order-partials", key_type=str, value_type=Partial)
#: Keyed by series, so that one partition sees all values of a series, in order.
metrics = app.topic("metrics", key_type=str, value_type=Metric)
#: Keyed by the alert's fingerprint.
alerts = app.topic("alerts", key_type=str, value_type=Notice)

#: As a Debezium connector creates it: one partition; null values are tombstones.
customer_changes = app.topic(
    "shop.public.customers", key_type=bytes, value_type=bytes, partitions=1, allow_empty=True
)
