"""One call of a tool's function: within its time, and whatever it raises is a value.

A tool is foreign code. What it raises must never end the worker: ``SystemExit`` and ``KeyboardInterrupt`` leave an
event loop through every task, and a ``CancelledError`` of the tool's own looks like a worker that is being stopped. So
each call is a task of its own that lets none of them out.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Callable
from typing import Any, Final

from collegium.tools.thread import Threads

GRACE_S: Final = 1.0
"""How long a call that was told to stop may take to do so before it is left behind."""
_log = logging.getLogger("collegium.tools")
_left_behind: Final[set[asyncio.Task[Any]]] = set()


class Gave:
    """The function returned ``value``."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class Broke:
    """The function raised ``error``, of whatever kind."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Late:
    """The function did not end in time; it was stopped or left behind."""


async def invoke(
    function: Callable[..., object],
    arguments: dict[str, Any],
    *,
    name: str,
    timeout_s: float,
    threads: Threads,
) -> Gave | Broke | Late:
    """What became of ``function(**arguments)``; a function that is not ``async`` runs in a thread.

    Raises ``asyncio.CancelledError`` only when the caller itself is cancelled; the call is then told to stop.
    """
    call = asyncio.create_task(_contained(function, arguments, name=name, threads=threads), name=f"tool-{name}")
    try:
        await asyncio.wait({call}, timeout=timeout_s)
    except asyncio.CancelledError:
        await _stop(call, name)
        raise
    if not call.done():
        await _stop(call, name)
    return call.result() if call.done() and not call.cancelled() else Late()


async def _contained(
    function: Callable[..., object], arguments: dict[str, Any], *, name: str, threads: Threads
) -> Gave | Broke:
    process = os.getpid()
    try:
        if inspect.iscoroutinefunction(function):
            value: object = await function(**arguments)
        else:
            value = await threads.run(lambda: function(**arguments), name=f"tool-{name}")
            if inspect.isawaitable(value):
                value = await value
        outcome: Gave | Broke = Gave(value)
    except asyncio.CancelledError as error:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
        outcome = Broke(error)  # the tool's own: nobody has stopped it
    except BaseException as error:  # noqa: BLE001  # see the module's docstring
        outcome = Broke(error)
    if os.getpid() != process:
        # The function has forked and this is the copy: it must not go on as a second worker.
        os._exit(0)
    return outcome


async def _stop(call: asyncio.Task[Any], name: str) -> None:
    """Cancels the call; one that will not end is left behind, so that the worker goes on without it."""
    call.cancel()
    await asyncio.wait({call}, timeout=GRACE_S)
    if not call.done():
        _log.warning("a call of %s does not stop when it is told to and was left behind", name)
        _left_behind.add(call)
        call.add_done_callback(_left_behind.discard)
