"""Wakes the processes of one machine that share a file: a named pipe each, in a folder beside it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_READ_BYTES = 65_536
_SUFFIX = ".bell"


class Doorbells:
    """The own bell, and those of all others in ``folder``.

    A ring says that something has happened, nothing else: rings that nobody has heard yet are one. A bell whose process
    was killed is removed by the next ring.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name + _SUFFIX
        self._own: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._others: dict[str, int] = {}

    def listen(self, heard: Callable[[], None]) -> bool:
        """Calls ``heard`` in the running event loop after each ring; False where there are no named pipes.

        Again it only makes sure that the bell is still there.
        """
        if self._own is not None and (self._folder / self._name).exists():
            return True
        self._unhang()
        hidden = self._folder / f".{self._name}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            hidden.unlink(missing_ok=True)
            os.mkfifo(hidden, 0o600)
            # Open for both: a pipe without any writer would count as ended. Seen by others only once it is open.
            own = os.open(hidden, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            hidden.rename(self._folder / self._name)
        except OSError:
            return False
        self._own = own
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(own, self._hear, own, heard)
        return True

    def ring(self) -> None:
        """Wakes all others that listen."""
        try:
            there = {n for n in os.listdir(self._folder) if n.endswith(_SUFFIX) and n[0] != "."}  # noqa: PTH208
        except OSError:
            return
        for name in self._others.keys() - there:
            os.close(self._others.pop(name))
        for name in there - {self._name}:
            # One that was hung anew under its name is another pipe; only one that nobody opens is nobody's.
            if name in self._others and self._rings(name):
                continue
            try:
                self._others[name] = os.open(self._folder / name, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                with suppress(OSError):
                    (self._folder / name).unlink(missing_ok=True)
            else:
                self._rings(name)

    def close(self) -> None:
        """Takes the own bell down; twice is harmless."""
        self._unhang()
        for descriptor in self._others.values():
            os.close(descriptor)
        self._others.clear()

    def _hear(self, own: int, heard: Callable[[], None]) -> None:
        with suppress(BlockingIOError):
            os.read(own, _READ_BYTES)
        heard()

    def _unhang(self) -> None:
        if self._own is None:
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._own)
        with suppress(OSError):
            (self._folder / self._name).unlink(missing_ok=True)
        os.close(self._own)
        self._own = None

    def _rings(self, name: str) -> bool:
        """Whether somebody has that pipe open; a full one has not heard the rings before."""
        try:
            os.write(self._others[name], b"!")
        except BlockingIOError:
            return True
        except OSError:
            os.close(self._others.pop(name))
            return False
        return True
