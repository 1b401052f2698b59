r"""Which series a rule watches: a metric's name and matchers on its labels.

``cpu_usage{host="web-1", zone!="eu", role=~"web|api"}``, as in Prometheus: regular expressions
match the whole label, and a label that is absent counts as empty. In the quotes ``\"`` is a quote
and ``\\`` a backslash; every other backslash stands for itself, so ``"\d+"`` is a digit or more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamapp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:.]*", re.ASCII)
_SELECTOR = re.compile(r"\s*([^\s{}]+)\s*(?:\{(.*)\})?\s*", re.DOTALL)
_MATCHER = re.compile(
    r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)', re.ASCII
)
_ESCAPED = re.compile(r'\\(["\\])')
_HINT = 'Write a metric\'s name and labels such as orders_total{type="book", region=~"eu-.*"}'

_IS_NEGATED: Final = {"=": False, "=~": False, "!=": True, "!~": True}


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label; ``pattern`` matches the whole label."""

    label: str
    pattern: re.Pattern[str]
    is_negated: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether the label set passes."""
        found = self.pattern.fullmatch(labels.get(self.label, ""))
        return (found is not None) is not self.is_negated


@dataclass(frozen=True, slots=True)
class Selector:
    """The series of one metric whose labels pass every matcher."""

    metric: str
    matchers: tuple[Matcher, ...] = ()

    def matches(self, metric: str, labels: Mapping[str, str]) -> bool:
        """Tell whether a sample belongs to a selected series."""
        return metric == self.metric and all(one.matches(labels) for one in self.matchers)


def parse_selector(text: str) -> Selector:
    """Read a selector from its text.

    Raises:
        ConfigError: It is malformed; the text says at which character.
    """
    found = _SELECTOR.fullmatch(text)
    if found is None or not _NAME.fullmatch(found[1]):
        message = f"{text!r} is not the name of a metric, with labels in braces or without"
        raise ConfigError(message, hint=_HINT)
    matchers, body = [], found[2] or ""
    at = 0
    while body[at:].strip():
        part = _MATCHER.match(body, at)
        if part is None:
            column = len(text) if found.end(2) < 0 else found.start(2) + at + 1
            message = f"{text!r} has no label matcher at character {column}"
            raise ConfigError(message, hint=_HINT)
        matchers.append(_matcher(part[1], part[2], _ESCAPED.sub(r"\1", part[3])))
        at = part.end()
    return Selector(found[1], tuple(matchers))


def _matcher(label: str, op: str, wanted: str) -> Matcher:
    try:
        pattern = re.compile(wanted if op.endswith("~") else re.escape(wanted))
    except re.error as exc:
        message = f"{wanted!r} is not a regular expression: {exc}"
        raise ConfigError(message) from exc
    return Matcher(label, pattern, _IS_NEGATED[op])
