"""What Faust's streams have beside ``take``: other forms of it, by ours, and what there is not.

Faust's own would take records in a task beside the agent, whose events count before it has them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NoReturn

import faust

from streamapp.engine.topic import Topic
from streamapp.errors import UsageError


class StreamForms(faust.Stream):
    """Stands before Faust's ``Stream``; over anything but a topic it is Faust's."""

    async def take_with_timestamp(
        self, max_: int, within: Any = 0, timestamp_field_name: str = ""
    ) -> AsyncIterator[list[Any]]:
        """Like ``take``; values that are dicts get the record's timestamp, in seconds."""
        if not isinstance(self.channel, Topic):
            async for values in super().take_with_timestamp(max_, within, timestamp_field_name):
                yield list(values)
            return
        async for events in self.take_events(max_, within):
            for event in events:
                if isinstance(event.value, dict) and timestamp_field_name:
                    event.value[timestamp_field_name] = event.message.timestamp
            yield [event.value for event in events]

    async def noack_take(self, max_: int, within: Any = 0) -> AsyncIterator[list[Any]]:
        """Like ``take_events``: a list is done with when the agent asks for the next one."""
        if not isinstance(self.channel, Topic):
            async for found in super().noack_take(max_, within):
                yield list(found)
            return
        async for events in self.take_events(max_, within):
            yield list(events)

    def combine(self, *nodes: Any, **kwargs: Any) -> Any:
        """Refuse streams over topics: only one of them would be read."""
        if isinstance(self.channel, Topic):
            self._refuse("combined", "Read several topics as one: app.topic('a', 'b')")
        return super().combine(*nodes, **kwargs)

    def _join(self, join_strategy: Any) -> Any:
        if isinstance(self.channel, Topic):
            self._refuse("joined", "Pipelines have joins: app.pipeline(...).source(...).join(...)")
        return super()._join(join_strategy)

    def _refuse(self, done: str, hint: str) -> NoReturn:
        msg = f"The stream over {self.channel} cannot be {done} with others"
        raise UsageError(msg, hint=hint)
