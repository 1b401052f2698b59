"""How long a program needs for its table to be back, when all state on the disk is lost."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from streamapp.bench.end_to_end import wait
from streamapp.bench.keyed import runs
from streamapp.bench.keyed.results import CHANGELOGS, check, compare, outputs
from streamapp.bench.keyed.workload import Workload, event, record
from streamapp.transport.broker import TopicSpec

if TYPE_CHECKING:
    from streamapp.bench.keyed.plan import Plan

#: Users who are asked for their totals afterwards.
_ASKED = 500
#: Seconds for the answers: a program that does not leave its group is waited for by the next one.
_ANSWER_S = 90.0


def of_own(here: runs.Place, engine: str, workload: Workload) -> dict[str, float]:
    """Have a program fill its table, delete its state, and start it again.

    Returns:
        ``records``, ``wall_per_s`` and ``cpu_us`` (of one) from the assignment to the table.

    Raises:
        WorkerFailedError: It ended, was stuck, or its rows are wrong.
    """
    with runs.application(here, engine, workload.events) as plan:
        runs.fill(here.broker, plan, workload)
        with runs.worker(here, plan) as process:
            wait(lambda: runs.is_committed(here.broker, plan), process)
        check(here.broker, plan, workload)
        shutil.rmtree(here.folder / plan.app, ignore_errors=True)
        return _timed(here, replace(plan, mode="recovery", events=0), workload)


def of_log(here: runs.Place, engine: str, workload: Workload) -> dict[str, float]:
    """Do the same with a changelog that has a record for each event: many for a row.

    Only for engines whose changelog others can write.
    """
    log = CHANGELOGS[engine]
    if log.key is None:
        raise ValueError(engine)
    with runs.application(here, engine, 0, "recovery") as plan:
        runs.fill(here.broker, plan, Workload(0))
        name, encode = log.topic.format(app=plan.app), log.key
        here.broker.create_topic(
            TopicSpec(name, plan.partitions, frozenset({"compact"}), None, None)
        )
        changes = (
            # A row is where its event is, whatever the key's bytes are in the changelog.
            record(name, number, user.encode(), b"%d" % total, plan.partitions)._replace(
                key=encode(user)
            )
            for number, (user, total) in enumerate(workload.running())
        )
        runs.append(here.broker, changes)
        return _timed(here, plan, workload)


def _timed(here: runs.Place, plan: Plan, workload: Workload) -> dict[str, float]:
    with runs.worker(here, plan) as process:
        told = runs.report(plan, process)
        _ask(here, plan, workload)
    seconds, cpu = told["ended_at"] - told["began_at"], told["cpu_ended"] - told["cpu_began"]
    return {
        "records": workload.events,
        "wall_per_s": round(workload.events / seconds),
        "cpu_us": round(cpu / workload.events * 1e6, 3),
    }


def _ask(here: runs.Place, plan: Plan, workload: Workload) -> None:
    """Add 1 to some rows, and compare the totals that are sent."""
    totals, users = workload.totals(), list(dict.fromkeys(workload.numbers()))[:_ASKED]
    asked = {100 * index: user for index, user in enumerate(users)}
    here.broker.append(
        [
            record(plan.topic, number, b"user-%08d" % user, event(number, user), plan.partitions)
            for number, user in asked.items()
        ]
    )
    expected = {str(number): totals[f"user-{user:08d}"] + 1 for number, user in asked.items()}
    compare(lambda: outputs(here.broker, plan), expected, _ANSWER_S)
