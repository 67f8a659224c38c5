"""What the installation has, as one principal may see and change it: workers, agents, tools, settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from collegium.app import Collegium
from collegium.domain.agent import Agent
from collegium.domain.errors import NotFound
from collegium.domain.principal import HOST, Principal
from collegium.domain.tool import ToolDefinition
from collegium.domain.worker import AgentCard, AgentCondition, WorkerCard
from collegium.runtime.lifecycle import Change, Standing
from collegium.runtime.outlook import fleet_cards
from collegium.server.access.deeds import noted
from collegium.server.access.page import Page, cursor, place


class SettingShown(msgspec.Struct, frozen=True, kw_only=True):
    """A setting, its value with secrets masked, and where it comes from."""

    key: str
    value: Any
    source: str


SettingsOf = Callable[[], Sequence[SettingShown]]


class AgentShown(msgspec.Struct, frozen=True, kw_only=True):
    """An agent: what is declared of it, how it stands, how it does over all workers."""

    name: str
    condition: AgentCondition
    is_failing: bool
    until: datetime | None
    changes: tuple[Change, ...]
    health: AgentCard | None
    declared: Agent | None


class WorkerOrdered(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that was told to end."""

    worker: str


class InstallationAccess:
    """What all tenants share: everybody who may look sees it, only ``host`` changes it."""

    def __init__(self, app: Collegium, principal: Principal, settings_of: SettingsOf | None = None) -> None:
        self._app = app
        self._principal = principal
        self._settings_of = settings_of

    async def workers(self, *, after: str | None = None, limit: int = 50) -> Page[WorkerCard]:
        """Workers by id; on which host and in which process they run is shown to ``host`` alone."""
        self._principal.require("agents:read")
        behind = place("workers", after)
        found = sorted(await self._app.fleet.workers(), key=lambda c: c.worker)
        left = [c for c in found if not behind or c.worker > str(behind[0])]
        items = left[:limit]
        items = [shown_worker(c, self._principal) for c in items]
        return Page(items=items, next=cursor("workers", items[-1].worker) if len(left) > limit else None)

    async def drain_worker(self, worker: str) -> WorkerOrdered:
        """Tells a worker to end what it does and to exit. Raises ``NotFound``."""
        self._principal.require(HOST)
        if worker not in {c.worker for c in await self._app.fleet.workers()}:
            raise NotFound(f"there is no worker {worker[:100]!r}", worker=worker[:100])
        await self._app.fleet.drain(worker, by=self._principal.id)
        await noted(self._app, self._principal, "workers.drained", worker, rule=HOST)
        return WorkerOrdered(worker=worker)

    async def agents(self, *, after: str | None = None, limit: int = 50) -> Page[AgentShown]:
        """Agents by name, those too that are kept for the runs that began with them."""
        self._principal.require("agents:read")
        behind = place("agents", after)
        found = [a for a in await self._all() if not behind or a.name > str(behind[0])]
        items = found[:limit]
        return Page(items=items, next=cursor("agents", items[-1].name) if len(found) > limit else None)

    async def agent(self, name: str) -> AgentShown:
        """The agent. Raises ``NotFound``."""
        self._principal.require("agents:read")
        for one in await self._all():
            if one.name == name:
                return one
        raise NotFound(f"there is no agent {name[:100]!r}", name=name[:100])

    async def drain_agent(self, name: str, *, reason: str = "") -> AgentShown:
        """It takes no new tasks anywhere, within a second; what it has it ends."""
        self._principal.require(HOST)
        await self.agent(name)
        await self._app.placement.lifecycle.drain(name, reason=reason, principal=self._principal.id)
        await noted(self._app, self._principal, "agents.drained", name, rule=HOST, reason=reason)
        return await self.agent(name)

    async def resume_agent(self, name: str) -> AgentShown:
        """It takes tasks again, whatever kept it from that."""
        self._principal.require(HOST)
        await self.agent(name)
        await self._app.placement.lifecycle.resume(name, principal=self._principal.id)
        await noted(self._app, self._principal, "agents.resumed", name, rule=HOST)
        return await self.agent(name)

    def tools(self, *, text: str = "", after: str | None = None, limit: int = 50) -> Page[ToolDefinition]:
        """Tools by name; with ``text``, those whose name or description has each of its words."""
        self._principal.require("tools:read")
        behind = place("tools", after)
        words = text.lower().split()
        found = [
            d
            for d in sorted(self._app.pins.tools, key=lambda d: d.name)
            if (not behind or d.name > str(behind[0])) and all(w in f"{d.name} {d.description}".lower() for w in words)
        ]
        items = found[:limit]
        return Page(items=items, next=cursor("tools", items[-1].name) if len(found) > limit else None)

    def tool(self, name: str) -> ToolDefinition:
        """The tool. Raises ``NotFound``."""
        self._principal.require("tools:read")
        for one in self._app.pins.tools:
            if one.name == name:
                return one
        raise NotFound(f"there is no tool {name[:100]!r}", name=name[:100])

    def settings(self, *, after: str | None = None, limit: int = 50) -> Page[SettingShown]:
        """Settings by name, with their sources; secrets are masked. Raises ``NotFound`` where none are shown."""
        self._principal.require(HOST)
        behind = place("settings", after)
        if self._settings_of is None:
            raise NotFound("this server shows no settings")
        every = sorted(self._settings_of(), key=lambda s: s.key)
        found = [s for s in every if not behind or s.key > str(behind[0])]
        items = found[:limit]
        return Page(items=items, next=cursor("settings", items[-1].key) if len(found) > limit else None)

    async def _all(self) -> list[AgentShown]:
        standings = {s.agent: s for s in await self._app.placement.lifecycle.all()}
        cards = fleet_cards(await self._app.fleet.workers())
        declared = {a.name: a for a in self._app.roster}
        names = sorted(declared.keys() | standings.keys() | cards.keys())
        return [_agent(name, declared.get(name), standings.get(name), cards.get(name)) for name in names]


def shown_worker(card: WorkerCard, principal: Principal) -> WorkerCard:
    """``card`` as ``principal`` may see it: where a worker runs is told to ``host`` alone, whatever face asks.

    Who looks on live is sent whole cards, the same for all, and needs ``host`` for that (``LiveAccess``).
    """
    return card if principal.may(HOST) else msgspec.structs.replace(card, host="", pid=0)


def _agent(name: str, agent: Agent | None, standing: Standing | None, card: AgentCard | None) -> AgentShown:
    said: AgentCondition = "active" if standing is None else standing.condition
    is_known = agent is not None or (card is not None and card.condition != "retired")
    return AgentShown(
        name=name,
        condition=said if is_known else "retired",
        is_failing=standing is not None and standing.is_marked,
        until=None if standing is None else standing.until,
        changes=() if standing is None else standing.changes,
        health=card,
        declared=agent,
    )
