"""What people are told of an alert. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.records import Metric, Notice

if TYPE_CHECKING:
    from streamapp.alerts.rules import Rule
    from streamapp.alerts.states import Transition


def notice_of(rule: Rule, metric: Metric, transition: Transition) -> Notice:
    """Put a transition into words; ``id`` identifies it however often it is delivered."""
    status = transition.status.value
    return Notice(
        id=f"{rule.fingerprint(metric.labels)}:{transition.episode}:{status}",
        alert=rule.name,
        status=status,
        severity=rule.severity.value,
        labels=rule.identity(metric.labels),
        value=transition.value,
        at_ms=transition.at_ms,
        active_at_ms=transition.active_at_ms,
        annotations=dict(rule.annotations),
    )


def summary(rule: Rule, notice: Notice) -> str:
    """Return the notice as one line for the log."""
    labels = ", ".join(
        f"{name}={text}" for name, text in sorted(notice.labels.items()) if name != "alertname"
    )
    condition = f"{rule.selector.metric} {rule.when}"
    return (
        f"{notice.status.upper()} {notice.severity} {notice.alert} {{{labels}}}: "
        f"{notice.value:.15g} (fires on {condition})"
    )
