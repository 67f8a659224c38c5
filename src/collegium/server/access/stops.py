"""Kill switches as one principal may see and move them."""

from __future__ import annotations

from datetime import datetime

import msgspec

from collegium.app import Collegium
from collegium.domain.errors import NotAllowed, NotFound, UsageError
from collegium.domain.principal import HOST, Principal
from collegium.runtime.stops import Kind, Switch
from collegium.server.access.deeds import noted
from collegium.server.access.page import Page, cursor, place
from collegium.server.access.reach import Reach

_SCOPE = "stops:write"


class StopShown(msgspec.Struct, frozen=True, kw_only=True):
    """What is stopped, why, by whom and since when."""

    kind: Kind
    name: str
    reason: str
    principal: str
    at: datetime


class StopRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it was stopped, and the runs that go on now."""

    kind: Kind
    name: str
    was_stopped: bool
    runs: tuple[str, ...]


class StopAccess:
    """Switches of the principal's tenant and of its runs; those of agents and tools need ``host``."""

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._app = app
        self._principal = principal
        self._reach = Reach(app, principal)

    async def page(self, *, after: str | None = None, limit: int = 50) -> Page[StopShown]:
        """What is stopped, by kind and name."""
        self._principal.require("runs:read")
        behind = place("stops", after)
        start = (str(behind[0]), str(behind[1])) if behind and len(behind) == 2 else ("", "")
        if behind is not None and len(behind) != 2:
            raise UsageError("this is no cursor of this list", cursor=after)
        items: list[StopShown] = []
        for switch in await self._app.breaker.switches():
            if (switch.kind, switch.name) > start and await self._is_seen(switch):
                if len(items) == limit:
                    return Page(items=items, next=cursor("stops", items[-1].kind, items[-1].name))
                items.append(_shown(switch))
        return Page(items=items)

    async def put(self, kind: Kind, name: str, *, reason: str = "") -> StopShown:
        """Stops it, everywhere within two seconds; one that is stopped keeps its first reason."""
        await self._check(kind, name)
        switch = await self._app.breaker.stop(kind, name, reason=reason, principal=self._principal.id)
        await noted(self._app, self._principal, "stops.put", f"{kind}:{name}", rule=_SCOPE, reason=reason)
        return _shown(switch)

    async def remove(self, kind: Kind, name: str) -> StopRemoved:
        """Lets it go on."""
        await self._check(kind, name)
        was_stopped, runs = await self._app.breaker.start(kind, name)
        await noted(self._app, self._principal, "stops.removed", f"{kind}:{name}", rule=_SCOPE)
        mine = runs if kind in ("tenant", "run") else ()
        return StopRemoved(kind=kind, name=name, was_stopped=was_stopped, runs=tuple(mine))

    async def _check(self, kind: Kind, name: str) -> None:
        """Raises ``NotAllowed`` and ``NotFound`` for what is not the principal's to stop."""
        self._principal.require(_SCOPE)
        if kind == "run":
            await self._reach.run(name)
            await self._app.state(name, tenant=self._principal.tenant)
        elif kind == "tenant":
            self._reach.all()
            if name != self._principal.tenant and not self._principal.may(HOST):
                raise NotAllowed(f"{self._principal.id} may stop its own tenant alone", scope=HOST)
        else:
            self._principal.require(HOST)
            self._reach.all()
            known = self._app.pins.present
            if f"{kind}:{name}" not in known:
                raise NotFound(f"there is no {kind} {name[:100]!r}", name=name[:100])

    async def _is_seen(self, switch: Switch) -> bool:
        if switch.kind == "tenant":
            return switch.name == self._principal.tenant or self._principal.may(HOST)
        if switch.kind == "run":
            head = await self._app.stores.journal.head(switch.name)
            is_ours = head is not None and head.tenant == self._principal.tenant
            return is_ours and await self._reach.has_run(switch.name)
        return True


def _shown(switch: Switch) -> StopShown:
    return StopShown(kind=switch.kind, name=switch.name, reason=switch.reason, principal=switch.principal, at=switch.at)
