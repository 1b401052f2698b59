"""The keyed table end to end: right totals or no rate, and nothing left on a cluster."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from support import kafka

from streamapp.bench.end_to_end import WorkerFailedError, wait
from streamapp.bench.keyed import recovery, results, runs
from streamapp.bench.keyed.workload import Workload, amount_of
from streamapp.bench.report import over_broker_lines
from streamapp.bench.runs import Measured
from streamapp.bench.runs import Plan as Runs
from streamapp.cli.main import main
from streamapp.transport.connect import open_broker

if TYPE_CHECKING:
    from streamapp.bench.keyed.plan import Plan
    from streamapp.transport.broker import Broker


def test_the_right_totals_are_those_of_a_loop() -> None:
    workload = Workload(500, 7)
    expected: defaultdict[str, int] = defaultdict(int)
    for number, (key, _) in enumerate(workload.records()):
        expected[key.decode()] += amount_of(number)
    assert workload.totals() == expected
    assert len(expected) == 7


@pytest.mark.parametrize("users", [1, 2, 10, 1_000])
def test_as_many_users_as_events_are_one_each(users: int) -> None:
    assert sorted(Workload(users, users).numbers()) == list(range(users))


def test_a_table_is_right_and_a_wrong_one_is_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    check, seen = runs.check, []

    def check_twice(broker: Broker, plan: Plan, workload: Workload) -> None:
        check(broker, plan, workload)
        monkeypatch.setattr(results, "_END_S", 0.0)
        with pytest.raises(WorkerFailedError, match="wrong result: 50 rows with"):
            check(broker, plan, Workload(workload.events + 1, workload.users))
        seen.append(plan.engine)

    monkeypatch.setattr(runs, "check", check_twice)
    with runs.place("sqlite://", {}) as here:
        assert runs.run(here, "batches", Workload(3_000, 50))["cpu_us"] > 0
    assert seen == ["batches"]


@pytest.mark.parametrize(
    ("engine", "mode"),
    [
        ("faust", "forward"),
        ("batches", "rows"),
        ("batches", "stateless"),
        ("plain", "stateless"),
    ],
)
def test_what_else_a_program_does_is_checked_too(
    engine: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_END_S", 0.0)
    with runs.place("sqlite://", {}) as here:
        with runs.application(here, engine, 300, mode) as plan:
            runs.fill(here.broker, plan, Workload(300, 7))
            with runs.worker(here, plan) as process:
                wait(lambda: runs.is_committed(here.broker, plan), process)
                runs.report(plan, process)
        results.check(here.broker, plan, Workload(300, 7))
        with pytest.raises(WorkerFailedError, match="wrong result"):
            results.check(here.broker, plan, Workload(301, 7))


def test_a_table_is_back_with_all_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_ANSWER_S", 5.0)
    with runs.place("sqlite://", {}) as here:
        assert recovery.of_log(here, "ours", Workload(2_000, 50))["records"] == 2_000
        with pytest.raises(ValueError, match="quix"):
            recovery.of_log(here, "quix", Workload(2_000, 50))


def test_a_bare_loop_stands_beside_workers_without_state(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "streamapp bench --only stateless --broker sqlite:// --events 4000 --runs 1"
    engines = " --engine ours --engine batches --engine plain"
    monkeypatch.setattr(sys, "argv", (command + engines).split())
    with pytest.raises(SystemExit, match="0"):
        main()
    title, ours, batches, plain = capsys.readouterr().out.splitlines()[-4:]
    assert title.startswith("stateless over sqlite://: ")
    assert [line.split()[0] for line in (ours, batches, plain)] == ["ours", "batches", "plain"]
    verdict = r"x (ok|MISSED)"
    assert re.search(rf"ours is [\d.]+{verdict}  batches are [\d.]+{verdict}$", plain)
    assert not re.search("ok|MISSED", ours + batches)


def test_each_other_engine_is_compared_with_both_styles() -> None:
    rates = {"ours": 300, "batches": 450, "plain": 600, "faust": 2}
    found = [Measured(name, "keyed", 1, (_figures(rate),)) for name, rate in rates.items()]
    _, ours, batches, plain, faust = over_broker_lines("keyed", "kafka://a:1", found)
    assert " is " not in ours + batches
    assert plain.endswith("  ours is 0.50x  batches are 0.75x")
    assert faust.endswith("  ours is 150.00x ok  batches are 225.00x ok")
    slower = [Measured("ours", "keyed", 1, (_figures(299),)), found[3]]
    assert [*over_broker_lines("keyed", "kafka://a:1", slower)][-1].endswith("149.50x MISSED")


def _figures(rate: float) -> dict[str, float]:
    return {"events_per_s": rate, "cpu_us": 1e6 / rate, "peak_mib": 1}


def test_a_cluster_is_left_as_it_was() -> None:
    url = f"kafka://{kafka.shared().bootstrap}"
    plan = Runs((), ("plain", "polars"), 4_000, 1)
    found = runs.measure("keyed", plan, url, lambda _: None)
    assert [(one.engine, one.error) for one in found] == [("plain", "")]
    broker = open_broker(url, kafka.shared().folder)
    try:
        assert not [name for name in broker.topics() if "bench-" in name]
    finally:
        broker.close()


@pytest.mark.parametrize("scenario", ["keyed", "stateless"])
def test_whole_workers_need_a_broker(
    scenario: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["streamapp", "bench", "--only", scenario])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert f"{scenario} is measured over a broker" in capsys.readouterr().err
