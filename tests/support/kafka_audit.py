"""Holds a run of the crash application over Kafka against its input; see ``queue_checker``.

It may be asked for at any moment at which no worker runs: what was committed of each agent, and
what stands in the logs, must agree also in the middle of the input. Tables that two agents write,
and those behind ``group_by``, are left to ``Run.differences``: their order is not determined.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from support.kafka_offsets import commits_of
from support.queue_checker import Commit, Expected, Found, Sent, anomalies
from support.reference import AGENTS, Effects, Seen, effects_of, replay

from streamapp.core.positions import parse_progress
from streamapp.serde.ordered_keys import decode_key
from streamapp.transport.kafka.takeover import end_left_open

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.kafka_run import KafkaRun

Lanes = defaultdict[Any, list[Any]]
#: Which agent alone writes a table.
TABLES = {
    "counts": "count",
    "sums": "count",
    "lists": "count",
    "present": "count",
    "last": "ordered",
    "chain": "ordered",
    "flaky": "flaky",
}


def audit(run: KafkaRun) -> list[str]:
    """Return what is wrong with what the run has left so far; no worker runs."""
    tps = run.partitions("in")
    end_left_open(run.bus._cluster, "crash", tps)  # type: ignore[attr-defined] # as the next owner would
    log = run.read("in")
    return [
        str(one)
        for one in anomalies(
            expected_of(log, _places(run)),
            found_of(run, log),
            at_once=run.plan.guarantee != "exactly_once",
        )
    ]


def _places(run: KafkaRun) -> dict[tuple[str, int], int]:
    """Return the committed place of each agent in each partition."""
    found: dict[tuple[str, int], int] = defaultdict(int)
    for tp, position in run.bus.committed("crash", run.partitions("in")).items():
        progress = parse_progress(position.offset, position.metadata)
        names = {name.rpartition(".")[2]: name for name in progress.ahead}
        for agent in AGENTS:
            found[agent, tp.partition] = progress.of(names.get(agent, ""))
    return found


def expected_of(log: list[Seen], places: Mapping[tuple[str, int], int]) -> Expected:
    """Return what the application does with a log, each agent up to its place."""
    keys = {(one.partition, one.offset): one.key for one in log}
    rest, due = _lanes(keys, effects_of(log)), Lanes(list)
    letters: Counter[Any] = Counter()
    rows: dict[str, dict[Any, list[Any]]] = {table: {} for table in TABLES}
    for agent in AGENTS:
        effects, done = Effects(), [one for one in log if one.offset < places[agent, one.partition]]
        for record, effects in replay(done):
            key = (record.key or b"").decode()
            for table in (table for table, owner in TABLES.items() if owner == agent):
                states = rows[table].setdefault((record.partition, key), [])
                states.append(_text(effects.tables[table].get(key)))
        letters |= {about: n for about, n in effects.letters.items() if about[0] == agent}
        due |= {lane: sent for lane, sent in _lanes(keys, effects).items() if lane[0] == agent}
    for lane, sent in rest.items():
        rest[lane] = sent[len(due[lane]) :]
    return Expected(due, rest, letters, rows)


def _lanes(keys: Mapping[tuple[int, int], bytes | None], effects: Effects) -> Lanes:
    """Return outputs by agent and partition, which keep their order."""
    found = Lanes(list)
    for partition, outputs in effects.outputs.items():
        for one in outputs:
            key = keys[partition, one["offset"]]
            found[_sender(one), partition].append((key, _text(one)))
    return found


def _sender(output: dict[str, Any]) -> str:
    return "flaky" if "flaky" in output else "forward"


def found_of(run: KafkaRun, log: list[Seen]) -> Found:
    """Return what stands in the cluster."""
    prefix, tps = run.bus._cluster.names.prefix, run.partitions("in")  # type: ignore[attr-defined] # a Kafka's
    outputs = Lanes(list)
    for seen in run.read("out"):
        one = json.loads(seen.value or b"")
        outputs[_sender(one), seen.partition].append((seen.key, _text(one)))
    commits = commits_of(run.servers, f"{prefix}crash", prefix)
    return Found(
        run.acknowledged,
        run.unanswered,
        [Sent(one.partition, one.offset, (one.key, one.value)) for one in log],
        dict(outputs),
        dict(run.letters()),  # type: ignore[arg-type] # keys of one kind are keys of any
        {table: _rows(run, table) for table in TABLES},
        [Commit(one.tp, one.owner, one.offset) for one in commits if one.tp in tps],
        {tp: span.end for tp, span in run.bus.offsets(tps).items()},
    )


def _rows(run: KafkaRun, table: str) -> Lanes:
    rows = Lanes(list)
    for seen in run.read(f"crash-{table}-changelog"):
        value = None if seen.value is None else _text(json.loads(seen.value))
        rows[seen.partition, decode_key(seen.key or b"")].append(value)
    return rows


def _text(value: Any) -> str | None:
    """Return a value in a form that has a hash; an absent row has none."""
    return None if value is None else json.dumps(value, sort_keys=True)
