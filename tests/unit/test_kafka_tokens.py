"""Tokens of the application: asked for seldom, shared, and their failures told in words."""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from streamapp.errors import BrokerUnavailableError, ConfigError
from streamapp.transport.kafka.security import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return what makes a module of a function's body, and names the function."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(body: str) -> str:
        name = f"tokens_{uuid4().hex}"
        lines = ("import time", "calls = []", "def bring(config):", "    calls.append(config)")
        (tmp_path / f"{name}.py").write_text("\n".join((*lines, f"    {body}")))
        importlib.invalidate_caches()  # the folder has changed within a tick of its clock
        return f"{name}:bring"

    return make


def calls(tokens: Tokens) -> list[str]:
    found: Any = tokens._ask
    return list(found.__globals__["calls"])


def test_clients_share_a_token_until_half_of_its_time_is_over(
    module: Callable[[str], str],
) -> None:
    lasting = Tokens(module("return str(len(calls)), time.time() + 600"), print)
    assert [lasting("text")[0] for _ in range(3)] == ["1", "1", "1"]
    assert calls(lasting) == ["text"]
    short = Tokens(module("return str(len(calls)), time.time() + 0.2"), print)
    first = short("")[0]
    deadline = time.monotonic() + 10
    while short("")[0] == first:
        assert time.monotonic() < deadline
    assert len(calls(short)) == 2


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise RuntimeError('the provider is down')", "RuntimeError: the provider is down"),
        ("return 'SECRET'", "TypeError: its answer is of the type str"),
        ("return ('SECRET',)", "TypeError: its answer is of the type tuple"),
        ("return 'SECRET', time.time() - 5", r"ValueError: it ended 5 s ago"),
        ("return 'SECRET', '600'", "TypeError: its answer"),
        ("raise ValueError('x' * 5_000)", "ValueError: xxx"),
    ],
)
def test_what_brings_no_token_says_why(module: Callable[[str], str], body: str, why: str) -> None:
    told: list[str] = []
    tokens = Tokens(module(body), told.append)
    with pytest.raises(BrokerUnavailableError, match=why) as caught:
        tokens.check("")
    assert f"{tokens.name} brought no token" in told[0]
    assert len(told[0]) <= 300
    assert "SECRET" not in str(caught.value) + told[0]


@pytest.mark.parametrize("name", ["", ":f", "no_such_module:f", "time:no_such", "time:timezone"])
def test_name_of_no_function_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="There is no function"):
        Tokens(name, print)


def test_fault_inside_of_the_module_is_not_taken_for_its_absence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_tokens.py").write_text("import no_such_thing\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_thing"):
        Tokens("broken_tokens:bring", print)
