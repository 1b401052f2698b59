"""Whatever stands in a document of pipelines: it is loaded, or refused with its place."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.engine_app import Bench
from support.yaml_twins import BOTH, ONE, SALES, TWO

import streamapp
from streamapp.errors import ConfigError

DOCUMENTS = [
    *(yaml.safe_load(SALES + text) for text, _ in ONE.values()),
    *(yaml.safe_load(BOTH + text) for text, _ in TWO.values()),
]
ODD = [
    *(None, True, 0, -1, 3, 1.5, "", "x", "user", "amount", "1s", "drop", "p", "2 +", "sales"),
    *([], {}, [1], ["user"], [[]], {"a": 1}, {"": None}, {"n": "count"}, {"tumbling": "1s"}),
    *("support.yaml_shop:Sale", "support.yaml_shop:see", "support.yaml_shop:SEEN", "os:none", ":"),
    *("streamapp:sum", "a.b.c:d", "this", "this.user", "__class__", "x" * 2_000, "\x07", "é"),
]


def parts(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Iterate over the paths of a document."""
    yield path
    if isinstance(data, dict):
        for name, below in data.items():
            yield from parts(below, (*path, name))
    if isinstance(data, list):
        for n, below in enumerate(data):
            yield from parts(below, (*path, n))


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """Draw a document of which some parts are others, are absent, or have another name."""
    data = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        *above, name = draw(st.sampled_from([*parts(data)][1:]))
        holder = data
        for one in above:
            holder = holder[one]
        what = draw(st.sampled_from(["odd", "gone", "renamed", "odd"]))
        old = holder.pop(name)
        if what == "odd" and isinstance(holder, list):
            holder.insert(name, copy.deepcopy(draw(st.sampled_from(ODD))))
        elif what == "odd":
            holder[name] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif what == "renamed" and isinstance(holder, dict):
            holder[draw(st.sampled_from(["filter", "to", "x", "every", name + "s"]))] = old
        if not data:
            data = {"pipeline": "p"}
    return data


@pytest.fixture(scope="module")
def app() -> streamapp.App:
    return Bench().app()


# A document takes 20 ms: a part of CI's examples is enough.
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents())
def test_a_document_is_loaded_or_refused_with_its_place(
    app: streamapp.App, tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    file = Path(tmp_path_factory.getbasetemp()) / "p.yaml"
    file.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    app.pipelines.clear()
    app.tables.clear()
    app.agents.clear()
    told = ""
    try:
        (pipeline,) = app.load_pipelines(file)
    except ConfigError as error:
        told = str(error)
    assert told.startswith(f"{file}:") if told else pipeline.stages()
