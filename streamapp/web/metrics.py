"""``/metrics``: the engine's plain counts as Prometheus series, made when they are asked for.

Nothing is counted here and nothing is kept: a series exists as long as what it is about, so those
of a revoked partition are gone with it. Units are base units (seconds, bytes).
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from streamapp.core.batch import TP
from streamapp.core.times import NEVER_MS
from streamapp.engine.states import EngineState
from streamapp.errors import BrokerError
from streamapp.web.answers import data_answer
from streamapp.web.standby import standby_lags
from streamapp.web.worker import Offsets, headways_of, offsets_of

if TYPE_CHECKING:
    from aiohttp.web import Request, Response
    from prometheus_client.core import Metric

    from streamapp.app import App
    from streamapp.engine.rejects import FeedStats

_Rows = Iterable[tuple[tuple[str, ...], float]]


class MetricViews:
    """Answers to scrapes."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def metrics(self, request: Request) -> Response:
        """Answer with all series, in the format that the scraper prefers."""
        app, lags = self._app, dict[TP, int]()
        try:
            offsets = await offsets_of(app, sorted(app.engine.owned))
            lags = await standby_lags(app)
        except BrokerError:
            # What the worker knows by itself is worth most when the broker fails.
            offsets = {}, {}
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(EngineCollector(app, offsets, lags))
        try:
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        except (TypeError, ValueError):  # what the client says of a version that is no version
            encode, content_type = choose_encoder("")
        return data_answer(encode(registry), content_type)


class EngineCollector(Collector):
    """The series of one engine; collected on the event loop."""

    def __init__(self, app: App, offsets: Offsets, lags: Mapping[TP, int]) -> None:
        self._app = app
        self._lags = lags
        self._engine = app.engine
        self._ranges, self._committed = offsets

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the names are known when they are collected."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Return the series as they are now."""
        about = {"version": version("streamapp"), "python": platform.python_version()}
        about |= {"app": self._app.conf.id, "worker": str(self._app.conf.canonical_url)}
        yield InfoMetricFamily("streamapp_build", "What runs", about)
        yield from self._events()
        yield from self._state()
        if self._engine.phase is not EngineState.STARTING:
            yield from self._partitions()
            yield from self._watermarks()
            yield from self._commits()
            yield from self._checkpoints()
            yield from self._recovery()
            yield from self._standby()
            yield from self._tables()

    # --- agents ----------------------------------------------------------------------------------

    def _events(self) -> Iterator[Metric]:
        feeds = list(self._engine.subscriptions)
        labels = ("pipeline", "operator")
        stats: dict[tuple[str, ...], list[FeedStats]] = {}
        buffered: dict[tuple[str, ...], float] = {}
        for feed in feeds:
            name = (self._app.conf.id, feed.name)
            stats.setdefault(name, []).append(feed.stats)
            buffered[name] = buffered.get(name, 0) + feed.queued
        for metric, text, attribute in (
            ("stream_events_processed", "Events that are done", "events"),
            ("stream_processed_bytes", "Bytes of events that are done", "bytes"),
            ("streamapp_retries", "Events handed out again after a failure", "retries"),
            ("streamapp_conflicts", "Events run again because of another one", "conflicts"),
            ("streamapp_skipped_events", "Failed events that were skipped", "skipped"),
            ("streamapp_dlq_records", "Failed events in the dead-letter topic", "dead_letters"),
            ("streamapp_future_records", "Records too far ahead of the clock", "from_the_future"),
        ):
            sums = {
                name: sum(getattr(each, attribute) for each in of) for name, of in stats.items()
            }
            yield _counter(metric, text, labels, sums.items())
        yield _counter("stream_errors", "Errors by type", (*labels, "error_type"), _errors(stats))
        yield _gauge("stream_buffer_size", "Records that wait", labels, buffered.items())
        yield from self._set_aside()

    def _set_aside(self) -> Iterator[Metric]:
        rows = [
            (what, (self._app.conf.id, runner.name, step, why), count)
            for runner in self._engine.pipelines.runners
            for (step, what, why), count in sorted(runner.set_aside.items())
        ]
        for name, what, label, text in (
            ("late_records", "late", "outcome", "Records behind the watermark, by what became"),
            ("dropped_records", "dropped", "reason", "Records that a step left out"),
        ):
            of = [(labels, float(count)) for kind, labels, count in rows if kind == what]
            names = ("pipeline", "operator", "step", label)
            yield _counter(f"streamapp_{name}", text, names, of)

    # --- worker ----------------------------------------------------------------------------------

    def _state(self) -> Iterator[Metric]:
        phase = self._engine.phase
        rows = [((str(state),), float(state is phase)) for state in EngineState]
        yield _gauge("streamapp_phase", "1 for the phase of the engine", ("phase",), rows)
        count = len(self._engine.owned)
        yield GaugeMetricFamily("streamapp_assigned_partitions", "Source partitions owned", count)

    def _partitions(self) -> Iterator[Metric]:
        ends = {tp: float(span.end) for tp, span in self._ranges.items()}
        done = {}
        for tp in sorted(self._engine.owned):
            progress = self._engine.subscriptions.progress(tp)
            if progress is not None:
                done[tp] = float(progress.offset)
        committed = {tp: float(position.offset) for tp, position in self._committed.items()}
        lag = {tp: max(end - done[tp], 0.0) for tp, end in ends.items() if tp in done}
        for name, text, of in (
            ("position_offset", "Next offset to process", done),
            ("committed_offset", "Next offset after a restart", committed),
            ("end_offset", "Next offset to be written", ends),
            ("lag_records", "Records written and not processed", lag),
        ):
            rows = [(_place(tp), value) for tp, value in of.items()]
            yield _gauge(f"streamapp_consumer_{name}", text, ("topic", "partition"), rows)

    def _watermarks(self) -> Iterator[Metric]:
        headways = {
            (self._app.conf.id, agent, *_place(tp)): headway
            for (agent, tp), headway in headways_of(self._app, sorted(self._engine.owned)).items()
        }
        now_s = time.time()
        at_s = {
            labels: headway.watermark_ms / 1_000
            for labels, headway in headways.items()
            if headway.watermark_ms > NEVER_MS
        }
        delays = {labels: now_s - at for labels, at in at_s.items()}
        idle = {labels: float(headway.is_idle) for labels, headway in headways.items()}
        for name, text, of in (
            ("watermark_timestamp_seconds", "Up to here no more records are expected", at_s),
            ("watermark_delay_seconds", "From there to now", delays),
            ("watermark_idle", "1 where nobody waits for a silent partition", idle),
        ):
            labels = ("pipeline", "operator", "topic", "partition")
            yield _gauge(f"streamapp_{name}", text, labels, of.items())

    def _commits(self) -> Iterator[Metric]:
        stats, rebalances = self._engine.committer.stats, self._engine.group.rebalances
        yield SummaryMetricFamily(
            "streamapp_commit_seconds", "Time of commits", stats.commits, stats.seconds
        )
        yield CounterMetricFamily(
            "streamapp_commit_records", "Outputs and changes committed", stats.records
        )
        yield CounterMetricFamily(
            "streamapp_commit_failures", "Commits that had to wait for room", stats.failures
        )
        yield GaugeMetricFamily(
            "streamapp_commit_age_seconds", "Since the last commit", time.time() - stats.last_at
        )
        yield CounterMetricFamily("streamapp_rebalances", "Assignments taken", rebalances)

    def _checkpoints(self) -> Iterator[Metric]:
        maker = self._engine.checkpoints
        if maker is None or not maker.made:
            return
        yield CounterMetricFamily("streamapp_checkpoints", "Checkpoints made", maker.made)
        yield GaugeMetricFamily(
            "streamapp_checkpoint_seconds", "Time of the last checkpoint", maker.last_seconds
        )
        yield GaugeMetricFamily(
            "streamapp_checkpoint_age_seconds", "Since then", time.time() - maker.last_at
        )

    def _recovery(self) -> Iterator[Metric]:
        progress = self._engine.keeper.progress
        if progress is None:
            return
        left = [
            (_place(tp), float(of - progress.done.get(tp, 0)))
            for tp, of in dict(progress.total).items()
        ]
        yield _gauge(
            "streamapp_recovery_remaining_records",
            "Changelog records to restore",
            ("topic", "partition"),
            left,
        )
        yield GaugeMetricFamily(
            "streamapp_recovery_rate_records", "Records per second restored", progress.rate
        )
        took = (progress.ended or time.monotonic()) - progress.begun
        yield GaugeMetricFamily(
            "streamapp_recovery_duration_seconds", "Time of the last restore", took
        )

    def _standby(self) -> Iterator[Metric]:
        standby = self._engine.standby
        count = len(standby.plans)
        yield GaugeMetricFamily(
            "streamapp_standby_partitions", "Table partitions of others that are followed", count
        )
        yield CounterMetricFamily(
            "streamapp_standby_records", "Changelog records followed", standby.records
        )
        yield _gauge(
            "streamapp_standby_lag_records",
            "Changelog records that are not followed yet",
            ("topic", "partition"),
            [(_place(tp), float(lag)) for tp, lag in self._lags.items()],
        )

    def _tables(self) -> Iterator[Metric]:
        shards = [
            ((table.name, str(number)), shard)
            for table in self._app.tables.values()
            for number, shard in table.shards.items()
        ]
        for name, text, attribute in (
            ("cached_rows", "Rows in memory", "live"),
            ("dirty_rows", "Rows changed since the last commit", "dirty"),
            ("pending_rows", "Committed rows that wait for the local store", "pending"),
        ):
            rows = [(labels, float(len(getattr(shard, attribute)))) for labels, shard in shards]
            yield _gauge(f"streamapp_table_{name}", text, ("table", "partition"), rows)


def _errors(stats: Mapping[tuple[str, ...], list[FeedStats]]) -> _Rows:
    sums: dict[tuple[str, ...], float] = {}
    for name, of in stats.items():
        for each in of:
            for kind, count in each.errors.items():
                sums[*name, kind] = sums.get((*name, kind), 0.0) + count
    return sums.items()


def _place(tp: TP) -> tuple[str, str]:
    return tp.topic, str(tp.partition)


def _counter(name: str, text: str, labels: Iterable[str], rows: _Rows) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=tuple(labels))
    for of, value in rows:
        family.add_metric(of, value)
    return family


def _gauge(name: str, text: str, labels: Iterable[str], rows: _Rows) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=tuple(labels))
    for of, value in rows:
        family.add_metric(of, value)
    return family
