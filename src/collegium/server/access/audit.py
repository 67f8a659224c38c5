"""The administrative log and the chains, as one principal may read them."""

from __future__ import annotations

from datetime import datetime

import msgspec

from collegium.app import Collegium
from collegium.domain.deed import INSTALLATION, Deed, log_tenant
from collegium.domain.errors import UsageError
from collegium.domain.principal import HOST, Principal
from collegium.runtime.admin_log import Wanted
from collegium.runtime.audit import Damage, verify_stores
from collegium.server.access.deeds import log_of
from collegium.server.access.page import Page, cursor, place
from collegium.server.access.reach import Reach


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of holding a tenant's runs and administrative log against their chains and checkpoints.

    Attributes:
        ok: Nothing was changed.
        runs: Journals of runs that were looked at.
        logs: Months of the administrative log that were looked at.
        checkpoints: Number of the newest checkpoint of the runs; 0 where nothing was signed yet.
        newest_at: When that was.
        open: Journals that went on since the newest checkpoint.
        damaged: What is not as it was written; each names the first bad event.
    """

    ok: bool
    runs: int
    logs: int
    checkpoints: int
    newest_at: datetime | None
    open: int
    damaged: tuple[Damage, ...]


class AuditAccess:
    """The log of the principal's tenant; with ``host`` also that of the installation."""

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._app = app
        self._principal = principal
        self._reach = Reach(app, principal)

    async def page(
        self,
        wanted: Wanted | None = None,
        *,
        after: str | None = None,
        limit: int = 50,
        is_installation: bool = False,
    ) -> Page[Deed]:
        """Lines, the newest first; a page may be short and still have a next one. Raises ``UsageError``."""
        tenant = self._tenant(is_installation)
        before: tuple[str, int] | None = None
        match place("audit", after):
            case None:
                pass
            case [str(log), int(seq)]:
                before = log, seq
            case _:
                raise UsageError("this is no cursor of the log: take `next` of the page before, or leave it out")
        page = await log_of(self._app).page(tenant, wanted, before=before, limit=limit)
        return Page(items=page.deeds, next=None if page.next is None else cursor("audit", *page.next))

    async def verify(self, *, is_installation: bool = False) -> AuditReport:
        """Holds every journal of the tenant against its chain and the checkpoints; reads all of them."""
        tenant = self._tenant(is_installation)
        runs = await verify_stores(self._app.stores, tenant)
        logs = await verify_stores(self._app.stores, log_tenant(tenant))
        newest = [found.newest for found in runs.values() if found.newest is not None]
        damaged = tuple(bad for found in (*logs.values(), *runs.values()) for bad in found.damaged)
        return AuditReport(
            ok=not damaged,
            runs=sum(found.runs for found in runs.values()),
            logs=sum(found.runs for found in logs.values()),
            checkpoints=max((one.number for one in newest), default=0),
            newest_at=max((one.at for one in newest), default=None),
            open=sum(found.open_runs for found in (*runs.values(), *logs.values())),
            damaged=damaged,
        )

    def _tenant(self, is_installation: bool) -> str:
        self._principal.require("audit:read")
        self._reach.all()
        if not is_installation:
            return self._principal.tenant
        self._principal.require(HOST)
        return INSTALLATION
