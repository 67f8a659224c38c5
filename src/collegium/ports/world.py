"""Time, and the folders that runs work in."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Time, injected: real, or ``collegium.testing.FakeClock``."""

    def now(self) -> datetime:
        """The time of day, UTC-aware."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Returns after ``seconds``; zero or less only yields."""


class Workspace(Protocol):
    """A run's own work folder: paths are relative with /; leaving it, by ``..`` or a link, is a ``ToolError``."""

    async def list(self) -> tuple[str, ...]:
        """Paths of all files, sorted."""

    async def read(self, path: str) -> bytes:
        """A file's bytes. Raises ``NotFound``."""

    async def write(self, path: str, data: bytes) -> None:
        """Creates or replaces a file, all of it or nothing; missing folders are made. Twice is the same."""


class Workspaces(Protocol):
    """Gives each run its work folder."""

    async def open(self, tenant: str, run: str) -> Workspace:
        """The folder of ``run``, made if it is not there."""

    async def remove(self, tenant: str, run: str) -> bool:
        """Whether there was a folder of ``run`` to remove, with everything in it."""
