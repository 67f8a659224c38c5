"""What a run's tasks share in one process: its documents, its work folder, the answer it goes on from."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from collegium.domain.document import InputFile, SkippedFile
from collegium.domain.run import RunState
from collegium.knowledge.library import Library
from collegium.knowledge.scope import RunKnowledge
from collegium.ports import Blobs, Workspace, Workspaces

KEPT_RUNS = 64
IndexingProgress = Callable[[str, int, int, str], None]
"""``(run, files done, files in all, path)``."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """Where the tasks of one run work."""

    knowledge: RunKnowledge
    workspace: Workspace

    @property
    def skipped(self) -> tuple[SkippedFile, ...]:
        """Input files that could not be used."""
        return self.knowledge.skipped


class KeptWorkspace:
    """A work folder whose every written version is kept as a blob, durable with the next barrier of the run."""

    def __init__(self, folder: Workspace, blobs: Blobs, *, tenant: str) -> None:
        self._folder = folder
        self._blobs = blobs
        self._tenant = tenant

    async def list(self) -> tuple[str, ...]:
        """Paths of all files, sorted."""
        return await self._folder.list()

    async def read(self, path: str) -> bytes:
        """A file's bytes."""
        return await self._folder.read(path)

    async def write(self, path: str, data: bytes) -> None:
        """Creates or replaces a file and keeps the version."""
        await self._folder.write(path, data)
        self._blobs.put(self._tenant, data)


class Rooms:
    """Opens each run's room once, however many of its tasks ask at the same time."""

    def __init__(
        self,
        library: Library,
        workspaces: Workspaces,
        blobs: Blobs,
        *,
        on_indexing: IndexingProgress | None = None,
    ) -> None:
        self._library = library
        self._workspaces = workspaces
        self._blobs = blobs
        self._on_indexing = on_indexing
        self._rooms: OrderedDict[str, asyncio.Task[Room]] = OrderedDict()

    async def open(self, state: RunState) -> Room:
        """The room of ``state``'s run; its documents are indexed when this returns."""
        task = self._rooms.get(state.id)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(self._open(state))
            self._rooms[state.id] = task
            while len(self._rooms) > KEPT_RUNS:
                self._rooms.popitem(last=False)
        # Shielded: one task of the run that is cancelled must not take the documents from the others.
        return await asyncio.shield(task)

    async def _open(self, state: RunState) -> Room:
        files: tuple[InputFile, ...] = state.goal.files

        def report(done: int, total: int, path: str) -> None:
            if self._on_indexing is not None:
                self._on_indexing(state.id, done, total, path)

        knowledge = await self._library.open(state.tenant, files, progress=report)
        folder = await self._workspaces.open(state.tenant, state.id)
        return Room(knowledge=knowledge, workspace=KeptWorkspace(folder, self._blobs, tenant=state.tenant))
