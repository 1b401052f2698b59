"""Totals and sessions in event time, declared as pipelines; their tables are in the table view."""

from __future__ import annotations

import streamapp
from agents.records import Order
from agents.topics import clicks, orders
from app import app

#: Orders that came more than two minutes after their minute had closed.
late_orders = app.topic("late-orders", key_type=str, value_type=Order)

orders_per_minute = (
    app.pipeline("orders-per-minute")
    .source(orders)
    .group_by("type")
    .window(streamapp.tumbling("1m", late="2m"), on_late=late_orders)
    .emit("update")
    .aggregate(
        n=streamapp.count(),
        total=streamapp.sum("amount"),
        mean=streamapp.avg("amount"),
        sd=streamapp.stddev("amount"),
    )
    .to(table="orders_per_minute", keep="1d")
)

sessions = (
    app.pipeline("sessions-by-user")
    .source(clicks)
    .window(streamapp.session("5m"))
    .emit("update")
    .aggregate(pages=streamapp.count(), slowest_ms=streamapp.max("load_ms"))
    .to(table="sessions_by_user", keep="1d")
)
