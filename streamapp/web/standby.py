"""What a worker stands by for, as the API and the metrics tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamapp.errors import BrokerError
from streamapp.web.asked import asked

if TYPE_CHECKING:
    from streamapp.app import App
    from streamapp.core.batch import TP
    from streamapp.state.table import Table


async def standby_lags(app: App) -> dict[TP, int]:
    """Return how many offsets of each changelog that is followed are not in the store yet.

    Raises:
        BrokerError: The broker cannot be read.
    """
    at = dict(app.engine.standby.positions)
    tps = sorted(at)
    ends = await asked(app, ("ends", *tps), lambda: app.broker.offsets(tps)) if at else {}
    return {tp: max(ends[tp].end - offset, 0) for tp, offset in sorted(at.items())}


async def standby_of(app: App) -> dict[str, Any] | None:
    """Return what this worker stands by for; ``None`` if it was not asked to."""
    if not app.options.standbys:
        return None
    try:
        lags = await standby_lags(app)
    except BrokerError:
        lags = {}
    return {
        "copies": app.options.standbys,
        "records": app.engine.standby.records,
        "partitions": [
            {"changelog": tp.topic, "partition": tp.partition, "lag": lag}
            for tp, lag in lags.items()
        ],
    }


def role_of(app: App, table: Table, partition: int) -> str | None:
    """Return what this worker is for a partition of a table; ``None`` for nothing."""
    if partition in table.shards:
        return "active"
    plans = app.engine.standby.plans.values()
    is_followed = any((plan.table, plan.partition) == (table.name, partition) for plan in plans)
    return "standby" if is_followed else None
