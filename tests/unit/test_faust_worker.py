"""What an option of Faust's worker does to ``web_enabled``: it wins, its default does not."""

from __future__ import annotations

from typing import Any

import click
import pytest

import streamapp
from streamapp.engine.faust_worker import Worker


@pytest.mark.parametrize(
    ("given", "words", "expected"),
    [
        ({"web_enabled": False}, [], False),
        ({"web_enabled": False}, ["--with-web"], True),
        ({"web_enabled": True}, ["--without-web"], False),
        ({}, [], True),
        ({}, ["--without-web"], False),
    ],
)
def test_only_an_option_that_is_given_overrules_the_application(
    given: dict[str, Any], words: list[str], *, expected: bool
) -> None:
    app = streamapp.App("web", broker="memory://web", store="memory://", **given)
    app.finalize()
    found = []

    @click.command()
    @click.option("--with-web/--without-web", default=True)
    def command(*, with_web: bool) -> None:
        app.conf.web_enabled = with_web  # as Faust does
        Worker(app, loop=app.loop)
        found.append(app.conf.web_enabled)

    command.main(words, standalone_mode=False)
    assert found == [expected]
