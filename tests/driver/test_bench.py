"""``streamapp bench``: engines agree with the reference, and a wrong result is no rate."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from streamapp.bench import end_to_end
from streamapp.bench.engines import faust, ours, plain
from streamapp.bench.program import ENGINES, Program
from streamapp.bench.runs import Plan, is_installed, measure
from streamapp.bench.scenarios import SCENARIOS, digest
from streamapp.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

#: More than a fetch, so that there are batches; two of the windows of five seconds.
EVENTS = 5_500


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("engine", [ours, plain])
def test_engines_agree_with_the_reference(engine: ModuleType, scenario: str) -> None:
    chosen = SCENARIOS[scenario]
    events = chosen.events(EVENTS)
    program: Program = engine.make(scenario, events)
    program.work()
    assert digest(program.results()) == digest(chosen.reference(events))


def test_an_engine_that_took_the_place_of_its_module_is_installed() -> None:
    # ``import faust`` does so: it has no spec then, by which modules are found.
    assert sys.modules["faust"].__spec__ is None
    assert is_installed("faust", {})


def test_what_an_engine_has_no_words_for_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        faust.make("session", [])


def test_a_wrong_result_is_no_rate(tmp_path: Path) -> None:
    """An interpreter whose answer has another checksum."""
    answer = {"events_per_s": 1e9, "cpu_us": 0.001, "peak_mib": 1, "digest": "1 rows beef"}
    liar = tmp_path / "python"
    liar.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    liar.chmod(0o755)
    plan = Plan(("filter",), ("plain",), 2_000, 2, {"plain": str(liar)})
    [[found]] = measure(plan, lambda _: None)
    assert not found.runs
    assert found.error.startswith("wrong result: 1 rows beef")


def test_the_command_prints_and_writes_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "figures.json"
    words = "streamapp bench --only tumbling --engine ours --engine plain --events 4000 --runs 2"
    monkeypatch.setattr(sys, "argv", [*words.split(), "--json", str(file)])
    with pytest.raises(SystemExit, match="0"):
        main()
    out = capsys.readouterr().out
    assert "tumbling: count and sum by user, 5 s; target 500,000 events/s" in out
    found = json.loads(file.read_text())["scenarios"]["tumbling"]["engines"]
    assert len(found["ours"]["runs"]) == len(found["plain"]["runs"]) == 2
    assert found["ours"]["error"] == ""
    assert found["ours"]["events_per_s"] > 0


def test_an_unknown_scenario_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["streamapp", "bench", "--only", "sorting"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "Known: filter, tumbling" in capsys.readouterr().err


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """An interpreter with no packages."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    python.chmod(0o755)
    return str(python)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--json {0}/no/x.json", "--json {0}/no/x.json: no such file can be written. Name"),
        ("--json {0}", "--json {0}: no such file can be written"),
        ("--engine nowhere", "--engine nowhere: nowhere_at_all is not installed here. Install"),
        ("--engine plain --with polars={0}/python", "/python: that interpreter has no polars."),
        ("--with polars={0}", "--with polars={0}: that interpreter has no polars."),
        ("--broker foo://", "no broker has the scheme 'foo' of 'foo://'. Use sqlite://"),
        ("--broker kafka://a?x=1", "kafka://a has the option 'x', which is unknown"),
        ("--broker memory://a", "--broker memory://a: memory:// lives in one process"),
    ],
)
@pytest.mark.usefixtures("bare")
def test_what_cannot_be_measured_is_said_before(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    expected: str,
) -> None:
    monkeypatch.setitem(ENGINES, "nowhere", ("nowhere_at_all", "an engine that nobody has"))
    monkeypatch.setattr(sys, "argv", ["streamapp", "bench", *words.format(tmp_path).split()])
    with pytest.raises(SystemExit, match="2"):
        main()
    out, err = capsys.readouterr()
    assert expected.format(tmp_path) in err
    assert err.count("\n") == 1
    assert out == ""


def test_a_worker_over_the_embedded_broker_is_right_too() -> None:
    found = end_to_end.measure("filter", "sqlite://", 40_000, 1)
    assert found.error == ""
    assert found.median("events_per_s") > 0
    assert found.median("peak_mib") > 10
