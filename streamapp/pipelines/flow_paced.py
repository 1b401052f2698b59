"""The words of a pipeline that keep a pace, by the wall clock; ``pace`` says where they may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from streamapp.core.buffer import Bounds, Excess
from streamapp.core.duration import to_ms
from streamapp.core.rate import Rate
from streamapp.core.sizes import to_bytes
from streamapp.errors import ConfigError
from streamapp.operators.buffer import BufferRows, Limits, buffer_view
from streamapp.operators.limit import RateLimit
from streamapp.pipelines.checks import check_word
from streamapp.pipelines.codecs import StateCodec
from streamapp.pipelines.flow_base import BaseFlow

if TYPE_CHECKING:
    from streamapp.pipelines.flow import Flow
    from streamapp.pipelines.words import Duration


class PacedFlow(BaseFlow):
    """See ``BaseFlow``."""

    def rate_limit(
        self,
        rate: int,
        *,
        per: Duration = "1s",
        burst: int | None = None,
        by_key: bool = False,
        excess: Literal["drop", "delay"] = "drop",
    ) -> Flow:
        """Let no more than ``rate`` records pass in ``per`` of wall time, in each partition.

        Raises:
            ConfigError: A number is less than 1, or there is no such word for the excess.
        """
        where = f"Pipeline {self.pipeline.name}: rate_limit"
        check_word(where, "excess", excess, ("drop", "delay"))
        per_ms = to_ms(per)
        most = rate if burst is None else burst
        Rate(rate, per_ms, most)  # its mistakes are told here, where it is declared
        return self._stateful(
            "rate-limit",
            lambda place: RateLimit(rate, per_ms, most, by_key, excess, place.now_ms),
            (self,),
            self.value_type,
            view=None,
            may_wait=excess == "delay",
            needs_key=by_key,
        )

    def buffer(  # noqa: PLR0913 - what a buffer is made of
        self,
        items: int,
        *,
        rate: int,
        per: Duration = "1s",
        burst: int | None = None,
        size: str | int | None = None,
        when_full: Excess = "block",
        sample_every: int = 10,
    ) -> Flow:
        """Hold up to ``items`` rows, which leave at most ``rate`` in ``per`` of wall time.

        For ends that take no more than that: a burst is held instead of dropped. What is held is
        part of the state and survives the worker. Each partition has a buffer of its own.

        Args:
            items: How many rows are held.
            rate: How many rows leave in ``per``, ``burst`` at once (by default as many).
            per: See ``rate``.
            burst: See ``rate``.
            size: How many bytes are held ("1MiB"); ``None`` for no limit.
            when_full: ``"block"``: the source waits; ``"drop_newest"``, ``"drop_oldest"``,
                ``"sample"`` (of ``sample_every`` rows one takes the place of the oldest): counted;
                ``"fail"``: the record meets the error policy.
            sample_every: See ``when_full``.

        Raises:
            ConfigError: A bound is none, or there is no such policy.
        """
        where = f"Pipeline {self.pipeline.name}: buffer"
        check_word(where, "when_full", when_full, get_args(Excess))
        if sample_every < 1:
            msg = f"{where}(sample_every={sample_every})"
            raise ConfigError(msg, hint="Let it be at least 1: one of so many rows is kept")
        bounds = Bounds(items, None if size is None else to_bytes(size))
        most = Rate(rate, to_ms(per), rate if burst is None else burst)
        limits = Limits(bounds, most, when_full, sample_every)
        codec = StateCodec(self.value_type)
        return self._stateful(
            "buffer",
            lambda place: BufferRows(limits, codec, place.state, place.now_ms),
            (self,),
            self.value_type,
            view=buffer_view,
            may_wait=when_full == "block",
            is_late=True,
            needs_key=False,
        )
