"""Alone: tasks that have killed their worker twice put nothing else at risk the third time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

SendOff = Callable[[str, str, int], Awaitable[None]]
"""Has an attempt ``(run, task, attempt)`` worked on in a process of its own; returns when that process has ended."""
AT_ONCE = 2
"""Processes at the same time: a worker that died twice leaves as many suspects as it had tasks, and so many processes
would starve each other until they seem dead themselves."""
_log = logging.getLogger("collegium.worker")


class Alone:
    """Where such tasks are worked on: in a process of their own, or here when nothing else is.

    Args:
        send_off: Starts such a process; None where there are none.
        count: How many tasks this worker has in hand, those that wait here included.
        freed: Set whenever one of them ends.
    """

    def __init__(self, send_off: SendOff | None, *, count: Callable[[], int], freed: asyncio.Event) -> None:
        self._send_off = send_off
        self._count = count
        self._freed = freed
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._sent: set[tuple[str, str, int]] = set()
        self._places = asyncio.Semaphore(AT_ONCE)

    @property
    def has_processes(self) -> bool:
        """Whether tasks can be sent off."""
        return self._send_off is not None

    @property
    def is_wanted(self) -> bool:
        """Whether a task waits to be alone here, or is: nothing else may begin."""
        return self._waiting > 0

    async def send_off(self, run: str, task: str, attempt: int) -> None:
        """Returns when the attempt's process has ended, at once when there is one already."""
        key = (run, task, attempt)
        if self._send_off is None or key in self._sent:
            return
        self._sent.add(key)
        try:
            async with self._places:
                await self._send_off(*key)
        except OSError as error:
            _log.warning("no process could be started for task %s of %s: %s", task, run, error)
        finally:
            self._sent.discard(key)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Inside it nothing else is worked on in this process."""
        self._waiting += 1
        self._freed.set()  # whoever has the turn already counts anew: this one is no danger to it
        try:
            async with self._turn:
                while self._count() > self._waiting:
                    self._freed.clear()
                    await self._freed.wait()
                yield
        finally:
            self._waiting -= 1
