"""The YAML in the documents declares what the Python beside it does."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.documents import ROOT, read

import streamapp

DOCUMENT = ROOT / "docs" / "pipelines.md"
BLOCKS = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "pipelines.py").write_text(read(DOCUMENT).program, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("pipelines")
    del sys.modules["pipelines"]


def graph(pipeline: streamapp.Pipeline) -> list[Any]:
    """Return the steps of each stage, what they lead to, and the topics that it reads."""
    return [
        (
            plan.name,
            [(of.topic.topics, of.to, of.is_regrouped, of.needs_keys) for of in plan.inputs],
            [(unit.node.name, len(unit.steps), unit.to, unit.late_to) for unit in plan.units],
            [of.topic.value_type for of in plan.inputs],
        )
        for plan in pipeline.stages()
    ]


@pytest.mark.parametrize("text", BLOCKS, ids=lambda text: text.split("\n", 1)[0])
def test_yaml_declares_what_the_python_beside_it_does(
    tmp_path: Path, program: Any, text: str
) -> None:
    (tmp_path / "one.yaml").write_text(text, encoding="utf-8")
    (pipeline,) = streamapp.App("shop", broker="memory://docs").load_pipelines(tmp_path)
    assert graph(pipeline) == graph(program.app.pipelines[pipeline.name])


def test_all_words_are_in_the_document() -> None:
    schema = importlib.import_module("streamapp.pipelines.yaml_schema")
    windows = importlib.import_module("streamapp.pipelines.yaml_windows")
    calls = importlib.import_module("streamapp.pipelines.expression_calls")
    text = DOCUMENT.read_text(encoding="utf-8")
    words = {*schema.STEPS, *windows.WINDOWS, *windows.AGGREGATES, *calls.CALLS, *calls.LENIENT}
    words |= {name for model in schema.STEPS.values() for name in model.model_fields}
    unused = {"name", "partitions", "burst", "by_key", "kind"}
    assert {word for word in words - unused if not re.search(rf"\b{word}\b", text)} == set()
