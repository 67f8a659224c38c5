"""The administrative log: who did what, decided by which rule; one journal per tenant and month.

It is chained, signed and verified as runs are. Any number of processes write it at once: a line needs no look at what
is there, so writers never wait for each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import quote

import msgspec

from collegium.domain.deed import PREFIX, Deed, LogNoted, LogOpened, log_tenant
from collegium.domain.errors import Conflict, NotFound
from collegium.domain.event import Draft, Event
from collegium.domain.head import Head, HeadChange, HeadQuery
from collegium.domain.ids import Ids
from collegium.domain.redaction import masked
from collegium.ports import Journal
from collegium.runtime.heads import heads_of

MOST_CHARS: Final = 500
"""A longer text in a line is cut."""
_PAGE: Final = 500
_LOOKED_THROUGH: Final = 5_000
"""So many lines are looked through for one page; the cursor goes on from there."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines are shown; all that is given has to hold.

    Attributes:
        actor: Who did it.
        action: What was done; ``keys.*`` for all that begin so.
        since: Not before.
        until: Before.
    """

    actor: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, event: Event, noted: LogNoted) -> bool:
        """Whether the line is one of them."""
        return (
            (self.actor is None or noted.actor == self.actor)
            and (self.action is None or _fits(self.action, noted.action))
            and (self.since is None or event.at >= self.since)
            and (self.until is None or event.at < self.until)
        )


class LogPage(msgspec.Struct, frozen=True, kw_only=True):
    """Lines, the newest first, and the place behind them: journal and seq of the oldest looked at; None at the end."""

    deeds: tuple[Deed, ...]
    next: tuple[str, int] | None = None


class AdminLog:
    """Writes and reads the logs of all tenants.

    Args:
        journal: Where they are kept.
        now: The time of day.
        ids: Names the lines.
    """

    def __init__(self, journal: Journal, *, now: Callable[[], datetime], ids: Ids | None = None) -> None:
        self._journal = journal
        self._now = now
        self._ids = ids or Ids(lambda: int(now().timestamp() * 1_000))

    async def note(self, tenant: str, *noted: LogNoted) -> tuple[Deed, ...]:
        """Writes lines; they would survive a power cut once this has returned. Raises ``StoreError``."""
        now = self._now()
        log = journal_of(tenant, now)
        lines = [self._draft(tenant, now, _tidy(one)) for one in noted]
        if not lines:
            return ()
        try:
            stored = await self._journal.append(log, lines).durable()
        except NotFound:
            stored = await self._begin(log, tenant, now, lines)
        return tuple(deed for event in stored if (deed := _deed(event)) is not None)

    async def page(
        self, tenant: str, wanted: Wanted | None = None, *, before: tuple[str, int] | None = None, limit: int = 50
    ) -> LogPage:
        """Lines of a tenant's log, the newest first, from behind the place ``before``; at most ``limit``.

        A page may be short or empty and still have a next one: so many lines are looked through at a time.
        """
        wanted, found, left = wanted or Wanted(), list[Deed](), _LOOKED_THROUGH
        for log, last in await self._months(tenant, before):
            seq = last
            while seq > 1:
                if left <= 0 or _is_past(wanted, log):
                    return LogPage(deeds=tuple(found), next=None if _is_past(wanted, log) else (log, seq + 1))
                events = await self._journal.read(log, max(0, seq - _PAGE), min(seq, _PAGE))
                for event in reversed(events):
                    left, seq = left - 1, event.seq - 1
                    if isinstance(event.body, LogNoted) and wanted.takes(event, event.body):
                        found.append(_shown(event, event.body))
                        if len(found) == limit:
                            return LogPage(deeds=tuple(found), next=(log, event.seq))
                if not events:
                    break
        return LogPage(deeds=tuple(found))

    async def lines(self, tenant: str, *, after: tuple[str, int] = ("", 0)) -> AsyncIterator[Deed]:
        """Every line in order, from behind the place ``after``; ends with the newest there is now."""
        for log, last in reversed(await self._months(tenant, None)):
            seq = after[1] if log == after[0] else 0
            if log < after[0]:
                continue
            while seq < last:
                events = await self._journal.read(log, seq, _PAGE)
                if not events:
                    break
                for event in events:
                    seq = event.seq
                    deed = _deed(event)
                    if deed is not None:
                        yield deed

    async def _begin(self, log: str, tenant: str, now: datetime, lines: Sequence[Draft]) -> tuple[Event, ...]:
        heads = [h async for h in heads_of(self._journal, HeadQuery(tenant=log_tenant(tenant), limit=100))]
        earlier = max((h for h in heads if h.run < log), key=lambda h: h.run, default=None)
        opened = LogOpened(tenant=tenant, month=f"{now:%Y-%m}")
        if earlier is not None:
            opened = msgspec.structs.replace(
                opened, previous=earlier.run, previous_seq=earlier.seq, previous_mac=earlier.mac
            )
        first = Draft(id=self._ids.new("evt"), tenant=log_tenant(tenant), at=now, body=opened)
        head = HeadChange(status="running", wake_at=None)
        try:
            return await self._journal.append(log, [first, *lines], expected=0, head=head).durable()
        except Conflict:  # another process has begun it just now
            return await self._journal.append(log, lines).durable()

    async def _months(self, tenant: str, before: tuple[str, int] | None) -> list[tuple[str, int]]:
        """The journals of a log with the last seq to look at, the newest first."""
        heads: list[Head] = [h async for h in heads_of(self._journal, HeadQuery(tenant=log_tenant(tenant), limit=100))]
        months = sorted({h.run: h.seq for h in heads}.items(), reverse=True)
        if before is None:
            return months
        return [(log, min(seq, before[1] - 1) if log == before[0] else seq) for log, seq in months if log <= before[0]]

    def _draft(self, tenant: str, now: datetime, noted: LogNoted) -> Draft:
        return Draft(id=self._ids.new("evt"), tenant=log_tenant(tenant), at=now, body=noted)


def journal_of(tenant: str, at: datetime) -> str:
    """The id of the journal that has a tenant's log of that month (UTC).

    >>> from datetime import UTC
    >>> journal_of("acme corp", datetime(2026, 11, 22, tzinfo=UTC))
    'log_acme%20corp_202611'
    """
    return f"{PREFIX}{quote(tenant, safe='').replace('_', '%5F')}_{at:%Y%m}"


def _is_past(wanted: Wanted, log: str) -> bool:
    """Whether the whole month is before what is wanted."""
    return wanted.since is not None and log.rpartition("_")[2] < f"{wanted.since:%Y%m}"


def _fits(pattern: str, action: str) -> bool:
    return action.startswith(pattern[:-1]) if pattern.endswith("*") else action == pattern


def _tidy(noted: LogNoted) -> LogNoted:
    """``noted`` with texts of bounded length and without what looks like a secret."""
    texts = ("actor", "action", "object", "rule", "reason", "address", "trace", "credential")
    changed = {name: masked(str(getattr(noted, name)))[:MOST_CHARS].replace("\0", "?") for name in texts}
    return msgspec.structs.replace(noted, **changed)


def _deed(event: Event) -> Deed | None:
    return _shown(event, event.body) if isinstance(event.body, LogNoted) else None


def _shown(event: Event, noted: LogNoted) -> Deed:
    return Deed(
        **{name: getattr(noted, name) for name in LogNoted.__struct_fields__},
        at=event.at,
        id=event.id,
        log=event.run,
        seq=event.seq,
        mac=event.mac,
    )
