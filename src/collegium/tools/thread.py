"""Runs blocking functions beside the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from collegium.domain.errors import ToolError

T = TypeVar("T")
MAX_LEFT: Final = 8
"""Calls of one function that nobody waits for any more and that still run; more are not begun."""


class Threads:
    """Runs one blocking function at a time in a thread of its own, and knows which of them were left behind.

    Not the loop's pool: a function that hangs would take one of its few places for good, and at exit the interpreter
    would wait for it. These threads are daemons: after a timeout one is left behind, because a thread cannot be
    stopped, and dies with the process.
    """

    def __init__(self, limit_left: int = MAX_LEFT) -> None:
        self._limit_left = limit_left
        self._left: set[threading.Thread] = set()

    async def run(self, function: Callable[[], T], *, name: str) -> T:
        """What ``function()`` returns or raises, of whatever kind.

        Raises:
            ToolError: So many earlier calls hang that another one would only be one more; nothing was begun.
        """
        self._left = {thread for thread in self._left if thread.is_alive()}
        if len(self._left) >= self._limit_left:
            raise ToolError(
                f"{len(self._left)} earlier calls of {name} have not ended: it is not called again before one of them "
                "ends; do without it",
                hanging=len(self._left),
            )
        thread, future = _started(function, name=name)
        try:
            return await future
        finally:
            if thread.is_alive():  # for a moment also after an orderly end
                self._left.add(thread)


async def in_thread(function: Callable[[], T], *, name: str) -> T:
    """What ``function()`` returns or raises, run in a thread of its own; see ``Threads``."""
    return await Threads().run(function, name=name)


def _started(function: Callable[[], T], *, name: str) -> tuple[threading.Thread, asyncio.Future[T]]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()
    process = os.getpid()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():  # the caller has gone: timeout or cancellation
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]  # None only where T allows it
        else:
            future.set_exception(error)

    def work() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = context.run(function)
        except StopIteration as error:  # a future refuses to carry it
            failure = RuntimeError(f"StopIteration: {error}")
        except BaseException as error:  # noqa: BLE001  # handed to the caller as it is
            failure = error
        if os.getpid() != process:
            # The function has forked and this is the copy: it must not go on as a second worker.
            os._exit(0)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread, future
