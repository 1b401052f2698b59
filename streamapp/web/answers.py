"""Answers: values to JSON responses, with the headers that make a browser treat them as data.

A record is shown as its fields. Must never put data of a table into HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from streamapp.serde.faust_records import is_faust_record
from streamapp.serde.hooks import encode_hook
from streamapp.web.problems import ProblemError

#: Nothing from elsewhere, nothing inline, in nobody's frame: keys and values are anybody's text.
CONTENT_POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
GUARDS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_DATA_HEADERS = {**GUARDS, "Cache-Control": "no-store"}


def data_answer(body: bytes, content_type: str, status: int = 200) -> web.Response:
    """Return a response that is never cached."""
    headers = {**_DATA_HEADERS, "Content-Type": content_type}
    return web.Response(body=body, status=status, headers=headers)


def answer(value: object, status: int = 200) -> web.Response:
    """Return a JSON response."""
    return data_answer(to_json(value), "application/json", status)


def problem_answer(problem: ProblemError) -> web.Response:
    """Return the response of a problem."""
    response = data_answer(to_json(problem.body), "application/problem+json", problem.status)
    response.headers.update(problem.headers)
    return response


def _hook(value: Any) -> object:  # noqa: ANN401 - what msgspec does not know
    # Without the namespace that Faust adds for itself.
    return value.asdict() if is_faust_record(value) else encode_hook(value)


#: Value to JSON bytes; bytes become base64.
to_json = msgspec.json.Encoder(enc_hook=_hook).encode
