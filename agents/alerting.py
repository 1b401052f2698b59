"""Evaluates the alert rules of config/alerts.toml on the metrics that they name."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agents import topics
from agents.notices import notice_of, summary
from app import app
from streamapp.alerts.rules import load_rules
from streamapp.alerts.states import evaluate
from tables.alert_states import alert_states

if TYPE_CHECKING:
    import streamapp

log = logging.getLogger(__name__)

RULES = load_rules(Path(__file__).parents[1] / "config" / "alerts.toml")


@app.agent(topics.metrics)
async def watch(stream: streamapp.Stream) -> None:
    """Take the alerts of each metric one evaluation further and tell of what changed."""
    async for metric in stream:
        now_ms = time.time_ns() // 1_000_000
        for rule in RULES:
            if not rule.selector.matches(metric.name, metric.labels):
                continue
            fingerprint = rule.fingerprint(metric.labels)
            before = alert_states.get(fingerprint)
            result = evaluate(rule, before, metric.value, now_ms)
            if result.state is None:
                alert_states.pop(fingerprint, None)
            elif result.state != before:
                alert_states[fingerprint] = result.state
            if result.transition is not None:
                notice = notice_of(rule, metric, result.transition)
                log.warning(summary(rule, notice))
                await topics.alerts.send(key=fingerprint, value=notice)
