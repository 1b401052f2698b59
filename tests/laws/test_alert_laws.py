"""Alerts against a naive model that reads the whole history at each step."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamapp.alerts.rules import Rule, parse_rules
from streamapp.alerts.states import AlertState, Status, Transition, evaluate

History = list[tuple[int, int | None]]

# A small grid, so that values meet thresholds and times meet durations exactly.
histories = st.lists(
    st.tuples(st.integers(0, 3), st.none() | st.integers(0, 5)), min_size=1, max_size=14
).map(lambda steps: [(sum(gap for gap, _ in steps[: n + 1]), v) for n, (_, v) in enumerate(steps)])
rules = st.builds(
    lambda hold, keep, resolve: parse_rules(
        '[[rule]]\nalert = "A"\nmetric = "m"\nwhen = "> 3"\n'
        f'for = "{hold}ms"\nkeep_firing_for = "{keep}ms"\n{resolve}',
        file="law",
    )[0],
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(["", 'resolve = "< 2"']),
)


def naive(rule: Rule, history: History) -> list[tuple[int, str]]:
    """Scan forward from each start: first for a long enough run of truth, then for its end."""
    told: list[tuple[int, str]] = []
    at = 0
    while True:
        fired = next((n for n in range(at, len(history)) if fires_at(rule, history, at, n)), None)
        if fired is None:
            return told
        told.append((history[fired][0], "firing"))
        over = next((n for n in range(fired + 1, len(history)) if ends_at(rule, history, n)), None)
        if over is None:
            return told
        told.append((history[over][0], "resolved"))
        at = over + 1


def fires_at(rule: Rule, history: History, start: int, n: int) -> bool:
    """Whether the unbroken run of true values up to ``n`` is long enough."""
    first = n
    while first >= start and is_true(history[first][1]):
        first -= 1
    return first < n and history[n][0] - history[first + 1][0] >= rule.for_ms


def ends_at(rule: Rule, history: History, n: int) -> bool:
    """Whether the run of clear values up to ``n``, missing ones aside, is long enough."""
    if history[n][1] is None:
        return False
    clear = []
    for now, value in reversed(history[: n + 1]):
        if value is None:
            continue
        if not is_clear(rule, value):
            break
        clear.append(now)
    return bool(clear) and history[n][0] - clear[-1] >= rule.keep_firing_ms


def is_true(value: int | None) -> bool:
    return value is not None and value > 3


def is_clear(rule: Rule, value: int) -> bool:
    return value < 2 if rule.resolve else value <= 3


def told_by(rule: Rule, history: History, restarts: list[bool]) -> list[Transition]:
    state: AlertState | None = None
    told = []
    for (now_ms, value), restart in zip(history, restarts, strict=False):
        if restart:
            state = msgspec.json.decode(msgspec.json.encode(state), type=AlertState | None)
        result = evaluate(rule, state, value, now_ms)
        state = result.state
        if result.transition:
            told.append(result.transition)
    return told


@given(rules, histories)
def test_transitions_are_those_of_the_naive_model(rule: Rule, history: History) -> None:
    told = told_by(rule, history, [False] * len(history))
    assert [(one.at_ms, one.status.value) for one in told] == naive(rule, history)


@given(rules, histories, st.data())
def test_restarts_change_nothing_and_repeat_nothing(
    rule: Rule, history: History, data: st.DataObject
) -> None:
    restarts = data.draw(st.lists(st.booleans(), min_size=len(history), max_size=len(history)))
    assert told_by(rule, history, restarts) == told_by(rule, history, [False] * len(history))


@given(rules, histories)
def test_firing_and_resolved_alternate_with_rising_episodes(rule: Rule, history: History) -> None:
    told = told_by(rule, history, [False] * len(history))
    expected = [
        (status, episode)
        for episode in range(1, len(told) + 1)
        for status in (Status.FIRING, Status.RESOLVED)
    ]
    assert [(one.status, one.episode) for one in told] == expected[: len(told)]
