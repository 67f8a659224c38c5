"""Collections as one principal may search them: as yet, what each run was given is one."""

from __future__ import annotations

import msgspec

from collegium.app import Collegium
from collegium.domain.document import Passage
from collegium.domain.principal import Principal
from collegium.server.access.page import Page, cursor, place
from collegium.server.access.reach import Reach


class CollectionDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A document of a collection; ``sha256`` names its very version."""

    path: str
    sha256: str
    size_bytes: int


class PassagesFound(msgspec.Struct, frozen=True, kw_only=True):
    """Passages, the best first."""

    items: tuple[Passage, ...]


class CollectionAccess:
    """The collections of the principal's tenant; those of others are not there (``NotFound``)."""

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._app = app
        self._principal = principal
        self._reach = Reach(app, principal)

    async def documents(self, run: str, *, after: str | None = None, limit: int = 50) -> Page[CollectionDocument]:
        """Documents by path."""
        self._principal.require("knowledge:read")
        self._principal.require("runs:read")
        await self._reach.run(run)
        behind = place("documents", after)
        state = await self._app.state(run, tenant=self._principal.tenant)
        left = sorted(
            ((f.path, f) for f in state.goal.files if not behind or f.path > str(behind[0])), key=lambda one: one[0]
        )
        items = [CollectionDocument(path=p, sha256=f.sha256, size_bytes=f.size_bytes) for p, f in left[:limit]]
        return Page(items=items, next=cursor("documents", items[-1].path) if len(left) > limit else None)

    async def search(self, run: str, query: str, *, limit: int = 8) -> PassagesFound:
        """The best passages for ``query``."""
        self._principal.require("knowledge:read")
        self._principal.require("runs:read")
        await self._reach.run(run)
        knowledge = await self._app.knowledge(run, tenant=self._principal.tenant)
        return PassagesFound(items=await knowledge.search(query, limit=limit))
