"""Documents of runs as one principal may search them."""

from __future__ import annotations

from collegium.app import Collegium
from collegium.domain.document import Passage
from collegium.domain.principal import Principal
from collegium.server.access.reach import Reach


class DocumentAccess:
    """What the runs of the principal's tenant were given to read; those of others are not there (``NotFound``)."""

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._app = app
        self._principal = principal
        self._reach = Reach(app, principal)

    async def search(self, run: str, query: str, *, limit: int = 8) -> tuple[Passage, ...]:
        """The best passages for ``query`` in what ``run`` was given, best first."""
        self._principal.require("runs:read")
        self._principal.require("knowledge:read")
        await self._reach.run(run)
        knowledge = await self._app.knowledge(run, tenant=self._principal.tenant)
        return await knowledge.search(query, limit=limit)
