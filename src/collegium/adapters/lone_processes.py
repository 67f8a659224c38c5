"""Processes that work on one attempt and end: whatever kills them, kills nothing else."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

COMMAND = (sys.executable, "-m", "collegium.cli.alone")
_KEPT_BYTES = 2_000
_log = logging.getLogger("collegium.worker")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What such a process is told: one JSON document on its standard input."""

    settings: dict[str, Any]
    model: str
    hands_over: bool
    run: str = ""
    task: str = ""
    attempt: int = 0


def read_order(document: bytes) -> Order:
    """The order in ``document``."""
    return msgspec.json.decode(document, type=Order)


class LoneProcesses:
    """Starts one process for one attempt; see ``runtime.alone.SendOff``.

    Args:
        command: Program and arguments.
        order: What every order says beside ``run``, ``task`` and ``attempt``.
        grace_s: How long a process may take to end when it is told to.
    """

    def __init__(self, command: Sequence[str], order: Order, *, grace_s: float) -> None:
        self._command = tuple(command)
        self._order = order
        self._grace_s = grace_s

    async def __call__(self, run: str, task: str, attempt: int) -> None:
        """Returns when the process has ended, however it did; cancelled, it tells the process to end and waits for it.

        Raises ``OSError`` when no process could be started.
        """
        order = msgspec.structs.replace(self._order, run=run, task=task, attempt=attempt)
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        telling = asyncio.ensure_future(_talk(process, msgspec.json.encode(order)))
        try:
            said = await asyncio.shield(telling)
        except asyncio.CancelledError:
            await self._end(process)
            telling.cancel()
            raise
        if process.returncode:
            _log.warning("the process of task %s of %s ended with %d: %s", task, run, process.returncode, said)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self._grace_s):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _talk(process: asyncio.subprocess.Process, order: bytes) -> str:
    """Gives the order; returns the end of what the process said when it has ended."""
    if process.stdin is None or process.stderr is None:
        raise OSError("the process has no standard input or error output")
    with suppress(ConnectionError):  # it has ended before it read all of it
        process.stdin.write(order)
        await process.stdin.drain()
        process.stdin.close()
    said = b""
    while piece := await process.stderr.read(_KEPT_BYTES):
        said = (said + piece)[-_KEPT_BYTES:]
    await process.wait()
    return said.decode(errors="replace").strip()
