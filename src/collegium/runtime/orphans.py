"""Orphans: draws whose run or attempt is over and that nobody settled, because somebody died in between."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from collegium.domain import body as b
from collegium.domain.errors import NotFound, StoreCorrupt
from collegium.domain.run import RunState
from collegium.domain.usage import Usage
from collegium.ports import Clock, Journal
from collegium.runtime.accounts import ORPHAN_S, Accounts
from collegium.runtime.history import own

_log = logging.getLogger("collegium.orphans")
Load = Callable[[str], Awaitable[RunState]]
"""Gives a run as stored."""


class Orphans:
    """Finds draws that are open for long and settles those that are over."""

    def __init__(self, accounts: Accounts, *, journal: Journal, clock: Clock, load: Load) -> None:
        self._accounts = accounts
        self._journal = journal
        self._clock = clock
        self._load = load
        self._looked_s: dict[str, float] = {}

    async def sweep(self) -> int:
        """Settles what is over; returns how many draws that were. Nothing is read where nothing is capped."""
        if not self._accounts.is_any:
            return 0
        settled = 0
        for account in await self._accounts.with_old_draws():
            now_s = self._clock.monotonic()
            if now_s - self._looked_s.get(account, float("-inf")) >= ORPHAN_S:
                self._looked_s[account] = now_s
                settled += await self._look_through(account)
        return settled

    async def _look_through(self, account: str) -> int:
        settled, old = 0, self._clock.now() - timedelta(seconds=ORPHAN_S)
        for name, draw in list((await self._accounts.book(account)).open.items()):
            usage = await self._over(draw.drawn) if draw.at <= old else None
            if usage is not None:
                _log.warning("draw %s of %s was left open and is settled", name, account)
                await self._accounts.settle(account, name, usage)
                settled += 1
        return settled

    async def _over(self, drawn: b.AccountDrawn) -> Usage | None:
        """What was taken of a draw that is over; None while it may still be used."""
        try:
            if await self._journal.head(drawn.run) is None:
                return Usage()
            state = await self._load(drawn.run)
        except (NotFound, StoreCorrupt):
            return None  # somebody who can read it will see to it
        if drawn.draw.startswith(f"{drawn.run}:"):
            known = state.draws.get(drawn.draw)
            if known is not None:
                return known.usage
            return Usage() if state.finished is not None else None
        task, _, attempt = drawn.draw.removeprefix(f"{drawn.run}/").rpartition("/")
        now = state.tasks.get(task)
        if now is not None and now.is_open and now.attempt <= int(attempt) and state.finished is None:
            return None
        return await self._usage_of(drawn.run, task, int(attempt))

    async def _usage_of(self, run: str, task: str, attempt: int) -> Usage:
        """What an attempt took, as the event says that closed it; nothing for one that was never begun."""
        usage = Usage()
        async for events in own(self._journal, run):
            for event in events:
                body, is_its = event.body, event.task == task and event.attempt == attempt
                if is_its and isinstance(body, (b.TaskParked, b.TaskSettled, b.TaskLapsed)):
                    usage = body.usage
        return usage
