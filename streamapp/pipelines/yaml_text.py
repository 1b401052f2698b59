"""YAML to plain data that knows where it stands: each fault names file, line and path.

Scalars are those of YAML 1.2: ``no`` and ``on`` are texts, ``1:30`` is no number of minutes and a
date is no date. Names that come twice are refused; anchors, aliases and ``<<`` are fine. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from streamapp.errors import ConfigError

#: Names and indexes that lead to a part of a document.
Path = tuple[str | int, ...]

#: Parts of a document, aliases written out, and parts inside of each other: a few lines of aliases
#: could stand for more than the memory holds.
_MOST_PARTS: Final = 20_000
_DEEPEST: Final = 30
_MOST_MERGES: Final = 100
_MERGE: Final = "tag:yaml.org,2002:merge"


class YamlError(ConfigError):
    """A mistake in a document; its place stands before it."""


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data of one YAML document, and the line of each of its parts."""

    file: str
    data: Any
    lines: Mapping[Path, int]

    def fault(self, path: Path, message: str, hint: str = "") -> YamlError:
        """Return the error for a part: its file, line and path, then what is wrong with it."""
        return YamlError(f"{self.place(path)}: {message}", hint=hint)

    @contextmanager
    def at(self, path: Path) -> Iterator[None]:
        """Give errors the place of a part, unless they tell of one that is more exact."""
        try:
            yield
        except YamlError:
            raise
        except ConfigError as exc:
            raise self.fault(path, exc.message, exc.hint) from exc

    def place(self, path: Path) -> str:
        """Return ``file:line: path``, of the part or the nearest one around it."""
        while path and path not in self.lines:
            path = path[:-1]
        told = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
        return f"{self.file}:{self.lines.get(path, 1)}" + (f": {told.lstrip('.')}" if told else "")


def read_documents(text: str, file: str) -> list[Document]:
    """Return the documents of a text, which ``---`` keeps apart; ``file`` names it in errors.

    Raises:
        YamlError: It is no YAML, holds a name twice, or is too large.
    """
    try:
        nodes = list(yaml.compose_all(text, _Loader))
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else 1
        msg = f"{file}:{line}: this is no YAML: {exc.problem or exc.context}"
        raise YamlError(msg, hint="Look at the indentation, quotes and brackets") from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        msg = f"{file}:{line}: this is no YAML: the character {chr(exc.character)!a}"
        raise YamlError(msg, hint="Take it out") from exc
    except RecursionError as exc:
        msg = f"{file}:1: it is too deep or too large"
        raise YamlError(msg, hint="Write it with fewer levels") from exc
    return [_Reader(file).document(node) for node in nodes]


class _Loader(yaml.SafeLoader):
    """Composes nodes; the tags of plain scalars are those of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's


for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.?[0-9]+)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first
    )


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(text)
    return number


_SCALARS: Final[Mapping[str, Any]] = {
    "tag:yaml.org,2002:null": lambda text: None,  # noqa: ARG005 - it says nothing
    "tag:yaml.org,2002:bool": "true".__eq__,
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": _finite,
    "tag:yaml.org,2002:str": str,
}


class _Reader:
    """Makes data of the nodes of one document."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._lines: dict[Path, int] = {}
        self._merges = 0

    def document(self, node: Node) -> Document:
        data = self._read(node, ())
        return Document(self._file, data, self._lines)

    def _read(self, node: Node, path: Path) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if len(path) > _DEEPEST or len(self._lines) > _MOST_PARTS:
            raise self._fault(node, "it is too deep or too large", "Write fewer aliases")
        if isinstance(node, MappingNode):
            return {
                name: self._named(key, value, (*path, name))
                for name, key, value in self._pairs(node)
            }
        if isinstance(node, SequenceNode):
            return [self._read(item, (*path, n)) for n, item in enumerate(node.value)]
        return self._scalar(node)

    def _named(self, key: ScalarNode, value: Node, path: Path) -> Any:
        # An entry stands where its name does: a block below it begins lines later.
        self._lines[path] = key.start_mark.line + 1
        return self._read(value, path)

    def _pairs(self, node: MappingNode) -> Iterator[tuple[str, ScalarNode, Node]]:
        """Iterate over the entries of a mapping, those that ``<<`` brings first."""
        own: dict[str, tuple[ScalarNode, Node]] = {}
        brought: dict[str, tuple[ScalarNode, Node]] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                for name, other, below in self._brought(value):
                    brought.setdefault(name, (other, below))
                continue
            name = self._name(key)
            if name in own:
                hint = f"The first one is in line {own[name][0].start_mark.line + 1}: keep one"
                raise self._fault(key, f"{name} is there twice", hint)
            own[name] = key, value
        yield from ((name, *pair) for name, pair in (brought | own).items())

    def _brought(self, node: Node) -> Iterator[tuple[str, ScalarNode, Node]]:
        self._merges += 1
        if self._merges > _MOST_MERGES:
            raise self._fault(node, "there are too many <<", "Write the fields themselves")
        parts: Sequence[Node] = node.value if isinstance(node, SequenceNode) else [node]
        for part in parts:
            if not isinstance(part, MappingNode):
                raise self._fault(node, "<< of what is no mapping", "Write <<: *anchor")
            yield from self._pairs(part)

    def _name(self, key: Node) -> str:
        if not isinstance(key, ScalarNode) or key.tag not in _SCALARS:
            raise self._fault(key, "a name must be a text", "Write name: value")
        return str(key.value)

    def _scalar(self, node: Node) -> Any:
        convert = _SCALARS.get(node.tag)
        if convert is None or not isinstance(node, ScalarNode):
            raise self._fault(node, f"{_kind(node)} is not known", "Write texts, numbers, lists")
        try:
            return convert(node.value)
        except ValueError:
            message = f"{node.value!r:.60} is no {_kind(node)}"
            raise self._fault(node, message, "Quote what is a text") from None

    def _fault(self, node: Node, message: str, hint: str) -> YamlError:
        return YamlError(f"{self._file}:{node.start_mark.line + 1}: {message}", hint=hint)


def _kind(node: Node) -> str:
    return str(node.tag).removeprefix("tag:yaml.org,2002:")
