"""What a worker is doing: its state, its agents, its partitions; and the probes.

Reads plain counts of the engine on the event loop; what only the broker knows is asked in a thread.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from streamapp.core.times import NEVER_MS
from streamapp.engine.states import EngineState
from streamapp.engine.topics import all_partitions
from streamapp.errors import BrokerError
from streamapp.web.answers import answer
from streamapp.web.asked import asked
from streamapp.web.problems import not_ready
from streamapp.web.standby import standby_of

if TYPE_CHECKING:
    from aiohttp.web import Request, Response

    from streamapp.app import App
    from streamapp.core.batch import TP
    from streamapp.core.watermarks import Headway
    from streamapp.engine.feed import Feed
    from streamapp.engine.restore import RestoreProgress
    from streamapp.transport.broker import MemberInfo, OffsetRange, Position

#: Bounds of Retry-After, in seconds: a restore's rate is a guess.
_SOONEST_S, _LATEST_S = 1, 30

Offsets = tuple[dict["TP", "OffsetRange"], dict["TP", "Position"]]


class WorkerViews:
    """Answers to requests about the worker."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def live(self, _: Request) -> Response:
        """Answer that the event loop answers."""
        return answer({"status": "alive"})

    async def ready(self, _: Request) -> Response:
        """Answer whether the tables are restored and the agents at work."""
        require_running(self._app)
        return answer({"status": "ready", "phase": self._app.engine.phase})

    async def status(self, _: Request) -> Response:
        """Answer with the state of the worker and of its group."""
        app, engine = self._app, self._app.engine
        is_started = engine.phase is not EngineState.STARTING
        # At once: each may have to wait for a broker that is silent.
        group, standby = await asyncio.gather(_group(app, is_started=is_started), standby_of(app))
        return answer(
            {
                "app": app.conf.id,
                "worker": str(app.conf.canonical_url),
                "version": version("streamapp"),
                "broker": [_shown(url) for url in app.conf.broker],
                "now_ms": time.time_ns() // 1_000_000,
                "phase": engine.phase,
                "problem": engine.problem,
                "waiting_for": engine.gate.reasons,
                "restore": restore_of(app),
                "standby": standby,
                "events": sum(feed.stats.events for feed in engine.subscriptions),
                "group": group,
                "commits": _commits(app) if is_started else None,
                "checkpoints": _checkpoints(app),
            }
        )

    async def agents(self, _: Request) -> Response:
        """Answer with the agents, and the streams that belong to none."""
        app = self._app
        feeds: dict[str, list[Feed]] = {}
        for feed in app.engine.subscriptions:
            feeds.setdefault(feed.name, []).append(feed)
        agents = [
            _agent(name, getattr(agent, "condition", "running"), feeds.pop(name, []))
            for name, agent in app.agents.items()
        ]
        streams = [
            # A pipeline that its policy has stopped is none that runs.
            _agent(name, "failed" if any(feed.is_stopped for feed in of) else "running", of)
            for name, of in feeds.items()
        ]
        return answer({"agents": [*agents, *streams]})

    async def partitions(self, _: Request) -> Response:
        """Answer with the partitions of all topics that agents read, with their lag."""
        app, engine = self._app, self._app.engine
        tps = all_partitions(engine.topics.counts, engine.subscriptions.topics)
        ranges, committed = await offsets_of(app, tps)
        return answer({"partitions": [_partition(app, tp, ranges, committed) for tp in tps]})


def require_running(app: App) -> None:
    """Let only a worker pass whose tables can be read.

    Raises:
        ProblemError: 503 with the phase, the problem and how far the restore is.
    """
    engine = app.engine
    if engine.phase is not EngineState.RUNNING:
        restore = restore_of(app)
        left_s = restore["seconds_left"] if restore else None
        after_s = min(max(math.ceil(left_s or 0), _SOONEST_S), _LATEST_S)
        raise not_ready(engine.phase, engine.problem, restore, after_s)


async def offsets_of(app: App, tps: list[TP]) -> Offsets:
    """Return the readable ranges and the group's committed positions.

    Raises:
        BrokerError: The broker cannot be read.
    """
    if not tps:
        return {}, {}
    broker, group = app.broker, app.conf.id
    what = ("offsets", *tps)
    return await asked(app, what, lambda: (broker.offsets(tps), broker.committed(group, tps)))


async def members_of(app: App) -> list[MemberInfo]:
    """Return the living members of the application's group.

    Raises:
        BrokerError: The broker cannot be read.
    """
    members = await asked(app, "members", lambda: app.broker.members(app.conf.id))
    return [member for member in members if member.is_alive]


def restore_of(app: App) -> dict[str, Any] | None:
    """Return how far the latest restore is; ``None`` before the first."""
    if app.engine.phase is EngineState.STARTING or app.engine.keeper.progress is None:
        return None
    progress: RestoreProgress = app.engine.keeper.progress
    done, total = progress.records
    rate = progress.rate
    return {
        "is_done": progress.ended is not None,
        "records": done,
        "total": total,
        "at_hand": sum(progress.at_hand.values()),
        "records_per_second": round(rate),
        "seconds_left": round((total - done) / rate, 1) if rate else None,
        "partitions": [
            {
                "changelog": tp.topic,
                "partition": tp.partition,
                "records": progress.done.get(tp, 0),
                "total": of,
            }
            for tp, of in dict(progress.total).items()
        ],
    }


async def _group(app: App, *, is_started: bool) -> dict[str, Any] | None:
    if not is_started:
        return None
    group = app.engine.group
    try:
        members = await members_of(app)
    except BrokerError:
        # The state of the worker matters most when the broker fails; `problem` tells of it.
        members = []
    return {
        "member": group.member.id if group.member is not None else None,
        "generation": group.generation,
        "rebalances": group.rebalances,
        "members": [
            {"id": each.id, "url": each.url, "partitions": len(each.tps)} for each in members
        ],
    }


def _commits(app: App) -> dict[str, Any]:
    stats = app.engine.committer.stats
    return {
        "commits": stats.commits,
        "records": stats.records,
        "failures": stats.failures,
        "last_seconds": stats.last_seconds,
        "last_ms": round(stats.last_at * 1_000),
        "broker_is_full": app.engine.committer.is_full,
    }


def _checkpoints(app: App) -> dict[str, Any] | None:
    maker = app.engine.checkpoints
    if maker is None:
        return None
    return {
        "made": maker.made,
        "last_id": maker.last_id,
        "last_seconds": maker.last_seconds,
        "last_ms": round(maker.last_at * 1_000),
    }


def _agent(name: str, condition: str, feeds: list[Feed]) -> dict[str, Any]:
    stats = [feed.stats for feed in feeds]
    errors: dict[str, int] = {}
    for each in stats:
        for kind, count in dict(each.errors).items():
            errors[kind] = errors.get(kind, 0) + count
    policy = feeds[0].plan.rejects.policy if feeds else None
    return {
        "name": name,
        "state": condition,
        "topics": sorted({topic for feed in feeds for topic in feed.plan.topics}),
        "policy": policy and {"retries": policy.retries, "then": str(policy.then)},
        "events": sum(each.events for each in stats),
        "errors": errors,
        "retries": sum(each.retries for each in stats),
        "skipped": sum(each.skipped for each in stats),
        "dead_letters": sum(each.dead_letters for each in stats),
        "from_the_future": sum(each.from_the_future for each in stats),
        "last_error": next((each.last_error for each in stats if each.last_error), ""),
    }


def _partition(
    app: App, tp: TP, ranges: Mapping[TP, OffsetRange], committed: Mapping[TP, Position]
) -> dict[str, Any]:
    engine = app.engine
    position = committed.get(tp)
    owned = tp in engine.owned
    start = position.offset if position else ranges[tp].earliest
    progress = engine.subscriptions.progress(tp) if owned else None
    at = progress.offset if progress else start
    readers = [feed for feed in engine.subscriptions.readers(tp.topic) if feed.owns(tp)]
    return {
        "topic": tp.topic,
        "partition": tp.partition,
        "owned": owned,
        "paused": tp in engine.paused,
        "committed": position.offset if position else None,
        "positions": {feed.name: feed.position(tp) for feed in readers},
        "watermarks": {
            name: _watermark(headway) for (name, _), headway in headways_of(app, [tp]).items()
        },
        "end": ranges[tp].end,
        "lag": max(ranges[tp].end - at, 0),
    }


def headways_of(app: App, tps: Iterable[TP]) -> dict[tuple[str, TP], Headway]:
    """Return how far event time is for each agent and owned partition that it reads."""
    found: dict[tuple[str, TP], Headway] = {}
    for tp in tps:
        for feed in app.engine.subscriptions.readers(tp.topic):
            if feed.owns(tp):
                place, headway = (feed.name, tp), feed.headway(tp)
                # One agent may read a topic twice; its slower stream counts.
                found[place] = min(headway, found.get(place, headway), key=_by_watermark)
    return found


def _by_watermark(headway: Headway) -> int:
    return headway.watermark_ms


def _watermark(headway: Headway) -> dict[str, Any]:
    """Return a watermark for people: ``None`` where no record has told the time yet."""
    at_ms = headway.watermark_ms
    is_known = at_ms > NEVER_MS
    return {
        "watermark_ms": at_ms if is_known else None,
        "delay_ms": time.time_ns() // 1_000_000 - at_ms if is_known else None,
        "is_idle": headway.is_idle,
    }


def _shown(url: Any) -> str:  # noqa: ANN401 - Faust's yarl URL
    """Return a broker's URL without its password."""
    text = str(url.with_password("***")) if url.password else str(url)
    return text if "://" in text else text.replace(":", "://", 1)
