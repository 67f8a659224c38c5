"""A whole team in memory, for tests of agents and tools: no file, no key, no network."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from collegium.adapters.clock import SystemClock
from collegium.adapters.extract.extractor import FileExtractor
from collegium.adapters.inputs import DiskInputs
from collegium.adapters.memory.archive import MemoryArchive
from collegium.adapters.memory.blobs import MemoryBlobs
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.memory.index import MemoryIndex
from collegium.adapters.memory.journal import MemoryJournal
from collegium.adapters.memory.records import MemoryRecords
from collegium.adapters.memory.workspace import MemoryWorkspaces
from collegium.adapters.presence import MemoryPresence
from collegium.adapters.scorers.lexical import LexicalScorer
from collegium.agents.roster import Roster, builtin_agents
from collegium.app import Collegium, Scope, Stores
from collegium.domain.agent import Agent
from collegium.domain.errors import UnknownName
from collegium.domain.ids import Ids
from collegium.domain.redaction import Redactor
from collegium.domain.usage import Limits
from collegium.knowledge.library import Library
from collegium.oversight.approvals import ApprovalPolicy
from collegium.ports import Clock, Model
from collegium.runtime.accounts import AccountCaps
from collegium.runtime.performer import Team
from collegium.runtime.room import Rooms
from collegium.runtime.shares import Caps
from collegium.tools.builtin import builtin_tools
from collegium.tools.definition import Tool
from collegium.tools.toolbox import Toolbox


class GivenModels:
    """``ports.Models`` over models that are at hand; a single one answers to every name."""

    def __init__(self, models: Model | Mapping[str, Model]) -> None:
        self._models = models

    async def open(self, name: str) -> Model:
        """The model of that name."""
        if not isinstance(self._models, Mapping):
            return self._models
        if name not in self._models:
            raise UnknownName(f"there is no model {name!r}; there is {', '.join(sorted(self._models))}", name=name)
        return self._models[name]

    async def aclose(self) -> None:
        """Leaves the models as they are: whoever made them closes them."""


def memory_stores(clock: Clock) -> Stores:
    """Fresh stores without files; two Collegiums over the same ones share everything but their workers."""
    journal, records, blobs = MemoryJournal(), MemoryRecords(), MemoryBlobs(clock)
    return Stores(
        journal=journal,
        bus=MemoryBus(clock),
        records=records,
        blobs=blobs,
        presence=MemoryPresence(),
        archive=MemoryArchive(journal, records, blobs),
    )


def own_bus(stores: Stores) -> Stores:
    """The same stores with a bus of their own: what another process does is seen, but nobody is told of it."""
    return replace(stores, bus=MemoryBus(SystemClock()))


@asynccontextmanager
async def team(
    models: Model | Mapping[str, Model],
    *,
    tools: Sequence[Tool] = (),
    agents: Sequence[Agent] = (),
    stores: Stores | None = None,
    clock: Clock | None = None,
    scope: Scope = "own",
    concurrency: int = 64,
    other_model: str | None = None,
    approvals: ApprovalPolicy | None = None,
    limits: Limits | None = None,
    caps: AccountCaps | None = None,
    shares: Caps | None = None,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    redactor: Redactor | None = None,
) -> AsyncIterator[Collegium]:
    """A Collegium over memory with the given models.

    Example::

        model = ScriptedModel([Step(reply="Paris.")], profile=...)
        async with team(model) as c:
            result = await (await c.submit("What is the capital of France?")).result()
    """
    clock = clock or SystemClock()
    stores = stores or memory_stores(clock)
    library = Library(MemoryIndex(), None, extractor=FileExtractor(), blobs=stores.blobs, records=stores.records)
    app = Collegium(
        stores,
        Team(
            roster=Roster((*builtin_agents(), *agents)),
            models=GivenModels(models),
            toolbox=Toolbox((*builtin_tools(), *tools), redactor=redactor),
            scorer=LexicalScorer(),
            embedder=None,
            rooms=Rooms(library, MemoryWorkspaces(), stores.blobs),
            other_model=other_model,
            approvals=approvals or ApprovalPolicy(),
            limits=limits or Limits(),
            caps=caps or AccountCaps(),
            shares=shares or Caps(),
        ),
        inputs=DiskInputs(),
        clock=clock,
        ids=Ids(now_ms, place=stores.place),
        default_model="scripted:given",
        scope=scope,
        concurrency=concurrency,
    )
    await app.start()
    try:
        yield app
    finally:
        await app.aclose()
