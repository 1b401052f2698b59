"""The pure rules of the application: what is measured, and what people are told."""

from pathlib import Path

from agents.measures import combine, order_metrics, series_key, type_metrics
from agents.notices import notice_of, summary
from agents.records import Metric, Order, Partial, TypeTotals
from streamapp.alerts.rules import load_rules, parse_rules
from streamapp.alerts.states import evaluate
from streamapp.metrics.stats import Moments, moments_of


def moments(*samples: float) -> Moments:
    made = moments_of(samples)
    assert made is not None
    return made


def test_a_partial_that_comes_twice_or_late_changes_nothing() -> None:
    totals: TypeTotals | None = None
    for part in [
        Partial("books", 0, moments(5)),
        Partial("books", 1, moments(7)),
        Partial("books", 0, moments(5, 6)),
        Partial("books", 0, moments(5, 6)),
        Partial("books", 0, moments(5)),
    ]:
        totals = combine(totals, part)
    assert totals is not None
    assert (totals.total.n, totals.total.sum, totals.total.max) == (3, 18, 7)


def test_metrics_name_their_series() -> None:
    order = Order("ada", "books", 5.0, 9)
    assert order_metrics(order, moments(5, 6)) == [
        Metric("order_amount", 5.0, {"user": "ada"}, 9),
        Metric("user_total", 11.0, {"user": "ada"}, 9),
    ]
    totals = combine(None, Partial("books", 0, moments(5, 6)))
    assert [one.value for one in type_metrics("books", totals, 9)] == [2, 11]
    assert series_key("m", {"b": "2", "a": "1"}) == "m{a=1,b=2}"


def test_notice_and_its_line_in_the_log() -> None:
    rule = parse_rules(
        '[[rule]]\nalert = "Big"\nmetric = "order_amount"\nwhen = "> 4"\n'
        'labels = { team = "shop" }\nannotations = { summary = "big" }',
        file="test",
    )[0]
    metric = Metric("order_amount", 5.0, {"user": "ada"}, 9)
    transition = evaluate(rule, None, metric.value, 20).transition
    assert transition is not None
    notice = notice_of(rule, metric, transition)
    assert notice.id == f"{rule.fingerprint(metric.labels)}:1:firing"
    assert notice.labels == {"alertname": "Big", "team": "shop", "user": "ada"}
    assert summary(rule, notice) == (
        "FIRING warning Big {team=shop, user=ada}: 5 (fires on order_amount > 4)"
    )


def test_the_shipped_rules_are_right() -> None:
    names = [rule.name for rule in load_rules(Path("config/alerts.toml"))]
    assert names == ["BigOrder", "SlowCheckout", "BestSeller"]
