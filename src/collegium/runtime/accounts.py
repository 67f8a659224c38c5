"""Accounts: what a tenant, a user or an agent may take in a day or a month, as journals of their own.

A draw sets an amount aside under an id of its own: the same id again gives the same amount, so that whoever repeats it
after a crash takes nothing twice. Caps are the present settings and never stored. Draws and settlements of one account
that come at the same time are appended together (``docs/explanation/journal.md``, section 6).
"""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import quote

import msgspec

from collegium.domain import body as b
from collegium.domain.deed import is_log
from collegium.domain.errors import Conflict, StoreCorrupt
from collegium.domain.event import Draft, Event
from collegium.domain.head import HeadChange, HeadQuery
from collegium.domain.ids import Ids
from collegium.domain.usage import Allotment, Usage
from collegium.ports import Clock, Journal
from collegium.runtime.heads import heads_of

TENANT = "~accounts"
"""The tenant of all accounts' journals: no listing of anybody's runs shows them."""
PREFIX = "acct_"
ORPHAN_S = 60.0
"""A draw that is open for so long is looked at: its run may have ended without a word."""
_KEPT = 2_048
_PAGE = 1_000
Scope = Literal["tenant", "user", "agent"]
Period = Literal["day", "month"]


class PeriodCaps(msgspec.Struct, frozen=True, kw_only=True):
    """What one tenant, user or agent may take in a day and in a month (UTC); None in a field is no cap."""

    day: Allotment = Allotment()
    month: Allotment = Allotment()


class AccountCaps(msgspec.Struct, frozen=True, kw_only=True):
    """The caps in force. Each holds for every tenant, every user of a tenant, every agent of a tenant by itself.

    Attributes:
        slice_share: A run without a cap of its own draws this share of what is left.
    """

    tenant: PeriodCaps = PeriodCaps()
    user: PeriodCaps = PeriodCaps()
    agent: PeriodCaps = PeriodCaps()
    slice_share: float = 0.05


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One account in one period, with its present caps."""

    scope: Scope
    tenant: str
    name: str
    period: Period
    caps: Allotment
    starts_at: datetime

    @property
    def id(self) -> str:
        """The id of its journal, e.g. ``acct_tenant_default_2026-11-22``."""
        owner = _quoted(self.tenant) if self.scope == "tenant" else f"{_quoted(self.tenant)}.{_quoted(self.name)}"
        return f"{PREFIX}{self.scope}_{owner}_{self.moment}"

    @property
    def moment(self) -> str:
        """Its period: ``2026-11-22`` or ``2026-11``."""
        return f"{self.starts_at:%Y-%m-%d}" if self.period == "day" else f"{self.starts_at:%Y-%m}"

    @property
    def ends_at(self) -> datetime:
        """When the period is over and a new one begins with all of its caps."""
        if self.period == "day":
            return self.starts_at + timedelta(days=1)
        return (self.starts_at + timedelta(days=32)).replace(day=1)

    @property
    def label(self) -> str:
        """As a person reads it, e.g. ``the tenant 'default' on 2026-11-22``."""
        name = self.tenant if self.scope == "tenant" else self.name
        return f"the {self.scope} {name!r} {'on' if self.period == 'day' else 'in'} {self.moment}"


class OpenDraw(msgspec.Struct, frozen=True, kw_only=True):
    """A draw that is not settled."""

    drawn: b.AccountDrawn
    at: datetime


@dataclass
class Book:
    """What an account's journal says so far."""

    seq: int = 0
    settled: Usage = field(default_factory=Usage)
    open: dict[str, OpenDraw] = field(default_factory=dict)
    draws: MutableMapping[str, Allotment] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        """Folds one event. Raises ``StoreCorrupt`` for one that is no account's."""
        body = event.body
        match body:
            case b.AccountDrawn():
                self.note(body, event.at)
            case b.AccountSettled():
                self.note(body, event.at)
            case _:
                raise StoreCorrupt(f"{event.run} is an account and has the event {event.type} at seq {event.seq}")
        self.seq = event.seq

    def note(self, body: b.AccountDrawn | b.AccountSettled, at: datetime) -> None:
        """What the book is after ``body``."""
        if isinstance(body, b.AccountDrawn):
            self.draws[body.draw] = body.allotment
            self.open[body.draw] = OpenDraw(drawn=body, at=at)
        elif self.open.pop(body.draw, None) is not None:
            self.settled += body.usage

    def copy(self) -> Book:
        """A book that may be written in without changing this one."""
        return Book(self.seq, self.settled, dict(self.open), ChainMap({}, self.draws))

    def held(self, *, but: str = "") -> Allotment:
        """What open draws set aside, those of the run ``but`` left out."""
        held = Allotment()
        for draw in self.open.values():
            if draw.drawn.run != but:
                held = held.plus(draw.drawn.allotment)
        return held

    def left(self, caps: Allotment) -> Allotment:
        """What nobody has taken or set aside of ``caps``."""
        return caps.left(caps.of(self.settled).plus(self.held()))

    @property
    def wake_at(self) -> datetime | None:
        """When somebody should look whether its oldest draw is an orphan."""
        oldest = min((d.at for d in self.open.values()), default=None)
        return None if oldest is None else oldest + timedelta(seconds=ORPHAN_S)


Change = Callable[[Book], b.AccountDrawn | b.AccountSettled | None]
"""What somebody wants to append, given the book it would be appended to; None when it no longer applies."""


class Accounts:
    """Reads and writes the accounts' journals; any number of processes may do so at once."""

    def __init__(self, journal: Journal, *, clock: Clock, ids: Ids, caps: AccountCaps | None = None) -> None:
        self.caps = caps or AccountCaps()
        self._journal = journal
        self._clock = clock
        self._ids = ids
        self._books: dict[str, Book] = {}
        self._wanted: dict[str, list[tuple[Change, asyncio.Future[Book]]]] = {}
        self._writers: dict[str, asyncio.Task[None]] = {}

    @property
    def is_any(self) -> bool:
        """Whether anything is capped at all; without that nothing is ever read or written here."""
        return self.has_runs or self.has_agents

    @property
    def has_runs(self) -> bool:
        """Whether runs draw: tenants or users are capped."""
        return any(p.day.is_capped or p.month.is_capped for p in (self.caps.tenant, self.caps.user))

    @property
    def has_agents(self) -> bool:
        """Whether attempts draw: agents are capped."""
        return self.caps.agent.day.is_capped or self.caps.agent.month.is_capped

    def of_run(self, tenant: str, principal: str) -> tuple[Account, ...]:
        """The accounts that a run draws on now."""
        of_tenant = self._accounts("tenant", tenant, tenant, self.caps.tenant)
        return (*of_tenant, *self._accounts("user", tenant, principal, self.caps.user))

    def of_agent(self, tenant: str, agent: str) -> tuple[Account, ...]:
        """The accounts that an attempt of ``agent`` draws on now."""
        return self._accounts("agent", tenant, agent, self.caps.agent)

    async def book(self, account: str) -> Book:
        """The book of an account as stored now: only what is new is read."""
        book = self._books.get(account)
        if book is None:
            book = self._books[account] = Book()
            while len(self._books) > _KEPT:
                del self._books[next(iter(self._books))]
        while True:
            events = await self._journal.read(account, after := book.seq, _PAGE)
            for event in events:
                if event.seq > book.seq:  # somebody else may have read it meanwhile
                    book.apply(event)
            if len(events) < _PAGE or book.seq == after:
                return book

    async def draw(self, account: Account, draw: str, run: str, size: Callable[[Allotment], Allotment | None]) -> Book:
        """Sets an amount aside under the id ``draw``, unless it was before; the book as it is then.

        ``book.draws`` has the amount under ``draw``; it is missing when ``size`` gave None for what was left.
        """

        def change(book: Book) -> b.AccountDrawn | None:
            if draw in book.draws:
                return None
            left = book.left(account.caps)
            amount = size(left)
            return None if amount is None else b.AccountDrawn(draw=draw, run=run, allotment=amount.least(left))

        return await self._change(account.id, change)

    async def settle(self, account: str, draw: str, usage: Usage) -> None:
        """Says what was taken of a draw; the rest is free again. Twice, or for an unknown draw, nothing happens."""

        def change(book: Book) -> b.AccountSettled | None:
            return b.AccountSettled(draw=draw, usage=usage) if draw in book.open else None

        await self._change(account, change)

    async def with_old_draws(self) -> tuple[str, ...]:
        """The accounts with draws that are open for longer than ``ORPHAN_S``."""
        query = HeadQuery(tenant=TENANT, due_before=self._clock.now(), may_lack=True)
        return tuple(dict.fromkeys([h.run async for h in heads_of(self._journal, query)]))

    def _accounts(self, scope: Scope, tenant: str, name: str, caps: PeriodCaps) -> tuple[Account, ...]:
        if not caps.day.is_capped and not caps.month.is_capped:
            return ()
        today = self._clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
        both: Sequence[tuple[Period, Allotment, datetime]] = (
            ("day", caps.day, today),
            ("month", caps.month, today.replace(day=1)),
        )
        return tuple(
            Account(scope=scope, tenant=tenant, name=name, period=period, caps=cap, starts_at=start)
            for period, cap, start in both
            if cap.is_capped
        )

    async def _change(self, account: str, change: Change) -> Book:
        """Appends what ``change`` wants, together with what others want of the same account."""
        done: asyncio.Future[Book] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_look)
        self._wanted.setdefault(account, []).append((change, done))
        if account not in self._writers:
            self._writers[account] = asyncio.create_task(self._work_off(account))
        return await asyncio.shield(done)

    async def _work_off(self, account: str) -> None:
        try:
            while batch := self._wanted.pop(account, None):
                try:
                    book = await self._write(account, [change for change, _ in batch])
                except Exception as error:  # noqa: BLE001 - whatever it is, everybody who waits is told
                    for _, done in batch:
                        if not done.done():
                            done.set_exception(error)
                    continue
                for _, done in batch:
                    if not done.done():
                        done.set_result(book)
        finally:
            del self._writers[account]
            for _, done in self._wanted.pop(account, ()):  # only after a cancel from outside
                done.cancel()

    async def _write(self, account: str, changes: Sequence[Change]) -> Book:
        while True:
            book = await self.book(account)
            draft, now = book.copy(), self._clock.now()
            bodies: list[b.Body] = []
            for change in changes:
                body = change(draft)
                if body is not None:
                    draft.note(body, now)
                    bodies.append(body)
            if not bodies:
                return book
            drafts = [Draft(id=self._ids.new("evt"), tenant=TENANT, at=now, body=body) for body in bodies]
            head = HeadChange(status="running", wake_at=draft.wake_at)
            try:
                await self._journal.append(account, drafts, expected=book.seq, head=head).durable()
            except Conflict:
                continue
            return await self.book(account)


def is_account(run: str) -> bool:
    """Whether a journal is an account's or an administrative log's, not a run's."""
    return run.startswith(PREFIX) or is_log(run)


def _quoted(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E").replace("_", "%5F")


def _look(done: asyncio.Future[Book]) -> None:
    """Looks at the outcome for a caller that no longer does, so that it is not reported as forgotten."""
    if not done.cancelled():
        done.exception()
