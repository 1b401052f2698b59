"""The table views of the API: what tables there are, one row, pages of rows, the newest rows.

Read-only. An absent row is a 404, never the table's default; an answer names the partition and the
state of the worker, so that a reader can judge it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from streamapp.engine.states import EngineState
from streamapp.errors import InputError
from streamapp.serde.hooks import type_name
from streamapp.state.changelog import changelog_topic
from streamapp.state.result_table import ResultTable
from streamapp.web.answers import answer, to_json
from streamapp.web.keys import expected, key_of_json, keys_of_segment
from streamapp.web.problems import (
    absent_key,
    bad_key,
    bad_parameter,
    not_here,
    unknown_parameter,
    unknown_table,
)
from streamapp.web.scan import Cursor, Page, RowCounts, find, read_page
from streamapp.web.standby import role_of
from streamapp.web.tables_windows import about_windows, shown_key, windows_of
from streamapp.web.tail import Tail, TailRow
from streamapp.web.worker import members_of, require_running

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp.web import Request, Response

    from streamapp.app import App
    from streamapp.state.table import Table

_LIMITS = re.compile("[0-9]{1,4}")
_LIMIT, _MOST = 100, 1_000
_NEWEST, _MOST_NEWEST = 20, 100
#: Bytes of the newest rows of one answer, so that huge rows do not hold the loop.
_NEWEST_BYTES = 1 << 20


class TableViews:
    """Answers to requests about tables."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._counts = RowCounts()
        self._tails: dict[str, Tail] = {}

    async def index(self, request: Request) -> Response:
        """Answer with all tables."""
        _check_parameters(request)
        return answer({"tables": [await self._about(t) for t in self._app.tables.values()]})

    async def show(self, request: Request) -> Response:
        """Answer with one table and who has its partitions."""
        table = self._table(request)
        _check_parameters(request)
        about = await self._about(table)
        about["changelog"] = self._changelog(table)
        workers = await self._workers(table)
        about["placement"] = [
            {
                "partition": number,
                "owned": number in table.shards,
                "role": role_of(self._app, table, number),
                "worker": workers.get(number),
            }
            for number in range(table.partitions)
        ]
        return answer(about)

    async def row(self, request: Request) -> Response:
        """Answer with the row of a key, given as a path segment or as JSON in ``?key=``.

        Where the table has windows: with the newest ``limit`` windows of the key.
        """
        table = self._table(request)
        _check_parameters(request, "limit", *(() if "key" in request.match_info else ("key",)))
        keys = _keys(request, table)
        limit = _limit(request, _LIMIT, _MOST)
        require_running(self._app)
        for key in keys:
            try:
                found = (
                    list(windows_of(table, key, limit))
                    if table.spec.windows
                    else await find(table, key, lambda: _is_there(request))
                )
            except InputError as exc:
                raise bad_key(table.name, str(key), expected(table.spec.key_type)) from exc
            if found:
                return answer(self._row(table, key, found))
        if len(table.shards) == table.partitions:
            raise absent_key(table.name, keys[0], _hint_of_keys(table))
        workers = await self._workers(table)
        elsewhere: list[Mapping[str, Any]] = [
            {"partition": number, "worker": workers.get(number)}
            for number in range(table.partitions)
            if number not in table.shards
        ]
        raise not_here(table.name, keys[0], sorted(table.shards), elsewhere)

    async def page(self, request: Request) -> Response:
        """Answer with rows of the owned partitions, in order, from a cursor on."""
        table = self._table(request)
        _check_parameters(request, "limit", "cursor")
        limit = _limit(request, _LIMIT, _MOST)
        after = _cursor(request)
        require_running(self._app)
        return answer(self._page(table, await read_page(table, after, limit)))

    async def newest(self, request: Request) -> Response:
        """Answer with the rows written last, of all workers' partitions, newest first."""
        table = self._table(request)
        _check_parameters(request, "limit")
        limit = _limit(request, _NEWEST, _MOST_NEWEST)
        if not table.partitions:
            require_running(self._app)
        tail = self._tails.get(table.name)
        if tail is None:
            tail = self._tails[table.name] = Tail(self._changelog(table), table.partitions)
        rows = await tail.rows(self._app)
        return answer({"table": table.name, "items": list(islice(_shown(table, rows), limit))})

    # --- parts of answers ------------------------------------------------------------------------

    async def _about(self, table: Table) -> dict[str, Any]:
        spec, engine = table.spec, self._app.engine
        count = None
        if engine.phase is not EngineState.STARTING:
            count = await self._counts.of(table, engine.keeper)
        return {
            "name": table.name,
            "help": table.help,
            "key_type": type_name(spec.key_type),
            "value_type": type_name(spec.value_type),
            **about_windows(table),
            "holds_windows": table.holds_windows,
            "partitions": table.partitions or None,
            "owned": sorted(table.shards),
            "rows": count.rows if count and count.is_all else None,
            "rows_at_least": count.rows if count else None,
        }

    def _row(self, table: Table, key: object, found: list[tuple[int, Any]]) -> dict[str, Any]:
        partition, value = found[0]
        meta = self._meta() | {"positions": self._positions(table, partition)}
        if found[1:]:
            meta["also_in"] = [number for number, _ in found[1:]]
        what = "windows" if table.spec.windows else "value"
        head = {"table": table.name, "key": key, what: value, "partition": partition}
        return head | {"meta": meta}

    def _page(self, table: Table, page: Page) -> dict[str, Any]:
        return {
            "table": table.name,
            "items": page.rows,
            "next": str(page.next) if page.next else None,
            "partial": page.is_partial,
            "partitions": sorted(table.shards),
            "missing_partitions": sorted(set(range(table.partitions)) - set(table.shards)),
            "meta": self._meta(),
        }

    def _meta(self) -> dict[str, Any]:
        worker = str(self._app.conf.canonical_url)
        return {"state": self._app.engine.phase, "role": "active", "worker": worker}

    def _positions(self, table: Table, partition: int) -> dict[str, int]:
        """Return how far the source partitions are processed whose events write this one."""
        engine = self._app.engine
        positions = {}
        for tp in sorted(engine.owned):
            if tp.partition == partition and engine.topics.counts[tp.topic] == table.partitions:
                progress = engine.subscriptions.progress(tp)
                if progress is not None:
                    positions[f"{tp.topic}/{tp.partition}"] = progress.offset
        return positions

    async def _workers(self, table: Table) -> dict[int, str]:
        """Return the URL of the worker that has each partition, where that is known."""
        counts = self._app.engine.topics.counts
        return {
            tp.partition: member.url
            for member in await members_of(self._app)
            for tp in member.tps
            if counts.get(tp.topic) == table.partitions
        }

    def _table(self, request: Request) -> Table:
        name = request.match_info["table"]
        table = self._app.tables.get(name)
        if table is None:
            raise unknown_table(name, self._app.tables)
        return table

    def _changelog(self, table: Table) -> str:
        return changelog_topic(self._app.conf.id, table.name, table.partitions).name


def _keys(request: Request, table: Table) -> tuple[object, ...]:
    key_type = table.spec.key_type
    text = request.match_info.get("key")
    try:
        if text is not None:
            return keys_of_segment(text, key_type)
        text = request.query.get("key", "")
        return (key_of_json(text, key_type),)
    except ValueError as exc:
        raise bad_key(table.name, text or "", _wanted(request, key_type)) from exc


def _wanted(request: Request, key_type: object) -> str:
    if "key" in request.match_info:
        return expected(key_type)
    return f"JSON of {type_name(key_type)} in the parameter key"


def _is_there(request: Request) -> bool:
    """Tell whether the client still waits for the answer."""
    return request.transport is not None and not request.transport.is_closing()


def _check_parameters(request: Request, *known: str) -> None:
    unknown = next((name for name in request.query if name not in known), None)
    if unknown is not None:
        raise unknown_parameter(unknown, known)


def _hint_of_keys(table: Table) -> str:
    if not isinstance(table, ResultTable) or not table.holds_windows:
        return ""
    return f'Its keys have the window\'s start: /api/v1/tables/{table.name}/keys?key=["ann",60000]'


def _limit(request: Request, default: int, most: int) -> int:
    text = request.query.get("limit", str(default))
    if not _LIMITS.fullmatch(text) or not 1 <= int(text) <= most:
        raise bad_parameter(text, "limit", f"a number from 1 to {most}")
    return int(text)


def _cursor(request: Request) -> Cursor | None:
    text = request.query.get("cursor")
    if text is None:
        return None
    try:
        return Cursor.parse(text)
    except ValueError as exc:
        raise bad_parameter(text, "cursor", "the `next` of an earlier page") from exc


def _shown(table: Table, rows: Iterable[TailRow]) -> Iterable[msgspec.Raw]:
    """Return the rows as JSON; ends early, after at least one, at the bound of bytes."""
    left = _NEWEST_BYTES
    for row in rows:
        if left < 0:
            return
        seen = table.logged(row.partition, row.raw_key, row.value)
        if seen is None:
            continue
        key, value = seen
        shown = to_json(
            {
                **shown_key(table, key),
                "value": value,
                "partition": row.partition,
                "offset": row.offset,
                "committed_ms": row.timestamp_ms,
            }
        )
        left -= len(shown)
        yield msgspec.Raw(shown)
