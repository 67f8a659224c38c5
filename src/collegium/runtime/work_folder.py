"""A run's work folder, wherever its tasks are worked on: versions are blobs, the journal says which is the newest."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from collegium.domain.errors import NotFound
from collegium.ports import Blobs, Workspace, Workspaces
from collegium.tools.ledger import Ledger

WRITER = "write_file"
"""The tool whose results say what was written."""


class KeptWorkspace:
    """A run's work folder on this host, opened when it is first used; every written version is kept as a blob.

    A version is durable with the next barrier of the run.
    """

    def __init__(self, workspaces: Workspaces, blobs: Blobs, *, tenant: str, run: str) -> None:
        self._workspaces = workspaces
        self._blobs = blobs
        self._tenant = tenant
        self._run = run
        self._known: dict[str, str] = {}

    async def list(self) -> tuple[str, ...]:
        """Paths of all files, sorted."""
        return await (await self._folder()).list()

    async def read(self, path: str) -> bytes:
        """A file's bytes."""
        return await (await self._folder()).read(path)

    async def write(self, path: str, data: bytes) -> None:
        """Creates or replaces a file and keeps the version."""
        await (await self._folder()).write(path, data)
        self._blobs.put(self._tenant, data)
        self._known[path] = hashlib.sha256(data).hexdigest()

    async def catch_up(self, versions: Mapping[str, tuple[str, ...]]) -> None:
        """Brings in what other hosts have written.

        Args:
            versions: SHA-256 of what was written to each path, in order. A file that is none of them is newer: a
                parallel task is writing it here, and the journal does not say so yet.
        """
        for path, known in versions.items():
            if self._known.get(path) == known[-1]:
                continue
            folder = await self._folder()
            held = None
            with suppress(NotFound):
                held = hashlib.sha256(await folder.read(path)).hexdigest()
            if held is None or held in known[:-1]:
                await folder.write(path, await self._blobs.get(self._tenant, known[-1]))
            self._known[path] = known[-1]

    async def _folder(self) -> Workspace:
        return await self._workspaces.open(self._tenant, self._run)


class FollowedWorkspace:
    """The work folder as one attempt sees it: what is finished anywhere is there before it is looked at."""

    def __init__(self, kept: KeptWorkspace, ledger: Callable[[], Awaitable[Ledger]]) -> None:
        self._kept = kept
        self._ledger = ledger

    async def list(self) -> tuple[str, ...]:
        """Paths of all files, sorted."""
        await self._catch_up()
        return await self._kept.list()

    async def read(self, path: str) -> bytes:
        """A file's bytes."""
        await self._catch_up()
        return await self._kept.read(path)

    async def write(self, path: str, data: bytes) -> None:
        """Creates or replaces a file and keeps the version."""
        await self._kept.write(path, data)

    async def _catch_up(self) -> None:
        await self._kept.catch_up(versions_of(await self._ledger()))


def followed(workspace: Workspace, ledger: Callable[[], Awaitable[Ledger]]) -> Workspace:
    """``workspace`` as an attempt should see it that reads the run's calls by ``ledger``."""
    return FollowedWorkspace(workspace, ledger) if isinstance(workspace, KeptWorkspace) else workspace


def versions_of(ledger: Ledger) -> dict[str, tuple[str, ...]]:
    """SHA-256 of every version of each file of the work folder that ``ledger`` knows as written, by path, in order."""
    versions: dict[str, tuple[str, ...]] = {}
    for entry in ledger.entries.values():
        if entry.tool == WRITER and entry.state == "finished" and entry.result is not None and entry.result.is_ok:
            data = entry.result.data or {}
            if "sha256" in data:
                path = str(data["path"])
                versions[path] = (*versions.get(path, ()), str(data["sha256"]))
    return versions
