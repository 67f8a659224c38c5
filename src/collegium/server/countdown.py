"""A countdown: a timer that is put off far more often than it ends.

Each timer of an event loop takes a place in its queue and gives it up when it is cancelled. A connection waits for
its next request after each answer: here that is an assignment, and the loop is asked again when its timer has come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Countdown:
    """Calls ``act`` once a wait has lasted as long as it may.

    Args:
        loop: Whose time counts.
        act: What is done then.
    """

    __slots__ = ("_act", "_due_s", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
        self._loop = loop
        self._act = act
        self._due_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has been started and neither stopped nor ended."""
        return self._due_s is not None

    def start(self, seconds: float) -> None:
        """Begins to count, from the beginning where it runs already."""
        self._due_s = due_s = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= due_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due_s, self._look)

    def stop(self) -> None:
        """Counts no more."""
        self._due_s = None

    def drop(self) -> None:
        """Counts no more, and leaves nothing behind in the loop."""
        self._due_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        due_s = self._due_s
        if due_s is None:
            return
        if self._loop.time() < due_s:
            self._timer = self._loop.call_at(due_s, self._look)
            return
        self._due_s = None
        self._act()
