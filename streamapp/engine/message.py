"""A record as the message that Faust's events carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import faust
from faust.types.tuples import ConsumerMessage

if TYPE_CHECKING:
    from streamapp.core.batch import RecordBatch


def message_of(batch: RecordBatch, index: int) -> ConsumerMessage:
    """Return the message of a record of a batch."""
    key, value = batch.keys[index], batch.values[index]
    return ConsumerMessage(
        batch.tp.topic,
        batch.tp.partition,
        batch.offsets[index],
        batch.timestamps[index] / 1_000,
        0,
        dict(batch.headers[index]) if batch.headers is not None else {},
        key,
        value,
        None,
        len(key) if key is not None else 0,
        len(value) if value is not None else 0,
        faust.types.TP(*batch.tp),
        generation_id=0,
    )
