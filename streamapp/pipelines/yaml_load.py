"""Pipelines in YAML: from a file to declarations on an application.

A document says what calls of ``app.pipeline(...)`` would say, and makes the same graph: see
``yaml_steps``. What is wrong with it is told before anything runs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import streamapp  # a document declares what a program would: with the public words
from streamapp.core.duration import to_ms
from streamapp.errors import ConfigError
from streamapp.pipelines.flow import Flow
from streamapp.pipelines.yaml_check import checked
from streamapp.pipelines.yaml_names import field_of, is_reference, topic_name, topic_of, type_of
from streamapp.pipelines.yaml_schema import OnError, Source
from streamapp.pipelines.yaml_schema import Pipeline as Said
from streamapp.pipelines.yaml_steps import Around, add_step
from streamapp.pipelines.yaml_text import Document, Path, read_documents

if TYPE_CHECKING:
    from streamapp.app import App
    from streamapp.engine.topic import Topic
    from streamapp.pipelines.pipeline import Pipeline

#: The name of the one source of a document.
_SOURCE = "source"


def yaml_files(folder: FilePath) -> list[FilePath]:
    """Return the YAML files of a folder by name, or the file itself.

    Raises:
        ConfigError: There is neither.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        msg = f"There is no folder or file {folder} of pipelines"
        raise ConfigError(msg, hint="Make it, or do not load pipelines from it")
    return sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))


def load_file(app: App, path: FilePath) -> list[Pipeline]:
    """Declare the pipelines of a file; ``---`` keeps several apart.

    Raises:
        ConfigError: The file cannot be read or holds a mistake; names the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"{path} cannot be read: {exc}"
        raise ConfigError(msg, hint="Give a file in YAML, in UTF-8") from exc
    documents = read_documents(text, str(path))
    if not any(document.data is not None for document in documents):
        msg = f"{path} holds no pipeline"
        raise ConfigError(msg, hint="Begin it with `pipeline: name`")
    return [_declare(app, document) for document in documents if document.data is not None]


def _declare(app: App, document: Document) -> Pipeline:
    said = checked(document, (), document.data, Said)
    _check_form(document, said)
    with document.at(("pipeline",)):
        pipeline = app.pipeline(said.pipeline, on_error=_policy(said.on_error))
    flows: dict[str, Flow] = {}
    for name, path, source in _sources(said):
        with document.at(path):
            flows[name] = pipeline.source(_topic(pipeline, source))
    if said.steps:
        _follow(flows[_SOURCE], said.steps, Around(document, ("steps",), flows))
    for name, flow in said.flows.items():
        around = Around(document, ("flows", name, "steps"), flows)
        with document.at(("flows", name)):
            end = _follow(around.flow(flow.begin), flow.steps, around)
            if end is not None:
                around.name(name, end)
    with document.at(()):
        pipeline.stages()
    return pipeline


def _follow(flow: Flow, steps: list[Any], around: Around) -> Flow | None:
    """Add steps, one after the other; return the flow behind the last one, if there is one."""
    now: Flow | None = flow
    for n, step in enumerate(steps):
        here = replace(around, path=(*around.path, n))
        if now is None:
            hint = "Go on in `flows:`, from the name of a branch"
            raise here.document.fault(here.path, "nothing can follow a branch", hint)
        now = add_step(now, step, here)
    return now


def _check_form(document: Document, said: Said) -> None:
    if (said.source is None) == (not said.sources):
        hint = "Write `source:` with `steps:`, or `sources:` with `flows:`"
        raise document.fault((), f"{said.pipeline} has no source, or both forms of it", hint)
    if said.steps and said.source is None:
        hint = "Write `flows: {name: {from: ..., steps: [...]}}`"
        raise document.fault(("steps",), "steps of which source?", hint)


def _sources(said: Said) -> list[tuple[str, Path, Source]]:
    if said.source is not None:
        return [(_SOURCE, (_SOURCE,), said.source)]
    return [(name, ("sources", name), source) for name, source in said.sources.items()]


def _topic(pipeline: Pipeline, source: Source) -> Topic:
    options, topic = source.options, source.topic
    if is_reference(topic):
        if source.model_fields_set != {"topic"}:
            msg = f"{topic} is declared in the program"
            raise ConfigError(msg, hint="Say there how it is read, or name a topic")
        found: Topic = topic_of(topic)
        return found
    value_type = type_of(source.value)
    if source.event_time is not None:
        options["event_time"] = field_of(source.event_time, value_type)
    types = {"key_type": type_of(source.key), "value_type": value_type}
    made: Topic = pipeline.app.topic(topic_name(topic), **types, **options)
    return made


def _policy(said: str | OnError | None) -> Any:
    if not isinstance(said, OnError):
        return said
    return streamapp.ErrorPolicy(said.retries, to_ms(said.backoff), said.then)
