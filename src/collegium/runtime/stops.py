"""Kill switches: a tenant, a run, an agent or a tool is stopped until somebody starts it again.

They are records, so that they survive every process. Each process reads all of them once a second, and again before it
believes an old look. What is stopped is parked and holds nothing; a tool that is stopped is refused.

A switch that is taken away stays for a while as one that is over: a process with an old look may still park something
for it, and nobody would set that going again. Whoever looks once no look can be so old any more does, and forgets it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Literal, Protocol

import msgspec

from collegium.domain.decide import resumed
from collegium.domain.decision import Decision
from collegium.domain.errors import CollegiumError, Conflict, ToolError
from collegium.domain.record import Record
from collegium.domain.run import RunState
from collegium.ports import Clock, Records

PRINCIPAL = "collegium start"
"""Who has runs go on whose switch was taken away."""
Kind = Literal["tenant", "run", "agent", "tool"]
KINDS: tuple[Kind, ...] = ("tenant", "run", "agent", "tool")
RECORD, TENANT = "stop", "~stops"
FRESH_S = 1.0
"""A look at the switches is believed for so long."""
SETTLED_S = 5.0
"""So long after a switch was taken away nothing is parked for it any more."""


class Switch(msgspec.Struct, frozen=True, kw_only=True):
    """What is stopped, why, by whom and since when."""

    kind: Kind
    name: str
    reason: str = ""
    principal: str = "local"
    at: datetime
    over_at: datetime | None = None
    """When it was taken away: it stops nothing any more."""

    def __str__(self) -> str:
        because = f" ({self.reason})" if self.reason else ""
        return f"{self.kind} {self.name} was stopped by {self.principal}{because}"


class Stopped(CollegiumError):
    """Something is stopped by a person; the task goes on when it is started again."""

    code = "stopped"

    def __init__(self, switch: Switch) -> None:
        super().__init__(f"{switch}: `collegium start {switch.kind} {switch.name}` lets it go on")
        self.switch = switch


class Working(Protocol):
    """An attempt, as far as switches go."""

    @property
    def tenant(self) -> str:
        """Whose run it is."""
        ...

    @property
    def run(self) -> str:
        """Its run."""
        ...

    @property
    def agent(self) -> str | None:
        """Who works on it, once that is known."""
        ...


class Stops:
    """The switches as they were at the last look, at most a second ago."""

    def __init__(self, records: Records, *, clock: Clock) -> None:
        self._records = records
        self._clock = clock
        self._switches: dict[tuple[str, str], Switch] = {}
        self._over: dict[tuple[str, str], Record] = {}
        self._looked_s = float("-inf")

    async def put(self, kind: Kind, name: str, *, reason: str = "", principal: str = "local") -> Switch:
        """Stops it, durably; one that is stopped keeps its first reason."""
        await self.refresh()
        known = self._switches.get((kind, name))
        if known is not None:
            return known
        switch = Switch(kind=kind, name=name, reason=reason, principal=principal, at=self._clock.now())
        value = msgspec.to_builtins(switch)
        await self._records.put(Record(kind=RECORD, tenant=TENANT, key=f"{kind}:{name}", value=value))
        self._switches[kind, name] = switch
        return switch

    async def remove(self, kind: Kind, name: str) -> bool:
        """Whether it was stopped; from now on it is not."""
        self._switches.pop((kind, name), None)
        while (record := await self._records.get(RECORD, TENANT, f"{kind}:{name}")) is not None:
            switch = msgspec.convert(record.value, Switch)
            if switch.over_at is not None:
                break
            over = msgspec.to_builtins(msgspec.structs.replace(switch, over_at=self._clock.now()))
            with suppress(Conflict):  # somebody else stopped or started it just now
                await self._records.put(msgspec.structs.replace(record, value=over), expected=record.version)
                return True
        return False

    def settled(self) -> tuple[Switch, ...]:
        """By the last look: what was taken away so long ago that nothing is parked for it any more."""
        switches = (msgspec.convert(record.value, Switch) for record in self._over.values())
        since = self._clock.now() - timedelta(seconds=SETTLED_S)
        return tuple(s for s in switches if s.over_at is not None and s.over_at <= since)

    async def forget(self, switch: Switch) -> None:
        """Removes what is over, unless it was stopped anew meanwhile."""
        record = self._over.pop((switch.kind, switch.name), None)
        if record is not None:
            with suppress(Conflict):
                await self._records.delete(RECORD, TENANT, record.key, expected=record.version)

    async def all(self) -> tuple[Switch, ...]:
        """Everything that is stopped, as stored."""
        await self.refresh()
        return tuple(self._switches[key] for key in sorted(self._switches))

    async def refresh(self) -> None:
        """Looks at the store."""
        looked_s = self._clock.monotonic()
        found: dict[tuple[str, str], Switch] = {}
        over: dict[tuple[str, str], Record] = {}
        after = ""
        while page := await self._records.find(RECORD, TENANT, after=after, limit=1_000):
            for record in page:
                switch = msgspec.convert(record.value, Switch)
                if switch.over_at is None:
                    found[switch.kind, switch.name] = switch
                else:
                    over[switch.kind, switch.name] = record
            after = page[-1].key
            if len(page) < 1_000:
                break
        self._switches, self._over, self._looked_s = found, over, looked_s

    def seen(self, working: Working) -> Switch | None:
        """What stops an attempt, by the last look."""
        if not self._switches:
            return None
        return self._first((("tenant", working.tenant), ("run", working.run), ("agent", working.agent)))

    async def over(self, working: Working) -> Switch | None:
        """What stops an attempt; looked up where the last look is old, or says that it is stopped."""
        if self._is_old or self.seen(working) is not None:
            await self.refresh()
        return self.seen(working)

    async def over_tool(self, tool: str) -> Switch | None:
        """What stops a tool, in the same way."""
        if self._is_old or ("tool", tool) in self._switches:
            await self.refresh()
        return self._switches.get(("tool", tool))

    @property
    def tools(self) -> frozenset[str]:
        """The tools that are stopped, by the last look."""
        return frozenset(name for kind, name in self._switches if kind == "tool")

    @property
    def _is_old(self) -> bool:
        return self._clock.monotonic() - self._looked_s > FRESH_S

    def _first(self, keys: Iterable[tuple[str, str | None]]) -> Switch | None:
        return next((s for kind, name in keys if name and (s := self._switches.get((kind, name)))), None)


def refused(switch: Switch) -> ToolError:
    """What an agent is told of a tool that is stopped."""
    because = f": {switch.reason}" if switch.reason else ""
    return ToolError(f"{switch.name} was not called, it is stopped{because}. Go on without it.", tool=switch.name)


def go_on(state: RunState) -> tuple[Decision, ...]:
    """The decision with which a run goes on whose tasks were stopped; nothing where none was."""
    is_stopped = any(t.status == "parked" and t.park == "stopped" for t in state.tasks.values())
    return resumed(state, PRINCIPAL) if is_stopped else ()
