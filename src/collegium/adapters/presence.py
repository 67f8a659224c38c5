"""Which worker processes of this machine live: a locked file each. The kernel frees the lock when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class FilePresence:
    """One file per worker in ``folder``, locked for as long as its process lives; see ``ports.Presence``.

    Every process that shares the store has to name the same folder on the same machine.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    async def announce(self, worker: str) -> None:
        """Makes the worker's file, locked from the first moment that others can see it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        hidden = self._folder / f".{worker}.{os.getpid()}"
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        hidden.rename(self._path(worker))
        self._held[worker] = descriptor

    async def withdraw(self, worker: str) -> None:
        """Removes the worker's file; twice is harmless."""
        self._path(worker).unlink(missing_ok=True)
        await self.abandon(worker)

    async def abandon(self, worker: str) -> None:
        """Lets the worker be found dead: it leaves something that others have to see to."""
        descriptor = self._held.pop(worker, None)
        if descriptor is not None:
            os.close(descriptor)

    async def dead(self) -> tuple[str, ...]:
        """Workers whose file is there and whose lock is free."""
        if not self._folder.is_dir():
            return ()
        names = (p.stem for p in self._folder.glob("wrk_*.lock"))
        return tuple(sorted(n for n in names if n not in self._held and self._is_free(n)))

    def _is_free(self, worker: str) -> bool:
        try:
            descriptor = os.open(self._path(worker), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _path(self, worker: str) -> Path:
        return self._folder / f"{worker}.lock"


class MemoryPresence:
    """Workers of one process that shares its stores with nobody."""

    def __init__(self) -> None:
        self._announced: set[str] = set()

    async def announce(self, worker: str) -> None:
        """Notes the worker."""
        self._announced.add(worker)

    async def withdraw(self, worker: str) -> None:
        """Forgets the worker."""
        self._announced.discard(worker)

    async def abandon(self, worker: str) -> None:
        """Forgets the worker: nobody else could look."""
        self._announced.discard(worker)

    async def dead(self) -> tuple[str, ...]:
        """Nobody: whoever could ask lives in the same process."""
        return ()
