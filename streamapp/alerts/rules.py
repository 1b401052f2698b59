"""Alert rules: a TOML file to frozen rules, or an error that says what to write instead.

Every mistake names the file, the rule and the field. Unknown fields are refused: a misspelt
``resolve`` must not become an alert without hysteresis.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from streamapp.alerts.conditions import (
    Condition,
    number_text,
    overlap,
    parse_condition,
    with_tolerance,
)
from streamapp.alerts.selectors import Selector, parse_selector
from streamapp.core.duration import to_ms
from streamapp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Severity(Enum):
    """How much an alert matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert rule.

    It fires once ``when`` has held for ``for_ms`` (0: at once) and is resolved once ``resolve``
    holds - without one, once ``when`` does not - and has done so for ``keep_firing_ms``.
    """

    name: str
    selector: Selector
    when: Condition
    resolve: Condition | None = None
    for_ms: int = 0
    keep_firing_ms: int = 0
    severity: Severity = Severity.WARNING
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def identity(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Return the labels that identify the alert of a series; the rule's own labels win."""
        return {**labels, **self.labels, "alertname": self.name}

    def fingerprint(self, labels: Mapping[str, str]) -> str:
        """Return the identity as 16 hexadecimal digits, stable between runs and machines."""
        parts = [text for pair in sorted(self.identity(labels).items()) for text in pair]
        # Lengths keep ("ab", "c") and ("a", "bc") apart.
        packed = "".join(f"{len(part)}:{part}" for part in parts)
        return hashlib.blake2b(packed.encode(), digest_size=8).hexdigest()


def load_rules(path: Path) -> tuple[Rule, ...]:
    """Read the rules of a TOML file, in its order.

    Raises:
        ConfigError: The file cannot be read or holds a mistake.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        message = f"The alert rules {path} cannot be read: {exc}"
        raise ConfigError(
            message, hint="Give the path of a TOML file with [[rule]] tables"
        ) from exc
    return parse_rules(text, file=str(path))


def parse_rules(text: str, *, file: str) -> tuple[Rule, ...]:
    """Read rules from TOML text; ``file`` names it in errors.

    Raises:
        ConfigError: As ``load_rules``.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        message = f"{file} is not TOML: {exc}"
        raise ConfigError(message) from exc
    _refuse_unknown(document, {"rule"}, file)
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        message = f"{file}: rule is not a list of tables"
        raise ConfigError(message, hint="Write [[rule]], with two brackets, above each rule")
    rules = tuple(_rule(table, f"{file}: rule {n}") for n, table in enumerate(tables, start=1))
    names = [rule.name for rule in rules]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        message = f'{file}: two rules have the name "{twice}"'
        raise ConfigError(message, hint="Give each rule a name of its own")
    return rules


def _rule(table: Mapping[str, Any], where: str) -> Rule:
    if isinstance(table.get("alert"), str):
        where = f'{where} "{table["alert"]}"'
    _refuse_unknown(table, _FIELDS.keys() | {"tolerance"}, where)
    for name, example in _REQUIRED.items():
        if name not in table:
            message = f"{where}: {name} is missing"
            raise ConfigError(message, hint=f"Write {example}")
    given: dict[str, Any] = {}
    for name, (target, read) in _FIELDS.items():
        if name in table:
            given[target] = _read(read, table[name], f"{where}: {name}")
    if "tolerance" in table:
        when = given["when"]
        given["when"] = _read(
            lambda value: with_tolerance(when, _tolerance(value)),
            table["tolerance"],
            f"{where}: tolerance",
        )
    rule = Rule(**given)
    both = None if rule.resolve is None else overlap(rule.when, rule.resolve)
    if both is not None:
        message = f"{where}: resolve: {number_text(both)} fires and resolves the alert at once"
        raise ConfigError(message, hint=f'Choose a resolve that excludes when = "{rule.when}"')
    return rule


def _read(read: Callable[[Any], Any], value: object, where: str) -> Any:  # noqa: ANN401 - per field
    """Read one field and tell where it stands when it is wrong."""
    try:
        return read(value)
    except ConfigError as exc:
        message = f"{where}: {exc.message}"
        raise ConfigError(message, hint=exc.hint) from exc


def _refuse_unknown(table: Mapping[str, Any], known: set[str], where: str) -> None:
    for name in table:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(sorted(known))}"
            message = f"{where}: unknown field {name}"
            raise ConfigError(message, hint=hint)


def _text(value: object) -> str:
    if isinstance(value, str) and value.strip():
        return value
    message = f"{value!r} is not a text"
    raise ConfigError(message, hint="Put the value between quotes")


def _texts(value: object) -> dict[str, str]:
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return value
    message = f"{value!r} is not a table of texts"
    raise ConfigError(message, hint='Write { team = "infra" }')


def _severity(value: object) -> Severity:
    try:
        return Severity(value)
    except ValueError:
        message = f"{value!r} is not a severity"
        raise ConfigError(message, hint='Write "info", "warning" or "critical"') from None


def _tolerance(value: Any) -> float:  # noqa: ANN401 - of a file
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 <= value < math.inf:
        return float(value)
    message = f"{value!r} is not a number from 0 up"
    raise ConfigError(message, hint="Write tolerance = 0.01")


#: Field of the file: field of the rule, and how its value is read.
_FIELDS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "alert": ("name", _text),
    "metric": ("selector", lambda value: parse_selector(_text(value))),
    "when": ("when", lambda value: parse_condition(_text(value))),
    "resolve": ("resolve", lambda value: parse_condition(_text(value))),
    "for": ("for_ms", to_ms),
    "keep_firing_for": ("keep_firing_ms", to_ms),
    "severity": ("severity", _severity),
    "labels": ("labels", _texts),
    "annotations": ("annotations", _texts),
}

_REQUIRED: Final = {
    "alert": 'alert = "HighLoad"',
    "metric": 'metric = "cpu_usage{host=\\"web-1\\"}"',
    "when": 'when = "> 80"',
}
