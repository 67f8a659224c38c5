"""What a run's tasks share in one process: its documents, its work folder, the answer it goes on from."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from collegium.domain.document import InputFile, Passage, SkippedFile
from collegium.domain.errors import NotFound
from collegium.domain.run import RunState
from collegium.knowledge.library import Library
from collegium.ports import Blobs, Retriever, Workspace, Workspaces
from collegium.runtime.work_folder import KeptWorkspace

KEPT_RUNS = 64
IndexingProgress = Callable[[str, int, int, str], None]
"""``(run, files done, files in all, path)``."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """Where the tasks of one run work."""

    knowledge: Retriever
    workspace: Workspace
    skipped: tuple[SkippedFile, ...] = ()
    """Input files that could not be used."""


class NoKnowledge:
    """No documents at all, for work that needs none."""

    documents: tuple[str, ...] = ()

    async def search(self, query: str, *, limit: int = 8) -> tuple[Passage, ...]:
        """Nothing."""
        return ()

    async def text(self, document: str) -> str:
        """Raises ``NotFound``."""
        raise NotFound(f"there is no document {document!r}: this task has none", document=document)


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
        if not state.goal.files:
            return self.bare(state)
        task = self._rooms.get(state.id)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(self._open(state))
            self._rooms[state.id] = task
            while len(self._rooms) > KEPT_RUNS:
                self._rooms.popitem(last=False)
        # Shielded: one task of the run that is cancelled must not take the documents from the others.
        return await asyncio.shield(task)

    def bare(self, state: RunState) -> Room:
        """The run's room without its documents."""
        return Room(knowledge=NoKnowledge(), workspace=self._workspace(state))

    def prepare(self, state: RunState) -> None:
        """Begins to read the run's documents, so that they are ready when the first task asks for them."""
        if state.goal.files and state.id not in self._rooms:
            self._rooms[state.id] = asyncio.create_task(self._open(state))

    async def _open(self, state: RunState) -> Room:
        files: tuple[InputFile, ...] = state.goal.files

        def report(done: int, total: int, path: str) -> None:
            if self._on_indexing is not None:
                self._on_indexing(state.id, done, total, path)

        knowledge = await self._library.open(state.tenant, files, progress=report)
        return Room(knowledge=knowledge, workspace=self._workspace(state), skipped=knowledge.skipped)

    def _workspace(self, state: RunState) -> KeptWorkspace:
        return KeptWorkspace(self._workspaces, self._blobs, tenant=state.tenant, run=state.id)
