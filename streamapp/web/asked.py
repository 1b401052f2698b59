"""Questions of requests to the broker: one of a kind at a time, and waited for while it helps.

A broker that is silent holds the thread of each question for ten seconds or more, and the threads
are those that the engine works with: requests that come every second would take all of them. Who
asks what is being asked already shares the answer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakKeyDictionary

from streamapp.errors import BrokerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from streamapp.app import App

_T = TypeVar("_T")

#: Seconds until a request gives up: a page waits for five, a scraper for ten.
_PATIENCE_S = 3.0

_open: WeakKeyDictionary[App, dict[Hashable, asyncio.Task[Any]]] = WeakKeyDictionary()


async def asked(app: App, what: Hashable, function: Callable[[], _T]) -> _T:
    """Return what a blocking function returns, called in a thread.

    Args:
        app: Whose broker is asked.
        what: The question: one of them is open at a time.
        function: Puts it.

    Raises:
        BrokerError: The broker cannot be read, or has not answered in time.
    """
    questions = _open.setdefault(app, {})
    task = questions.get(what)
    if task is None:
        task = questions[what] = asyncio.create_task(app.engine.call(function))
        task.add_done_callback(lambda done: _close(questions, what, done))
    await asyncio.wait([task], timeout=_PATIENCE_S)
    if not task.done():
        msg = f"The broker has not answered for {_PATIENCE_S:g} s"
        raise BrokerUnavailableError(msg, hint="Is it there, and is it busy?")
    return cast("_T", task.result())


def _close(
    questions: dict[Hashable, asyncio.Task[Any]], what: Hashable, task: asyncio.Task[Any]
) -> None:
    del questions[what]
    # Where everybody has given up, nobody asks for it: no complaint of asyncio is needed.
    _ = task.cancelled() or task.exception()
