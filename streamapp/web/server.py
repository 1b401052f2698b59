"""The worker's web server: Faust's, with our views in the place of Faust's own.

Pages of the application (``@app.page``) work as in Faust and win on their own paths. Every request
passes one guard: a web page of another origin must not reach a worker under a name that it has
made point here (DNS rebinding), so the Host header must name this server.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from faust.web.drivers import aiohttp as driver
from yarl import URL

from streamapp.errors import ConfigError, StreamappError
from streamapp.web.answers import GUARDS, answer, problem_answer
from streamapp.web.metrics import MetricViews
from streamapp.web.problems import ProblemError, foreign_host, unknown_route
from streamapp.web.tables import TableViews
from streamapp.web.worker import WorkerViews

if TYPE_CHECKING:
    from streamapp.app import App

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: The files of the page by the path that serves them; nothing else is ever read.
_STATIC: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/static/page.css": ("page.css", "text/css; charset=utf-8"),
    "/static/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/static/values.js": ("values.js", "text/javascript; charset=utf-8"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
}
_WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared, not bound


class Web(driver.Web):
    """Faust's aiohttp server with our routes, our guard, and one line for a busy port."""

    # Faust's views show keys as text and absent rows as the default: ours replace all of them.
    default_blueprints = ()
    debug_blueprints = ()
    production_blueprints = ()
    optional_blueprints = ()

    def __init__(self, app: App, **kwargs: object) -> None:
        super().__init__(app, **kwargs)
        self._has_routes = False
        self.web_app.middlewares.append(_guard(app))
        logging.getLogger("aiohttp.server").addFilter(_in_one_line)

    def init_server(self) -> None:
        """Add the application's pages, then ours where it has none. Safe to repeat."""
        super().init_server()
        if not self._has_routes:
            self._has_routes = True
            for path, handler in _routes(self.app).items():
                if path not in self.views:
                    self.web_app.router.add_get(path, _answering(handler))

    async def start_server(self) -> None:
        """Listen; what cannot work ends the worker with one line."""
        try:
            await self._listen()
        except ConfigError as exc:
            log.critical("%s", exc)
            raise SystemExit(exc.exit_code) from None

    async def _listen(self) -> None:
        if self.app.conf.web_in_thread:
            # A table is read on the loop that writes it.
            msg = "web_in_thread is not supported"
            raise ConfigError(msg, hint="Leave it out: requests share the agents' event loop")
        try:
            await super().start_server()
        except OSError as exc:
            raise _cannot_listen(self.app, exc) from exc


def _routes(app: App) -> dict[str, Handler]:
    tables, worker, metrics = TableViews(app), WorkerViews(app), MetricViews(app)
    table = "/api/v1/tables/{table}"
    routes: dict[str, Handler] = {
        "/livez": worker.live,
        "/readyz": worker.ready,
        "/metrics": metrics.metrics,
        "/api/v1/status": worker.status,
        "/api/v1/agents": worker.agents,
        "/api/v1/partitions": worker.partitions,
        "/api/v1/tables": tables.index,
        table: tables.show,
        f"{table}/rows": tables.page,
        f"{table}/newest": tables.newest,
        f"{table}/keys": tables.row,
        f"{table}/keys/{{key:(?s:.+)}}": tables.row,
    }
    paths = [*routes]

    async def index(_: web.Request) -> web.Response:
        return answer({"paths": paths})

    return {"/api/v1": index, **routes} | {
        path: _static(name, kind) for path, (name, kind) in _STATIC.items()
    }


def _static(name: str, content_type: str) -> Handler:
    body = (files("streamapp.web") / "static" / name).read_bytes()

    async def handler(_: web.Request) -> web.Response:
        headers = {**GUARDS, "Content-Type": content_type, "Cache-Control": "no-cache"}
        return web.Response(body=body, headers=headers)

    return handler


def _answering(handler: Handler) -> Handler:
    """Make a handler answer with a problem where it cannot serve the request."""

    async def answering(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ProblemError as exc:
            return problem_answer(exc)
        except StreamappError as exc:
            # The broker or the store failed under the request: the engine deals with it.
            problem = ProblemError(503, "unavailable", exc.message, hint=exc.hint, retry_after_s=1)
            return problem_answer(problem)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return problem_answer(ProblemError(500, "internal", "The request failed: see the log"))

    return answering


def _guard(app: App) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host")
        # Without one (HTTP/1.0) the client is no browser.
        if host is not None and not _is_ours(host, app):
            return problem_answer(foreign_host(host))
        unmatched = request.match_info.http_exception
        if unmatched is None:
            return await handler(request)
        if unmatched.status == web.HTTPNotFound.status_code:
            return problem_answer(unknown_route(request.path))
        title = f"{request.method} is not served here"
        response = problem_answer(ProblemError(unmatched.status, "method_not_allowed", title))
        response.headers["Allow"] = unmatched.headers.get("Allow", "GET")
        return response

    return guard


def _in_one_line(record: logging.LogRecord) -> bool:
    """Leave the traceback out where a client has sent what is no HTTP: nothing failed here."""
    exc = record.exc_info[1] if record.exc_info else None
    if isinstance(exc, HttpProcessingError):
        record.exc_info = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg = f"{record.msg}: %s"
        record.args = (*(record.args or ()), exc.message.split("\n", 1)[0].rstrip(": "))
    return True


def _is_ours(header: str, app: App) -> bool:
    """Tell whether a Host header names this server.

    An address always may: a name can be made to point here, an address is where the request went.
    """
    try:
        host = URL(f"http://{header}").host or ""
    except ValueError:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        conf = app.conf
        ours = {"localhost", socket.gethostname(), conf.web_host, conf.canonical_url.host}
        return host.lower() in {str(name).lower() for name in ours}
    return True


def _cannot_listen(app: App, exc: OSError) -> ConfigError:
    host, port = app.conf.web_bind, app.conf.web_port
    where = f"port {port}" if host in _WILDCARDS else f"{host}:{port}"
    msg = f"The web views cannot listen on {where}: {os.strerror(exc.errno or 0)}"
    hint = "Choose an address of this machine with --web-bind or the setting web_bind"
    if exc.errno == errno.EADDRINUSE:
        hint = (
            f"Another program has it (`ss -ltnp 'sport = :{port}'` names it): end that one, or "
            "choose another port with --web-port or the setting web_port"
        )
    return ConfigError(msg, hint=hint)
