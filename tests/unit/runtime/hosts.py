"""Processes that add and fire schedules over shared stores, without a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.presence import MemoryPresence
from collegium.adapters.sqlite.store import open_store
from collegium.app import Collegium, Stores
from collegium.domain.head import HeadQuery
from collegium.domain.ids import Ids
from collegium.domain.schedule import Schedule
from collegium.ports import Records
from collegium.runtime.acceptance import Acceptance
from collegium.runtime.firing import Accept, Firer
from collegium.testing.clock import FakeClock
from collegium.testing.harness import GivenModels, memory_stores, own_bus, team
from collegium.testing.scripted import ScriptedModel, Step

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 1, 11, 59, 30, tzinfo=UTC)
Opened = AsyncIterator[tuple[Collegium, Firer, FakeClock]]


class Host:
    """A process without a worker: it adds schedules and fires them, and its runs stay as they are."""

    def __init__(self, app: Collegium, clock: FakeClock, records: Records, accept: Accept | None = None) -> None:
        self.app = app
        self.schedules = app.schedules
        self.clock = clock
        acceptance = Acceptance(
            records, ids=Ids(lambda: 1), pins=app.pins, scheduler=app.scheduler, models=GivenModels(MODEL)
        )
        self.acceptance = acceptance
        self.firer = Firer(app.schedules, accept or acceptance.accept, journal=app.stores.journal, clock=clock)

    async def at(self, seconds: float) -> None:
        """Lets time pass, then looks at what is due."""
        await self.clock.advance(seconds)
        await self.firer.sweep()

    async def runs(self) -> list[str]:
        """All runs, oldest first."""
        return [h.run for h in reversed(await self.app.runs(HeadQuery(limit=1_000)))]

    async def outcomes(self, schedule: Schedule) -> list[str]:
        """What became of the last due times."""
        return [f.outcome for f in (await self.schedules.get(schedule.id)).firings]


MODEL = ScriptedModel([Step(reply="Done.")])


@asynccontextmanager
async def host(stores: Stores, clock: FakeClock, accept: Accept | None = None) -> AsyncIterator[Host]:
    async with team(MODEL, stores=own_bus(stores), clock=clock, scope="none") as app:
        yield Host(app, clock, stores.records, accept)


@asynccontextmanager
async def stores_of(kind: str, clock: FakeClock, folder: Path, url: Callable[[], str]) -> AsyncIterator[Stores]:
    """Fresh stores: ``memory``, ``sqlite`` or ``postgres``."""
    if kind == "memory":
        yield memory_stores(clock)
        return
    opened: Any
    if kind == "sqlite":
        opened = open_store(folder / "store.db", clock=clock)
    else:
        from collegium.adapters.postgres.store import open_store as open_postgres

        opened = await open_postgres(url(), clock=clock)
    yield Stores(
        journal=opened.journal,
        bus=MemoryBus(clock),
        records=opened.records,
        blobs=opened.blobs,
        presence=MemoryPresence(),
        archive=opened.archive,
    )
    await opened.aclose()


async def end(h: Host, run: str) -> None:
    """Ends a run that nobody works on."""
    await h.app.cancel(run)
    assert (await h.app.state(run)).finished is not None
