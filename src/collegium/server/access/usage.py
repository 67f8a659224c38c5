"""What was used, as one principal may see it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from collegium.app import Collegium
from collegium.domain.errors import NotFound, StoreCorrupt
from collegium.domain.head import HeadQuery
from collegium.domain.principal import Principal
from collegium.domain.usage import Allotment, Usage
from collegium.runtime.accounts import Account, Book, Period, Scope
from collegium.server.access.page import MOST, cursor, place
from collegium.server.access.reach import Reach

_PAGE = 1_000


class AccountShown(msgspec.Struct, frozen=True, kw_only=True):
    """An account in the period that goes on: what was settled, and what open runs have set aside.

    Accounts are kept where something is capped; elsewhere they are empty, and the sums of runs tell.
    """

    scope: Scope
    name: str
    period: Period
    starts_at: datetime
    ends_at: datetime
    used: Usage
    held: Allotment


class UsageShown(msgspec.Struct, frozen=True, kw_only=True):
    """The accounts of a tenant, and of a user and an agent where they were asked for."""

    accounts: tuple[AccountShown, ...]


class RunUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What one run has used so far."""

    run_id: str
    principal: str
    submitted_at: datetime
    usage: Usage


class RunUsages(msgspec.Struct, frozen=True, kw_only=True):
    """A page of runs, what each used, and the sum of this page."""

    items: tuple[RunUsage, ...]
    sum: Usage
    next: str | None


class UsageAccess:
    """Usage of the principal's tenant."""

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._app = app
        self._principal = principal
        self._reach = Reach(app, principal)

    async def accounts(self, *, user: str | None = None, agent: str | None = None) -> UsageShown:
        """Accounts of today and of this month (UTC)."""
        self._principal.require("usage:read")
        self._reach.all()
        tenant = self._principal.tenant
        wanted: list[tuple[Scope, str]] = [("tenant", tenant)]
        wanted += [("user", user)] if user else []
        wanted += [("agent", agent)] if agent else []
        today = self._app.now().replace(hour=0, minute=0, second=0, microsecond=0)
        starts: tuple[tuple[Period, datetime], ...] = (("day", today), ("month", today.replace(day=1)))
        found = [
            Account(scope=scope, tenant=tenant, name=name, period=period, caps=Allotment(), starts_at=start)
            for scope, name in wanted
            for period, start in starts
        ]
        return UsageShown(accounts=tuple([await self._shown(one) for one in found]))

    async def runs(self, *, after: str | None = None, limit: int = 50) -> RunUsages:
        """What runs used, the newest first; of those that were pruned or cannot be read nobody knows it any more."""
        self._principal.require("usage:read")
        self._principal.require("runs:read")
        behind = place("usage", after)
        query = HeadQuery(
            tenant=self._principal.tenant,
            projects=self._reach.projects,
            after=str(behind[0]) if behind else None,
            limit=min(limit, MOST) + 1,
        )
        heads = await self._app.runs(query)
        items: list[RunUsage] = []
        for head in heads[:limit]:
            try:
                state = await self._app.state(head.run, tenant=self._principal.tenant)
            except (NotFound, StoreCorrupt):
                continue
            items.append(
                RunUsage(
                    run_id=head.run, principal=state.goal.principal, submitted_at=state.submitted_at, usage=state.usage
                )
            )
        following = cursor("usage", heads[limit - 1].run) if len(heads) > limit else None
        return RunUsages(items=tuple(items), sum=sum((i.usage for i in items), Usage()), next=following)

    async def _shown(self, account: Account) -> AccountShown:
        book = await self._book(account.id)
        return AccountShown(
            scope=account.scope,
            name=account.name,
            period=account.period,
            starts_at=account.starts_at,
            ends_at=account.ends_at,
            used=book.settled,
            held=book.held(),
        )

    async def _book(self, account: str) -> Book:
        book = Book()
        while events := await self._app.stores.journal.read(account, book.seq, _PAGE):
            for event in events:
                book.apply(event)
        return book
