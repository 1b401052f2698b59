"""The life of an alert, evaluation by evaluation."""

import math

import msgspec
import pytest

from streamapp.alerts.rules import Rule, parse_rules
from streamapp.alerts.states import AlertState, Signal, Status, evaluate
from streamapp.errors import InputError

HEAD = '[[rule]]\nalert = "Hot"\nmetric = "temperature"\n'


def rule(**fields: str) -> Rule:
    lines = "".join(f'{name.rstrip("_")} = "{text}"\n' for name, text in fields.items())
    return parse_rules(HEAD + lines, file="test")[0]


def run(hot: Rule, *steps: tuple[int, float | None]) -> list[str]:
    """Evaluate (time in ms, value) and return the status after each, told ones in capitals."""
    state: AlertState | None = None
    seen = []
    for now_ms, value in steps:
        result = evaluate(hot, state, value, now_ms)
        state = result.state
        status = (state.status if state else Status.INACTIVE).value
        seen.append(status.upper() if result.transition else status)
    return seen


def every_second(*values: float | None) -> list[tuple[int, float | None]]:
    return [(1_000 * second, value) for second, value in enumerate(values)]


def test_without_a_hold_it_fires_at_once_and_resolves_at_once() -> None:
    steps = every_second(79, 80, 81, 82, 80, 79)
    assert run(rule(when="> 80"), *steps) == [
        *("inactive", "inactive", "FIRING", "firing", "RESOLVED", "resolved")
    ]


@pytest.mark.parametrize(("elapsed_ms", "status"), [(2_999, "pending"), (3_000, "FIRING")])
def test_hold_counts_from_the_first_true_evaluation(elapsed_ms: int, status: str) -> None:
    hot = rule(when="> 80", for_="3s")
    assert run(hot, (500, 90), (500 + elapsed_ms, 90)) == ["pending", status]


@pytest.mark.parametrize("gap", [80, None])
def test_one_false_or_missing_evaluation_resets_pending(gap: float | None) -> None:
    steps = every_second(90, 90, gap, 90, 90, 90, 90)
    assert run(rule(when="> 80", for_="3s"), *steps) == [
        *("pending", "pending", "inactive", "pending", "pending", "pending", "FIRING")
    ]


def test_a_missing_value_does_not_resolve() -> None:
    assert run(rule(when="> 80"), *every_second(90, None, None, 10)) == [
        *("FIRING", "firing", "firing", "RESOLVED")
    ]


def test_hysteresis_needs_the_other_threshold() -> None:
    assert run(rule(when="> 80", resolve="< 70"), *every_second(81, 75, 70, 69, 75, 81)) == [
        *("FIRING", "firing", "firing", "RESOLVED", "resolved", "FIRING")
    ]


# The example of Kapacitor's documentation: info > 60 until < 50, warning > 70 until < 60,
# critical > 80 until < 70. Its levels INFO WARNING WARNING CRITICAL INFO INFO OK are those of one
# alert; here each level is a rule of its own, so a warning at 62 lasts until it falls below 60.
@pytest.mark.parametrize(
    ("when", "resolve", "expected"),
    [
        ("> 60", "< 50", "FIRING firing firing firing firing firing RESOLVED"),
        ("> 70", "< 60", "inactive FIRING firing firing firing RESOLVED resolved"),
        ("> 80", "< 70", "inactive inactive inactive FIRING RESOLVED resolved resolved"),
    ],
)
def test_kapacitor_vector(when: str, resolve: str, expected: str) -> None:
    steps = every_second(61, 73, 64, 85, 62, 56, 47)
    assert run(rule(when=when, resolve=resolve), *steps) == expected.split()


def test_keep_firing_counts_from_the_first_clear_evaluation() -> None:
    hot = rule(when="> 80", keep_firing_for="2s")
    assert run(hot, (0, 90), (1_000, 1), (2_999, 1), (3_000, 1)) == [
        *("FIRING", "firing", "firing", "RESOLVED")
    ]
    # A true evaluation in between starts the count anew.
    assert run(hot, (0, 90), (1_000, 1), (2_000, 90), (3_500, 1), (5_499, 1)) == [
        *("FIRING", "firing", "firing", "firing", "firing")
    ]


def test_a_missing_value_does_not_stop_the_keeping() -> None:
    hot = rule(when="> 80", keep_firing_for="2s")
    assert run(hot, *every_second(90, 1, None, 1)) == ["FIRING", "firing", "firing", "RESOLVED"]


def test_clear_at_time_zero_is_a_time() -> None:
    hot = rule(when="> 80", keep_firing_for="1s")
    assert run(hot, (-1, 90), (0, 1), (1_000, 1)) == ["FIRING", "firing", "RESOLVED"]


def test_a_value_between_the_thresholds_stops_the_keeping() -> None:
    hot = rule(when="> 80", resolve="< 70", keep_firing_for="2s")
    assert run(hot, *every_second(90, 60, 75, 60, 60, 60)) == [
        *("FIRING", "firing", "firing", "firing", "firing", "RESOLVED")
    ]


def test_longer_hold_never_makes_a_firing_alert_pending() -> None:
    fired = evaluate(rule(when="> 80"), None, 90, 0).state
    again = evaluate(rule(when="> 80", for_="1h"), fired, 90, 1)
    assert (again.state, again.transition) == (fired, None)


def test_each_firing_is_a_new_episode() -> None:
    hot, state, told = rule(when="> 80"), None, []
    for value in (90, 1, 90, 1):  # all within one millisecond
        result = evaluate(hot, state, value, 5)
        state = result.state
        assert result.transition is not None
        told.append((result.transition.status.value, result.transition.episode))
    assert told == [("firing", 1), ("resolved", 1), ("firing", 2), ("resolved", 2)]


def test_a_pending_alert_remembers_its_episodes_when_it_is_reset() -> None:
    hot = rule(when="> 80", for_="1s")
    state, told = None, []
    for now_ms, value in [(0, 90), (1_000, 90), (2_000, 1), (3_000, 90), (4_000, 1), (5_000, 90)]:
        state = evaluate(hot, state, value, now_ms).state
    result = evaluate(hot, state, 90, 6_000)
    assert result.transition is not None
    told = (result.transition.episode, result.transition.active_at_ms)
    assert told == (2, 5_000)


def test_transition_carries_times_and_value() -> None:
    hot = rule(when="> 80", for_="2s")
    pending = evaluate(hot, None, 90, 1_000)
    assert (pending.signal, pending.transition) == (Signal.WAITS, None)
    told = evaluate(hot, pending.state, 95, 3_500).transition
    assert told is not None
    assert (told.at_ms, told.active_at_ms, told.value) == (3_500, 1_000, 95)


def test_not_a_number_is_refused() -> None:
    with pytest.raises(InputError, match="temperature"):
        evaluate(rule(when="> 80"), None, math.nan, 0)


def test_state_survives_json() -> None:
    state = evaluate(rule(when="> 80"), None, 90, 1_000).state
    assert msgspec.json.decode(msgspec.json.encode(state), type=AlertState) == state
    assert msgspec.to_builtins(state)["status"] == "firing"
