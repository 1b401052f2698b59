"""Faust's worker: what the command line does not say is as the application says."""

from __future__ import annotations

from typing import Any

import click
import faust
from click.core import ParameterSource


class Worker(faust.Worker):
    """Leaves ``web_enabled`` as given to the ``App``, unless an option says otherwise."""

    def __init__(self, app: Any, *args: Any, **options: Any) -> None:
        # Faust's command has put the default of --with-web in its place by now.
        context = click.get_current_context(silent=True)
        if (
            context is not None
            and context.get_parameter_source("with_web") is ParameterSource.DEFAULT
            and app.given_web_enabled is not None
        ):
            app.conf.web_enabled = app.given_web_enabled
        super().__init__(app, *args, **options)
