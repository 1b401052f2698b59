"""Problems: what a request that cannot be served is answered with (RFC 9457).

One shape for all of them, so that a client needs one way to read them. A problem names what is
wrong and what to do, and never carries a traceback or a path of the machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamapp.engine.states import EngineState

#: Characters of a client's own text that a problem repeats.
_QUOTED = 80


class ProblemError(Exception):
    """A request that is answered with a problem.

    ``kind`` is its type, one stable word for machines; ``more`` are members of its own, and
    ``retry_after_s`` becomes the header of that name.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        *,
        hint: str = "",
        **more: Any,  # noqa: ANN401 - anything that JSON can hold
    ) -> None:
        super().__init__(title)
        self.status = status
        self.body: dict[str, Any] = {"type": kind, "title": title, "status": status}
        if hint:
            self.body["hint"] = hint
        self.body |= more

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the problem."""
        after: int | None = self.body.get("retry_after_s")
        return {} if after is None else {"Retry-After": str(after)}


def unknown_table(name: str, tables: Iterable[str]) -> ProblemError:
    """No such table."""
    title = f"There is no table {name[:_QUOTED]!r}"
    return ProblemError(404, "unknown_table", title, tables=sorted(tables))


def absent_key(table: str, key: object, hint: str = "") -> ProblemError:
    """No row has this key, in any partition."""
    title = f"Table {table} has no row with this key"
    return ProblemError(404, "absent_key", title, hint=hint, table=table, key=key)


def bad_key(table: str, text: str, expected: str) -> ProblemError:
    """The key of the request is not of the table's key type."""
    return ProblemError(
        400,
        "bad_key",
        f"Key {text[:_QUOTED]!r} is not {expected}",
        hint=f"Any key can be given as JSON: /api/v1/tables/{table}/keys?key=...",
        table=table,
        expected=expected,
    )


def bad_parameter(text: str, name: str, expected: str) -> ProblemError:
    """A query parameter is wrong."""
    title = f"Parameter {name}={text[:_QUOTED]!r} is not {expected}"
    return ProblemError(400, "bad_parameter", title, parameter=name)


def unknown_parameter(name: str, known: Iterable[str]) -> ProblemError:
    """A query parameter would change nothing."""
    title = f"There is no parameter {name[:_QUOTED]!r} here"
    hint = f"There are {', '.join(known)}" if known else "There are none"
    return ProblemError(400, "bad_parameter", title, hint=hint, parameter=name[:_QUOTED])


def not_here(
    table: str, key: object, here: list[int], elsewhere: list[Mapping[str, Any]]
) -> ProblemError:
    """The key is in none of the partitions that this worker owns; others may have it."""
    return ProblemError(
        421,
        "not_here",
        f"This worker owns only some partitions of table {table}, and the key is in none of them",
        hint="Ask the workers named in `elsewhere`",
        table=table,
        key=key,
        partitions_here=here,
        elsewhere=elsewhere,
    )


def not_ready(
    phase: EngineState, problem: str, restore: Mapping[str, Any] | None, retry_after_s: int
) -> ProblemError:
    """The tables cannot be read now: the worker starts, restores, rebalances or stops."""
    return ProblemError(
        503,
        "not_ready",
        f"The worker is {phase}",
        hint="Try again",
        phase=phase,
        problem=problem,
        restore=restore,
        retry_after_s=retry_after_s,
    )


def unknown_route(path: str) -> ProblemError:
    """Nothing answers under this path."""
    hint = "GET /api/v1 lists what there is"
    return ProblemError(404, "unknown_route", f"Nothing is at {path[:_QUOTED]!r}", hint=hint)


def foreign_host(host: str) -> ProblemError:
    """The Host header names a server that this one is not."""
    return ProblemError(
        403,
        "foreign_host",
        f"This server is not {host[:_QUOTED]!r}",
        hint="Use the worker's own address, or set web_host to the name it is reached by",
    )
