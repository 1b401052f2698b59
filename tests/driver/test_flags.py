"""What the command line is told and cannot do is refused in one line: real processes."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from support.programs import Ended, Programs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKER = ("streamapp", "worker", "-A", "shop")
FROM_SETTINGS = (
    "from streamapp.settings import load_settings\n"
    "settings = load_settings()\n"
    "app = streamapp.App('a', broker=settings.broker, datadir=settings.datadir)\n"
)


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    with closing(Programs()) as started:
        yield started


def said(ended: Ended, status: int = 2) -> str:
    """Return the one line of a failure."""
    assert ended.status == status, ended.err
    assert "Traceback" not in ended.out + ended.err
    (line,) = (line for line in ended.err.splitlines() if line.strip())
    return line


# --- flags of the worker -------------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "value"), [("broker", "sqlite:///b/c"), ("datadir", "other")])
@pytest.mark.parametrize("app", ["streamapp.App('a')", "streamapp.App('a', broker='memory://b')"])
def test_flag_that_a_plain_application_ignores(
    programs: Programs, tmp_path: Path, flag: str, value: str, app: str
) -> None:
    (tmp_path / "shop.py").write_text(f"import streamapp\napp = {app}\n")
    ended = programs.run(tmp_path, *WORKER, f"--{flag}", value)
    assert said(ended) == (
        f"streamapp: --{flag} has no effect: shop makes its App with a {flag} of its own. Write "
        f"App(..., {flag}=settings.{flag}) with settings = load_settings(), or leave the flag out"
    )
    assert ended.out == ""
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("flags", [("--broker", "sqlite:///{0}/bus"), ("--datadir", "{0}")])
def test_flag_reaches_an_application_made_from_the_settings(
    programs: Programs, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    (tmp_path / "shop.py").write_text(f"import streamapp\n{FROM_SETTINGS}")
    (tmp_path / "used").write_text("a file: the worker ends there")
    given = (word.format(tmp_path / "used") for word in flags)
    ended = programs.run(tmp_path, *WORKER, *given, "-l", "warning")
    assert "used/bus: Not a directory" in said(ended, 3)


@pytest.mark.parametrize("flags", [("--datadir", "data"), ("--broker", "sqlite://")])
def test_flag_that_says_the_same_is_taken(
    programs: Programs, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    (tmp_path / "data").write_text("a file: the worker ends there")
    (tmp_path / "shop.py").write_text("import streamapp\napp = streamapp.App('a')\n")
    ended = programs.run(tmp_path, *WORKER, *flags, "-l", "warning")
    assert "cannot use data/bus: Not a directory" in said(ended, 3)


# --- the application's name ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("./shop", "-A ./shop is a file, no module. Write -A shop"),
        ("shop.py", "-A shop.py is a file, no module. Write -A shop"),
        ("shop.py:app", "-A shop.py:app is a file, no module. Write -A shop:app"),
        ("a/shop.py", "-A a/shop.py is a file, no module. Write -A a.shop"),
        (
            "/a/shop.py:b",
            "-A /a/shop.py:b is a file, no module. Go to its folder and write -A shop:b",
        ),
        ("../shop", "-A ../shop is a file, no module. Go to its folder and write -A shop"),
        ("shop:", "-A shop: names no application. Write -A shop"),
        ("", "-A names no module. Write -A MODULE, or -A MODULE:NAME"),
        (":app", "-A names no module. Write -A MODULE"),
        (".shop", "-A .shop is a file, no module. Write -A shop"),
        ("shopp", "There is no module shopp in this folder. Go to the application's"),
    ],
)
def test_name_that_is_no_module(
    programs: Programs, tmp_path: Path, name: str, expected: str
) -> None:
    (tmp_path / "shop.py").write_text("import streamapp\napp = streamapp.App('a')\n")
    line = said(programs.run(tmp_path, "streamapp", "worker", "-A", name))
    assert line.startswith(f"streamapp: {expected}")


def test_name_with_a_hyphen_is_a_module(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "my-shop.py").write_text("app = 1\n")
    line = said(programs.run(tmp_path, "streamapp", "worker", "-A", "my-shop"))
    assert "app of module my-shop is no application" in line


# --- brokers of commands -------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("send", "t", "1"), ("topics",), ("groups",), ("tail", "t")])
def test_broker_of_another_process(
    programs: Programs, tmp_path: Path, command: tuple[str, ...]
) -> None:
    ended = programs.run(tmp_path, "streamapp", *command, "--broker", "memory://shop")
    assert "memory://shop lives in its worker only: no command can open it. Use" in said(ended)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("topics", "No topics yet."),
        ("groups", "No groups yet"),
        ("topics t", "Topic t does not exist."),
        ("tail t", "Topic t does not exist."),
    ],
)
@pytest.mark.parametrize("flags", [(), ("--broker", "sqlite:///{0}/bus"), ("--datadir", "other")])
def test_command_that_looks_creates_nothing(
    programs: Programs, tmp_path: Path, command: str, expected: str, flags: tuple[str, ...]
) -> None:
    given = (word.format(tmp_path / "none") for word in flags)
    ended = programs.run(tmp_path, "streamapp", *command.split(), *given)
    assert ended.status == (2 if "exist" in expected else 0), ended.err
    assert expected in ended.out + ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["err", "out"]


def test_broker_without_a_scheme(programs: Programs, tmp_path: Path) -> None:
    ended = programs.run(tmp_path, "streamapp", "topics", "--broker", "/a/b")
    assert "'/a/b' has no scheme. Did you mean sqlite:///a/b?" in said(ended)


def test_restore_where_are_no_checkpoints(programs: Programs, tmp_path: Path) -> None:
    line = said(programs.run(tmp_path, "streamapp", "checkpoints", "restore", "3"))
    assert "No checkpoints in data. Name the folder of the worker's data with --datadir" in line
