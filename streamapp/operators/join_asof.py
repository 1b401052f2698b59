"""The as-of join: each left record with what was known on the right side at its time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import partial
from typing import Literal

from streamapp.core.rows import NO_ROWS, Rows
from streamapp.core.times import FOREVER_MS, plus
from streamapp.errors import ConfigError
from streamapp.operators.expiring import rounded_up, step_of
from streamapp.operators.join_base import LEFT, RIGHT, Combine, Pair, StreamJoin
from streamapp.operators.join_state import Bucket, Codec, Held, JoinState
from streamapp.operators.operator import RowError, StateView


class AsOfJoin(StreamJoin):
    """Joins a left record at ``t`` with the latest right one of its key in ``[t - within_ms, t]``.

    Of right records with one time the last to arrive counts. A left record waits until the
    watermark reaches ``t``, so the right side is complete; results come in the order of (time,
    arrival) and have the left time. Late are left records behind the watermark, and right ones too
    old for every left record to come. ``within_ms`` of ``None`` is no limit: then the latest right
    record of each key stays for good.
    """

    def __init__(
        self,
        within_ms: int | None,
        combine: Combine,
        state: StateView,
        codecs: tuple[Codec, Codec],
        kind: Literal["inner", "left"] = "left",
    ) -> None:
        if within_ms is not None and within_ms < 0:
            msg = f"An as-of join within {within_ms} ms joins nothing"
            raise ConfigError(msg, hint="Let within be at least 0, or None for no limit")
        within = FOREVER_MS if within_ms is None else within_ms
        right_due = partial(_right_due, within, step_of(within_ms or 0))
        super().__init__(JoinState(state, codecs, (_left_due, right_due)), combine)
        self._within_ms = within
        self._kind = kind
        self._codecs = codecs

    def process(self, rows: Rows, side: int = LEFT) -> Rows:
        """See ``Operator.process``; all results come from ``advance``."""
        encoded: list[tuple[bytes, object]] = []
        try:
            for key, value in zip(rows.keys, rows.values, strict=True):
                self._held.bucket(key)
                data = self._codecs[side].encode(value)
                # What is held is what the state would give back.
                encoded.append((data, self._codecs[side].decode(data)))
        except Exception as exc:  # a value or a key that cannot be kept
            failure = RowError(rows.origins[len(encoded)])
            self._accept(rows.part(0, bisect_left(rows.origins, failure.origin)), encoded, side)
            raise failure from exc
        self._accept(rows, encoded, side)
        return NO_ROWS

    def dues(self, rows: Rows, side: int = LEFT, last_ms: int = FOREVER_MS) -> Sequence[int] | None:
        """See ``Operator.dues``; right records make no work but to remove them."""
        del last_ms
        return rows.times if side == LEFT else None

    def advance(self, watermark_ms: int) -> Rows:
        """Answer the left records that the watermark has reached; see the class."""
        if watermark_ms < self.next_due_ms:
            return NO_ROWS
        answers = []
        for bucket in self._held.due(watermark_ms):
            count = bisect_right(bucket.times[LEFT], watermark_ms)
            for held in bucket.rows[LEFT][:count]:
                partner = self._partner(bucket, held.time_ms)
                if partner is not None or self._kind == "left":
                    pair = Pair(held.value, None if partner is None else partner.value)
                    answers.append((held.time_ms, held.sequence, bucket.key, pair))
            self._held.drop(bucket, LEFT, count)
            self._prune(bucket, watermark_ms)
        self.next_due_ms = self._held.next_due_ms
        answers.sort(key=lambda one: one[:2])
        return self.combined([(time_ms, key, pair) for time_ms, _, key, pair in answers])

    def _accept(self, rows: Rows, encoded: Sequence[tuple[bytes, object]], side: int) -> None:
        patience_ms = self._within_ms if side == RIGHT else 0
        for place in range(len(rows)):
            time_ms, mark_ms = rows.times[place], rows.marks[place]
            bucket = self._held.bucket(rows.keys[place])
            if plus(time_ms, patience_ms) <= mark_ms:
                self.late["dropped"] += 1
            else:
                data, value = encoded[place]
                held = Held(time_ms, 0, value, is_matched=False)
                self._held.add(bucket, side, held, data)
        self._held.tidy()
        self.next_due_ms = self._held.next_due_ms

    def _partner(self, bucket: Bucket, time_ms: int) -> Held | None:
        at = bisect_right(bucket.times[RIGHT], time_ms) - 1
        if at < 0 or bucket.times[RIGHT][at] < time_ms - self._within_ms:
            return None
        return bucket.rows[RIGHT][at]

    def _prune(self, bucket: Bucket, watermark_ms: int) -> None:
        """Drop right records that are of no use to left ones after the watermark."""
        times = bucket.times[RIGHT]
        hidden = bisect_right(times, watermark_ms + 1) - 1
        expired = bisect_right(times, watermark_ms - self._within_ms)
        self._held.drop(bucket, RIGHT, max(hidden, expired, 0))


def _left_due(times: Sequence[int]) -> int:
    return times[0]


def _right_due(within_ms: int, step_ms: int, times: Sequence[int]) -> int:
    """Return when the first right record is of no use: too old, or hidden by the next one."""
    expiry_ms = plus(times[0], within_ms)
    hidden_ms = times[1] - 1 if len(times) > 1 else FOREVER_MS
    return rounded_up(min(expiry_ms, hidden_ms), step_ms)
