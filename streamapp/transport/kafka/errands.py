"""What others want done by the thread that polls a consumer.

A call to the consumer from another thread may wait for as long as that one polls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Condition


class _Errand:
    __slots__ = ("call", "error", "is_done")

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        self.error: BaseException | None = None
        self.is_done = False


class Errands:
    """Taken from any thread, run by one; ``changed`` is what that one waits for."""

    def __init__(self, changed: Condition) -> None:
        self._changed = changed
        self._waiting: list[_Errand] = []

    def __len__(self) -> int:
        """Return how many wait; ask under the condition."""
        return len(self._waiting)

    def ask(self, call: Callable[[], object], limit_s: float) -> bool:
        """Have it run and raise what it raises; ``False`` if it was not run in time."""
        errand = _Errand(call)
        with self._changed:
            self._waiting.append(errand)
            self._changed.notify_all()
            is_done = self._changed.wait_for(lambda: errand.is_done, limit_s)
            if not is_done and errand in self._waiting:
                self._waiting.remove(errand)
        if errand.error is not None:
            raise errand.error
        return is_done

    def run(self) -> None:
        """Run those that wait."""
        with self._changed:
            errands, self._waiting = self._waiting, []
        for errand in errands:
            try:
                errand.call()
            except BaseException as exc:  # noqa: BLE001 - raised by whoever asked
                errand.error = exc
            with self._changed:
                errand.is_done = True
                self._changed.notify_all()
