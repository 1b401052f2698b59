"""Quix Streams: ``python -m streamapp.bench.keyed.quix``, its state in RocksDB.

The records are keyed by user, so that its state is too. Only Kafka.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quixstreams import Application

from streamapp.bench.keyed.plan import Stopwatch, told

plan = told()
watch = Stopwatch(plan)
app = Application(
    broker_address=plan.servers,
    consumer_group=plan.app,
    auto_offset_reset="earliest",
    state_dir=Path(plan.folder) / plan.app,
    loglevel="WARNING",
)


def _add(event: Any, state: Any) -> Any:
    total = state.get("total", 0) + event["amount"]
    state.set("total", total)
    watch.count()
    return {"id": event["id"], "total": total}


def _watch_recovery() -> None:
    """Tell how long recovery takes; it is no step of its own to those who use Quix."""
    manager = app._state_manager  # noqa: SLF001 - as above
    recover = manager.do_recovery

    def timed() -> None:
        watch.start()
        recover()
        watch.stop()

    manager.do_recovery = timed


def main() -> None:
    """Sum amounts by user, and send each new total if asked to."""
    events = app.topic(plan.topic, key_deserializer="str", value_deserializer="json")
    totals = app.dataframe(events).apply(_add, stateful=True)
    if plan.mode != "table":
        totals.to_topic(app.topic(plan.out, key_serializer="str", value_serializer="json"))
    if plan.mode == "recovery":
        _watch_recovery()
    app.run()


if __name__ == "__main__":
    main()
