"""Rule files: what they mean, and what is said about mistakes."""

from pathlib import Path

import pytest

from streamapp.alerts.conditions import Condition, Operator, overlap, parse_condition
from streamapp.alerts.rules import Rule, Severity, load_rules, parse_rules
from streamapp.alerts.selectors import parse_selector
from streamapp.errors import ConfigError

RULE = '[[rule]]\nalert = "Hot"\nmetric = "cpu"\nwhen = "> 80"\n'


def one(extra: str = "") -> Rule:
    return parse_rules(RULE + extra, file="alerts.toml")[0]


def test_all_fields() -> None:
    rule = one(
        'resolve = "< 70"\nfor = "30s"\nkeep_firing_for = 60\nseverity = "critical"\n'
        'labels = { team = "infra" }\nannotations = { summary = "too hot" }\n'
    )
    assert rule.when == Condition(Operator.GREATER, 80)
    assert rule.resolve == Condition(Operator.LESS, 70)
    assert (rule.for_ms, rule.keep_firing_ms) == (30_000, 60_000)
    assert (rule.severity, rule.labels) == (Severity.CRITICAL, {"team": "infra"})
    assert rule.annotations == {"summary": "too hot"}


def test_defaults() -> None:
    rule = one()
    assert (rule.resolve, rule.for_ms, rule.severity) == (None, 0, Severity.WARNING)


@pytest.mark.parametrize(
    ("text", "true_of", "false_of"),
    [
        ("> 5", [5.1], [5, 4.9]),
        ("greater_than 5", [5.1], [5]),
        (">= 5", [5, 6], [4.9]),
        ("< -5", [-6], [-5]),
        ("less_than 5", [4], [5]),
        ("<= 5e0", [5], [5.1]),
        ("== 5", [5], [5.1]),
        ("equals 5", [5], [4]),
        ("!= 5", [4], [5]),
        ("between 1 and 3", [1, 2, 3], [0.9, 3.1]),
        ("outside 1 and 3", [0.9, 3.1], [1, 2, 3]),
        ("> 1234567.5", [1_234_568], [1_234_567]),
        ("between 0.1 and 16777217", [16_777_217], [16_777_218]),
    ],
)
def test_operators(text: str, true_of: list[float], false_of: list[float]) -> None:
    condition = parse_condition(text)
    assert all(condition.holds(value) for value in true_of)
    assert not any(condition.holds(value) for value in false_of)
    assert not condition.holds(float("nan"))
    assert parse_condition(str(condition)) == condition


def test_a_condition_reads_as_it_is_written() -> None:
    for text in ("> 1234567.5", ">= 1000000", "== 0.1", "between -1 and 10000000.25"):
        assert str(parse_condition(text)) == text


def test_equals_takes_a_tolerance() -> None:
    rule = parse_rules(RULE.replace("> 80", "equals 80") + "tolerance = 0.5", file="f")[0]
    assert rule.when.holds(80.5)
    assert rule.when.holds(79.5)
    assert not rule.when.holds(80.6)
    assert not rule.when.holds(float("inf"))


def test_overlap_of_conditions() -> None:
    def both(first: str, second: str) -> float | None:
        return overlap(parse_condition(first), parse_condition(second))

    assert both("> 80", "< 70") is None
    assert both("> 80", "<= 80") is None
    assert both(">= 80", "<= 80") == 80
    assert both("> 80", "< 90") is not None
    assert both("outside 1 and 3", "between 1 and 3") is None
    assert both("outside 1 and 3", "< 0") is not None


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("cpu", {"host": "a"}, True),
        ('cpu{host="a"}', {"host": "a"}, True),
        ('cpu{host="a"}', {"host": "ab"}, False),
        ('cpu{host=~"web-.*"}', {"host": "web-1"}, True),
        ('cpu{host=~"web"}', {"host": "web-1"}, False),
        ('cpu{host!="a"}', {}, True),
        ('cpu{host!~"a|b"}', {"host": "b"}, False),
        ('cpu{ host = "a" , zone = "" }', {"host": "a"}, True),
        ('cpu{path="a\\"}b"}', {"path": 'a"}b'}, True),
        ('cpu{host="a.c"}', {"host": "abc"}, False),
        (r'cpu{page=~"/item/\d+"}', {"page": "/item/42"}, True),
        (r'cpu{page=~"/item/\\d+"}', {"page": "/item/42"}, True),
        (r'cpu{page=~"/a\.html"}', {"page": "/aXhtml"}, False),
        (r'cpu{path="C:\\new\dir"}', {"path": r"C:\new\dir"}, True),
    ],
)
def test_selectors(text: str, labels: dict[str, str], expected: bool) -> None:
    assert parse_selector(text).matches("cpu", labels) is expected


def test_another_metric_never_matches() -> None:
    assert not parse_selector("cpu").matches("cpu2", {})
    assert not parse_selector("cpu").matches("memory", {})


def test_identity_is_the_name_and_the_labels() -> None:
    rule = one('labels = { team = "infra" }')
    assert rule.identity({"host": "a"}) == {"alertname": "Hot", "team": "infra", "host": "a"}
    assert rule.identity({"team": "x", "alertname": "y"}) == {"alertname": "Hot", "team": "infra"}
    mark = rule.fingerprint({"b": "1", "a": "2"})
    assert mark == rule.fingerprint({"a": "2", "b": "1"})
    assert len({mark, rule.fingerprint({"a": "2"}), rule.fingerprint({"a": "21", "b": ""})}) == 3
    # A louder alert is the same alert.
    louder = one('labels = { team = "infra" }\nseverity = "critical"')
    assert louder.fingerprint({"b": "1", "a": "2"}) == mark


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (RULE + 'resolv = "< 70"', 'alerts.toml: rule 1 "Hot": unknown field resolv. Did you mean'),
        (RULE + "zzz = 1", "Known: alert, annotations"),
        ("[[rules]]", "alerts.toml: unknown field rules. Did you mean rule?"),
        ("[rule]\na = 1", "Write [[rule]]"),
        ("rule = [1]", "Write [[rule]]"),
        ("[[rule", "is not TOML"),
        ('[[rule]]\nmetric = "cpu"\nwhen = "> 1"', "rule 1: alert is missing. Write alert ="),
        ('[[rule]]\nalert = "A"\nwhen = "> 1"', 'rule 1 "A": metric is missing'),
        ('[[rule]]\nalert = "A"\nmetric = "cpu"', "when is missing"),
        (RULE.replace("> 80", "=> 80"), "when: '=> 80' is not a comparison. Write"),
        (RULE.replace("> 80", "> eighty"), "is not a comparison"),
        (RULE.replace("> 80", "between 3"), "is not a comparison"),
        (RULE.replace("> 80", "between 3 and 1"), 'Write "between 1 and 3"'),
        (RULE.replace("> 80", "> 1e999"), "when: 1e999 is beyond the largest number, 1.8e+308"),
        (RULE.replace("> 80", "between -1e999 and 0"), "when: -1e999 is beyond"),
        (RULE + 'resolve = "< 1e999"', "resolve: 1e999 is beyond"),
        (RULE.replace('"> 80"', "80"), "when: 80 is not a text"),
        (RULE + 'for = "30 bananas"', "for: '30 bananas' is not a duration"),
        (RULE + "for = -1", "negative duration"),
        (RULE + 'severity = "fatal"', "severity: 'fatal' is not a severity. Write"),
        (RULE + "labels = { a = 1 }", "labels: {'a': 1} is not a table of texts"),
        (RULE + "tolerance = 1", 'tolerance: "> 80" takes no tolerance. Leave it out'),
        (RULE + 'tolerance = "x"', "tolerance: 'x' is not a number"),
        (RULE + "tolerance = nan", "tolerance: nan is not a number"),
        (
            RULE.replace('"cpu"', "'cpu{host=a}'"),
            "metric: 'cpu{host=a}' has no label matcher at ch",
        ),
        (RULE.replace('"cpu"', "'cpu{host=\"a\"'"), "is not the name of a metric"),
        (RULE.replace('"cpu"', "'cpu{h=~\"(\"}'"), "is not a regular expression"),
        (RULE + 'resolve = "< 90"', "resolve: 85 fires and resolves the alert at once"),
        (RULE + RULE, 'two rules have the name "Hot"'),
    ],
)
def test_mistakes_say_where_and_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_rules(text, file="alerts.toml")
    assert str(caught.value).startswith("alerts.toml")
    assert says in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml"):
        load_rules(tmp_path / "nothing.toml")


def test_rules_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "alerts.toml"
    path.write_text(RULE, encoding="utf-8")
    assert load_rules(path) == (one(),)
