"""The leash: how a worker process and the process that started it know of each other, until one of them is gone.

The worker's standard input is a pipe that its parent holds: the first line is its order, and when the pipe ends the
parent has ended, in whatever way. Its standard output carries words back, one JSON document on a line.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import msgspec

from collegium.telemetry import Reading

State = Literal["starting", "waiting", "ready", "draining", "failed"]
"""``draining``: it was told to end. ``failed``: it ends because something broke, and should be started again."""
MOST_WAITING_BYTES = 1 << 20
_READ_BYTES = 65_536


class WorkOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process is told as it starts."""

    name: str
    """For its log: which of its parent's workers it is."""
    settings: dict[str, Any]
    model: str | None = None


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process says of itself, each second and whenever its state changes."""

    state: State
    why: str = ""
    """What it waits for."""
    worker: str = ""
    readings: tuple[Reading, ...] = ()


class Leash:
    """The worker's end.

    Standard input and output are taken over: what agents and tools read is empty, what they print goes to standard
    error.
    """

    def __init__(self) -> None:
        self._in, self._out = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        self._transport: asyncio.WriteTransport | None = None

    def order(self) -> WorkOrder:
        """The order. Blocks until it is there; raises ``SystemExit`` when the parent is gone before."""
        text = b""
        while b"\n" not in text:
            piece = os.read(self._in, _READ_BYTES)
            if not piece:
                sys.exit(0)
            text += piece
        return msgspec.json.decode(text.partition(b"\n")[0], type=WorkOrder)

    def watch(self, gone: Callable[[], None], *, within_s: float) -> None:
        """Calls ``gone`` in the running event loop when the parent has ended; ends the process ``within_s`` later.

        A thread looks, so that a process whose event loop hangs does not stay behind either.
        """
        loop = asyncio.get_running_loop()

        def look() -> None:
            while os.read(self._in, _READ_BYTES):
                pass
            timer = threading.Timer(within_s, os._exit, (1,))
            timer.daemon = True
            timer.start()
            with suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(gone)

        threading.Thread(target=look, name="leash", daemon=True).start()

    async def open(self) -> None:
        """Makes it possible to ``say`` something."""
        pipe = os.fdopen(self._out, "wb", 0)
        self._transport, _ = await asyncio.get_running_loop().connect_write_pipe(asyncio.BaseProtocol, pipe)

    def say(self, word: Word) -> None:
        """Tells the parent; what a parent that stands still does not read is dropped."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() > MOST_WAITING_BYTES:
            return
        transport.write(msgspec.json.encode(word) + b"\n")

    def close(self) -> None:
        """Nothing more is said; twice is harmless."""
        if self._transport is not None:
            self._transport.close()
