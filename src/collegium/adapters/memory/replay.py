"""Runs an exported run again: a whole team over memory that has no model, no tool, no network and no file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from collegium.adapters.clock import SystemClock
from collegium.adapters.extract.extractor import FileExtractor
from collegium.adapters.inputs import DiskInputs
from collegium.adapters.memory.archive import MemoryArchive
from collegium.adapters.memory.blobs import MemoryBlobs
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.memory.journal import MemoryJournal
from collegium.adapters.memory.records import MemoryRecords
from collegium.adapters.memory.workspace import MemoryWorkspaces
from collegium.adapters.presence import MemoryPresence
from collegium.agents.roster import Roster, digest
from collegium.app import Collegium, Stores
from collegium.domain import body as b
from collegium.domain.agent import Agent
from collegium.domain.body import RunCancelRequested
from collegium.domain.errors import UsageError
from collegium.domain.event import Event
from collegium.domain.head import FINISHED
from collegium.domain.ids import Ids
from collegium.domain.record import Record
from collegium.domain.tool import ToolDefinition
from collegium.knowledge.library import Library
from collegium.ports import Embedder, Index, Scorer
from collegium.runtime import history
from collegium.runtime.export import Export
from collegium.runtime.performer import Team
from collegium.runtime.pins import AGENT, tools_of
from collegium.runtime.recorded_asks import RecordedAskPolicy
from collegium.runtime.recording import Recording
from collegium.runtime.replay import Driver, Replayed
from collegium.runtime.rivals import Rivals
from collegium.runtime.room import Rooms
from collegium.runtime.stand_ins import (
    Progress,
    ReplayBus,
    ReplayClock,
    ReplayGate,
    ReplayModels,
    ReplayToolbox,
    recorded_policy,
)
from collegium.tools.definition import Tool


async def replay(
    export: Export,
    *,
    agents: Sequence[Agent],
    tools: Sequence[Tool],
    scorer: Scorer,
    index: Index,
    embedder: Embedder | None,
    is_pinned: bool = False,
) -> Replayed:
    """What came of running the exported run again.

    Args:
        export: The run with all it needs.
        agents: Those there are now.
        tools: Those there are now; they check arguments, none of them is called.
        scorer: Holds sentences against evidence.
        index: Where the run's documents are searched. How rare a word is counts among all that is in it, so what is
            found depends on what else was there when the run was made.
        embedder: Gives vectors for the search in the run's documents.
        is_pinned: Take agents and tools as they were when the run began, not as they are now.

    Raises:
        UsageError: the run goes on, or was made by a version that kept too little.
    """
    own = await _events(export)
    shared = [e async for page in history.prefix(export, own[0]) for e in page]
    if export.heads[-1].status not in FINISHED and any(isinstance(e.body, b.TaskStarted) for e in _open(own)):
        raise UsageError(f"run {export.run} goes on: replay it when it has ended or waits", run=export.run)
    recording = Recording(own, shared=shared)
    pins = _pins(own)
    journal, records, blobs, clock = MemoryJournal(), MemoryRecords(), MemoryBlobs(), ReplayClock(SystemClock())
    for head in export.heads[:-1]:
        journal.adopt(export.links(head.run), head)
    for data in export.blobs.values():
        blobs.put(export.tenant, data)
    team_agents = await _agents(export, agents, pins, records, is_pinned=is_pinned)
    progress, rivals = Progress(recording), Rivals(own, journal, clock=clock)
    toolbox = ReplayToolbox(
        recording,
        rivals,
        _definitions(export, tools, pins, is_pinned=is_pinned),
        {t.definition.name: t for t in tools},
    )
    library = Library(index, embedder, extractor=FileExtractor(), blobs=blobs, records=records)
    app = Collegium(
        Stores(
            journal=journal,
            bus=ReplayBus(MemoryBus(clock), progress),
            records=records,
            blobs=blobs,
            presence=MemoryPresence(),
            archive=MemoryArchive(journal, records, blobs),
        ),
        Team(
            roster=Roster(team_agents),
            models=ReplayModels(recording, export.things.models),
            toolbox=toolbox,
            scorer=scorer,
            embedder=embedder,
            rooms=Rooms(library, MemoryWorkspaces(), blobs),
            other_model=_other_model(own, shared, team_agents),
            approvals=recorded_policy(recording),
            asks=RecordedAskPolicy(refused=recording.asks.refused),
        ),
        inputs=DiskInputs(),
        clock=clock,
        ids=Ids(lambda: time.time_ns() // 1_000_000),
        default_model="",
        gate=ReplayGate(progress, rivals),
    )

    async def cancel(wish: RunCancelRequested) -> None:
        await app.cancel(export.run, reason=wish.reason, principal=wish.principal, tenant=export.tenant)

    await app.start()
    try:
        driver = Driver(progress, scheduler=app.scheduler, journal=journal, clock=clock, cancel=cancel)
        return await driver.drive()
    finally:
        await app.aclose()


async def _events(export: Export) -> list[Event]:
    events: list[Event] = []
    while page := await export.read(export.run, events[-1].seq if events else 0):
        events += page
    return events


def _open(events: Sequence[Event]) -> list[Event]:
    """The starts of attempts that are not closed."""
    started: dict[str | None, Event] = {}
    for event in events:
        if isinstance(event.body, b.TaskStarted):
            started[event.task] = event
        elif isinstance(event.body, b.TaskParked | b.TaskSettled | b.TaskLapsed | b.TaskQuarantined):
            started.pop(event.task, None)
    return list(started.values())


def _pins(own: Sequence[Event]) -> Mapping[str, str]:
    first = own[0].body
    return first.pins if isinstance(first, b.RunSubmitted | b.RunForked) else {}


async def _agents(
    export: Export, present: Sequence[Agent], pins: Mapping[str, str], records: MemoryRecords, *, is_pinned: bool
) -> list[Agent]:
    """The agents of the replay; each is found under the digest that the run has for it, whatever it is made of now."""
    known = {a.name: a for a in present}
    kept = export.things.agents
    chosen = {**known, **kept} if is_pinned else {**kept, **known}
    for what, pinned in pins.items():
        name = what.removeprefix("agent:")
        if what.startswith("agent:") and name in chosen and digest(chosen[name]) != pinned:
            value = msgspec.to_builtins(chosen[name])
            await records.put(Record(kind=AGENT, tenant=export.tenant, key=pinned, value=value))
    return list(chosen.values())


def _definitions(
    export: Export, present: Sequence[Tool], pins: Mapping[str, str], *, is_pinned: bool
) -> list[ToolDefinition]:
    """What the replay's tools are known by; each has the version that the run began with."""
    known = {t.definition.name: t.definition for t in present}
    kept = export.things.tools
    chosen = {**known, **kept} if is_pinned else {**kept, **known}
    versions = tools_of(pins)
    if not versions:
        return list(chosen.values())
    return [msgspec.structs.replace(chosen[n], version=v) for n, v in versions.items() if n in chosen]


def _other_model(own: Sequence[Event], shared: Sequence[Event], agents: Sequence[Agent]) -> str | None:
    """The model that was asked where the usual one had failed, if one was."""
    usual = {a.model for a in agents}
    for event in (*shared, *own):
        if isinstance(event.body, b.RunSubmitted):
            usual.add(event.body.goal.model)
        elif isinstance(event.body, b.RunForked):
            usual.add(event.body.model)
    asked = [e.body.model for e in own if isinstance(e.body, b.TaskStarted)]
    return next((m for m in asked if m not in usual), None)
