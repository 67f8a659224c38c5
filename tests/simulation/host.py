"""A host: one simulated process with its own ``Collegium`` over the shared stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from random import Random
from typing import Any, TypeVar

from collegium.adapters.extract.extractor import FileExtractor
from collegium.adapters.inputs import DiskInputs
from collegium.adapters.memory.blobs import MemoryBlobs
from collegium.adapters.memory.index import MemoryIndex
from collegium.adapters.memory.records import MemoryRecords
from collegium.adapters.memory.workspace import MemoryWorkspaces
from collegium.adapters.scorers.lexical import LexicalScorer
from collegium.agents.roster import Roster, builtin_agents
from collegium.app import Collegium, Stores
from collegium.domain.errors import CollegiumError
from collegium.domain.ids import Ids
from collegium.knowledge.library import Library
from collegium.oversight.approvals import ApprovalPolicy
from collegium.runtime.accounts import AccountCaps
from collegium.runtime.performer import Team
from collegium.runtime.room import Rooms
from collegium.testing.harness import GivenModels
from collegium.tools.builtin import builtin_tools
from collegium.tools.toolbox import Toolbox
from tests.simulation.archive import HostArchive, SharedArchive
from tests.simulation.failpoints import Failpoints
from tests.simulation.faults import Faults
from tests.simulation.journal import HostJournal, SharedJournal
from tests.simulation.loop import VirtualLoop
from tests.simulation.machine import Machine
from tests.simulation.outside import TOOLS, HostOutside, Outside, Process
from tests.simulation.program import SimulatedModel
from tests.simulation.stores import Beat, HostBlobs, HostBus, HostPresence, HostRecords, SharedBus

T = TypeVar("T")
WATCH_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What outlives every process of a world."""

    loop: VirtualLoop
    journal: SharedJournal
    bus: SharedBus
    records: MemoryRecords
    blobs: MemoryBlobs
    archive: SharedArchive
    workspaces: MemoryWorkspaces
    beats: dict[str, Beat]
    outside: Outside
    faults: Faults
    failpoints: Failpoints
    entropy: Random
    lease_s: float
    approvals: ApprovalPolicy
    caps: AccountCaps
    shows_death: bool = False
    journal_type: type[HostJournal] = HostJournal
    archive_type: type[HostArchive] = HostArchive
    presence_type: type[HostPresence] = HostPresence


class HostClock:
    """Implements ``ports.Clock``: a process that stands still wakes late, a dead one never."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def now(self) -> datetime:
        """The virtual time of day."""
        return self._machine.loop.now()

    def monotonic(self) -> float:
        """Virtual seconds."""
        return self._machine.loop.time()

    async def sleep(self, seconds: float) -> None:
        """Returns after ``seconds``."""
        await asyncio.sleep(max(0.0, seconds))
        await self._machine.awake()


class Host:
    """One process, from its start to its death."""

    def __init__(self, name: str, shared: Shared, on_death: Callable[[Host], None]) -> None:
        self.machine = Process(
            name,
            loop=shared.loop,
            faults=shared.faults,
            failpoints=shared.failpoints,
            on_death=self._died,
        )
        self.machine.outside = HostOutside(shared.outside, self.machine)
        self._on_death = on_death
        self._loop = shared.loop
        blobs = HostBlobs(shared.blobs, self.machine)
        self._journal = shared.journal_type(shared.journal, self.machine, before_commit=blobs.commit)
        self._presence = shared.presence_type(
            shared.beats, self.machine, lease_s=shared.lease_s, shows_death=shared.shows_death
        )
        clock = HostClock(self.machine)
        stores = Stores(
            journal=self._journal,
            bus=HostBus(shared.bus, self.machine),
            records=HostRecords(shared.records, self.machine),
            blobs=blobs,
            presence=self._presence,
            archive=shared.archive_type(shared.archive, self.machine),
        )
        library = Library(MemoryIndex(), None, extractor=FileExtractor(), blobs=blobs, records=stores.records)
        self.app = Collegium(
            stores,
            Team(
                roster=_roster(),
                models=GivenModels(SimulatedModel()),
                toolbox=_toolbox(),
                scorer=LexicalScorer(),
                embedder=None,
                rooms=Rooms(library, shared.workspaces, blobs),
                approvals=shared.approvals,
                caps=shared.caps,
            ),
            inputs=DiskInputs(),
            clock=clock,
            ids=Ids(lambda: int(clock.now().timestamp() * 1000), shared.entropy.randbytes),
            default_model="simulated:one",
            scope="all",
            concurrency=8,
        )
        self.machine.worker = self.app._worker.id

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.machine.is_alive

    def start(self) -> None:
        """Starts the process."""
        for work in (self._journal.write(), self._presence.beat(), self._main()):
            self._loop.spawn(self.machine, work)

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs ``work`` in the process. Raises ``CancelledError`` when it dies."""
        if not self.is_alive:
            work.close()
            raise asyncio.CancelledError
        return await self._loop.start(self.machine, work)

    async def _main(self) -> None:
        """Starts the team; a process whose worker or sweep has failed is of no more use, and ends."""
        await self.app.start()
        try:
            while True:
                self.app._duty.raise_failed()
                await asyncio.sleep(WATCH_S)
        except CollegiumError:
            self.machine.faults.counts["gave_up"] += 1
            self.machine.kill()

    def _died(self, _: Machine) -> None:
        self._journal.die()
        self._on_death(self)


@lru_cache(maxsize=1)
def _roster() -> Roster:
    return Roster(builtin_agents())


@lru_cache(maxsize=1)
def _toolbox() -> Toolbox:
    return Toolbox((*builtin_tools(), *TOOLS))
