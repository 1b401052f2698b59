"""A TCP proxy on the loopback whose network can be cut, in the ways in which networks are.

It runs in a thread of its own. Bytes are held back, never lost: TCP would send them again.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, Self

_CHUNK = 1 << 16
_CALL_S = 10.0
#: Makes the kernel end a connection by a reset.
_AT_ONCE = struct.pack("ii", 1, 0)


class Cut(Enum):
    """What happens to the network: which connections end, and which directions are silent."""

    NONE = "none"
    #: Connections are reset, new ones too.
    RESET = "reset"
    #: Nothing comes through, in neither direction.
    SILENCE = "silence"
    #: Requests arrive, answers do not; at the end connections are reset.
    DEAF = "deafness"
    #: As silence, for ever on connections of before: a host that lost its power tells nobody.
    STALE = "power cut"


#: Which cuts make a direction silent.
_TO_SERVER = frozenset({Cut.SILENCE, Cut.STALE})
_TO_CLIENT = _TO_SERVER | {Cut.DEAF}


class TcpProxy:
    """Forwards connections from one port of the loopback to another; close it."""

    def __init__(self, port: int, target: int) -> None:
        self._port = port
        self._target = target
        self._cut = Cut.NONE
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        #: Counts power cuts: connections of an earlier life are silent.
        self._life = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy")
        self._thread.start()
        self._changed = asyncio.Condition()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut(self, how: Cut) -> None:
        """Cut the network, or with ``Cut.NONE`` mend it."""
        self._call(self._change(how))

    def close(self) -> None:
        """End all connections, the server and the thread."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_S)

    # --- in the loop ---------------------------------------------------------------------------

    async def _change(self, how: Cut) -> None:
        if how is Cut.RESET or self._cut is Cut.DEAF:
            self._reset()
        async with self._changed:
            self._cut = how
            self._life += how is Cut.STALE
            self._changed.notify_all()

    def _reset(self) -> None:
        for writer in self._writers:
            _reset(writer)

    async def _end(self) -> None:
        self._server.close()
        self._reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._cut is Cut.RESET:
            _reset(writer)
            return
        with suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            both = {writer, far_writer}
            self._writers |= both
            try:
                await self._forward(
                    self._pump(reader, far_writer, _TO_SERVER),
                    self._pump(far_reader, writer, _TO_CLIENT),
                )
            finally:
                self._writers -= both
                for one in both:
                    _reset(one)

    async def _forward(self, *pumps: Coroutine[Any, Any, None]) -> None:
        """Run both until one of them ends."""
        tasks = [asyncio.create_task(pump) for pump in pumps]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: frozenset[Cut]
    ) -> None:
        """Copy; the end of a connection is no news either while the network is silent."""
        life = self._life
        while True:
            data = await reader.read(_CHUNK)
            async with self._changed:
                await self._changed.wait_for(lambda: self._life == life and self._cut not in silent)
            if not data:
                return
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    writer.transport.abort()
