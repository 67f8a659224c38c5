"""Lifecycle: which agents there are, in which versions, and whether they take tasks.

What is said of an agent is a record, so that it survives every process and holds in all of them: each worker reads all
of them once a second. An agent is ``active``; somebody has it ``draining``; it is ``quarantined`` when too many of its
attempts failed by its own doing, and after a while tried again with one task at a time. ``retired`` is no record's
word: so is called who is known and in the roster no more.

The last agent that can do something is never quarantined, only marked: its tasks would wait for nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from collegium.agents.roster import Roster, digest
from collegium.domain.errors import Conflict, UsageError
from collegium.domain.record import Record
from collegium.domain.worker import AgentCondition
from collegium.ports import Clock, Records

RECORD, TENANT = "agent_standing", "~agents"
HEALTH: Final = "health"
"""Who quarantines, marks and lifts."""
COOL_DOWN_S: Final = 60.0
MAX_COOL_DOWN_S: Final = 960.0
"""A quarantine takes twice as long as the one before it, up to this."""
TRIAL_S: Final = 600.0
"""A trial whose end nobody tells is over after so long: its worker is dead."""
FRESH_S: Final = 1.0
KEPT_CHANGES: Final = 20
_log = logging.getLogger("collegium.lifecycle")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What was said of an agent, why, by whom and when."""

    condition: AgentCondition
    reason: str = ""
    principal: str = "local"
    at: datetime


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one agent.

    Attributes:
        version: Digest of the declaration that was registered last.
        condition: Whether it takes tasks.
        is_marked: It fails too often and goes on because nobody else can do what it does.
        until: When a quarantined one is tried again.
        quarantines: How many in a row; the next one takes longer.
        trial: The attempt that it is tried with, and until when that is waited for.
        changes: The last ones, the newest last.
    """

    agent: str
    version: str
    condition: AgentCondition = "active"
    is_marked: bool = False
    until: datetime | None = None
    quarantines: int = 0
    trial: str | None = None
    trial_until: datetime | None = None
    changes: tuple[Change, ...] = ()

    @property
    def why(self) -> Change | None:
        """The newest change."""
        return self.changes[-1] if self.changes else None


class Lifecycle:
    """The standings as they were at the last look, at most a second ago.

    Args:
        roster: The agents of this process.
        complaint: What is wrong with an agent that fails too often; None where nothing is.
        forget: Told of an agent whose failures are no longer held against it.
    """

    def __init__(
        self,
        records: Records,
        roster: Roster,
        *,
        clock: Clock,
        complaint: Callable[[str], str | None] = lambda _: None,
        forget: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._records = records
        self._roster = roster
        self._clock = clock
        self._complaint = complaint
        self._forget = forget
        self._standings: dict[str, tuple[Standing, int]] = {}
        self._is_registered = False

    async def all(self) -> tuple[Standing, ...]:
        """What is said of every agent that was ever registered, by name."""
        await self.refresh()
        return tuple(self._standings[name][0] for name in sorted(self._standings))

    def standing(self, agent: str) -> Standing | None:
        """What is said of it, by the last look."""
        found = self._standings.get(agent)
        return None if found is None else found[0]

    def condition(self, agent: str) -> AgentCondition:
        """Whether it takes tasks, by the last look. One that may be tried again counts as active."""
        standing = self.standing(agent)
        if standing is None or (standing.condition == "quarantined" and self.may_try(agent)):
            return "active"
        return standing.condition

    def may_try(self, agent: str) -> bool:
        """Whether it is quarantined and may be tried again now."""
        s = self.standing(agent)
        if s is None or s.condition != "quarantined" or s.until is None or self._clock.now() < s.until:
            return False
        return s.trial is None or s.trial_until is None or self._clock.now() >= s.trial_until

    def takes(self, agent: str) -> int | None:
        """How many tasks it may have by its condition; None for as many as it likes."""
        standing = self.standing(agent)
        if standing is None or standing.condition == "active":
            return None
        return 1 if self.may_try(agent) else 0

    def is_served(self, capability: str) -> bool:
        """Whether somebody takes tasks of ``capability``, by the last look."""
        return any(self._is_active(a.name) for a in self._roster.able(capability))

    async def drain(self, agent: str, *, reason: str = "", principal: str = "local") -> Standing:
        """It takes no new tasks anywhere, within a second; what it has it ends. Raises ``UnknownName``."""
        await self._require(agent)
        return await self._change(agent, "draining", reason=reason, principal=principal)

    async def resume(self, agent: str, *, principal: str = "local") -> Standing:
        """It takes tasks again, whatever kept it from that. Raises ``UnknownName``."""
        await self._require(agent)
        self._forget(agent)
        return await self._change(agent, "active", reason="resumed", principal=principal)

    async def begin_trial(self, agent: str, attempt: str) -> bool:
        """Whether ``attempt`` is the one with which a quarantined agent is tried; nobody else has one until it ends."""
        found = self._standings.get(agent)
        if found is None or not self.may_try(agent):
            return False
        until = self._clock.now() + timedelta(seconds=TRIAL_S)
        return await self._put(msgspec.structs.replace(found[0], trial=attempt, trial_until=until), found[1])

    async def end_trial(self, agent: str, attempt: str, *, is_well: bool | None, why: str = "") -> None:
        """The trial is over: well, badly, or without a word about the agent (None), which then may be tried again."""
        await self.refresh()
        found = self._standings.get(agent)
        if found is None or found[0].trial != attempt or found[0].condition != "quarantined":
            return
        if is_well is None:
            await self._put(msgspec.structs.replace(found[0], trial=None, trial_until=None), found[1])
        elif is_well:
            self._forget(agent)
            await self._change(agent, "active", reason="a trial went well", principal=HEALTH)
        else:
            await self._change(agent, "quarantined", reason=f"a trial failed: {why}", principal=HEALTH)

    async def look(self) -> None:
        """Looks at what others said, registers this process's agents once, and judges who fails too often."""
        await self.refresh()
        if not self._is_registered:
            await asyncio.gather(*(self._register(a.name, digest(a)) for a in self._roster))
            self._is_registered = True
        for agent in self._roster:
            await self._judge(agent.name)
        await self._lift()

    async def refresh(self) -> None:
        """Looks at the store."""
        found: dict[str, tuple[Standing, int]] = {}
        after = ""
        while page := await self._records.find(RECORD, TENANT, after=after, limit=1_000):
            for record in page:
                found[record.key] = msgspec.convert(record.value, Standing), record.version
            after = page[-1].key
            if len(page) < 1_000:
                break
        for name, (now, _) in found.items():
            before = self.standing(name)
            if before is not None and before.condition == "quarantined" and now.condition == "active":
                self._forget(name)  # what is over is over, in every process
        self._standings = found

    async def _judge(self, agent: str) -> None:
        found = self._standings.get(agent)
        if found is None or found[0].condition != "active":
            return
        standing, version = found
        complaint = self._complaint(agent)
        if complaint is None:
            if standing.is_marked:
                await self._put(
                    _said(standing, self._change_of("active", "it does well again"), is_marked=False), version
                )
        elif self._others(agent):
            _log.warning("agent %s is quarantined: %s", agent, complaint)
            await self._change(agent, "quarantined", reason=complaint, principal=HEALTH)
        elif not standing.is_marked:
            said = f"{complaint}; it goes on, nobody else can do what it does"
            await self._put(_said(standing, self._change_of("active", said), is_marked=True), version)

    async def _lift(self) -> None:
        """Lets one agent go on where, by chance or by a drain, all that can do something are quarantined at once."""
        for capability in self._roster.capabilities:
            able = [a.name for a in self._roster.able(capability)]
            if any(self._is_active(name) for name in able):
                continue
            out = [s for n in able if (s := self.standing(n)) is not None and s.condition == "quarantined"]
            if out and (last := max(out, key=lambda s: (_at(s), s.agent))).trial is None:
                said = self._change_of("active", f"nobody else is left who can do {capability!r}")
                version = self._standings[last.agent][1]
                await self._put(_said(last, said, condition="active", is_marked=True, until=None), version)

    def _others(self, agent: str) -> bool:
        """Whether everything that ``agent`` can do can be done by somebody else who is well."""
        mine = self._roster.get(agent).capabilities
        return all(any(a.name != agent and self._is_active(a.name) for a in self._roster.able(c)) for c in mine)

    def _is_active(self, agent: str) -> bool:
        standing = self.standing(agent)
        return standing is None or standing.condition == "active"

    async def _register(self, agent: str, version: str) -> None:
        found = self._standings.get(agent)
        if found is not None and found[0].version == version:
            return
        said = self._change_of("active" if found is None else found[0].condition, f"registered in version {version}")
        if found is None:
            await self._put(_said(Standing(agent=agent, version=version), said), 0)
        else:
            await self._put(_said(found[0], said, version=version), found[1])

    async def _require(self, agent: str) -> None:
        """Raises ``UnknownName`` for an agent that nobody knows."""
        await self.refresh()
        if agent not in self._standings:
            self._roster.get(agent)

    async def _change(self, agent: str, condition: AgentCondition, *, reason: str, principal: str) -> Standing:
        said = Change(condition=condition, reason=reason, principal=principal, at=self._clock.now())
        for _ in range(10):
            before, version = self._standings.get(agent) or (self._new(agent), 0)
            is_by_hand = principal != HEALTH
            if before.condition == condition and not before.is_marked and (is_by_hand or before.trial is None):
                return before
            if not is_by_hand and before.condition == "draining":
                return before  # what a person said stands
            after = _moved(before, said)
            if await self._put(after, version):
                return after
            await self.refresh()
        raise UsageError(f"the standing of {agent!r} is changed by too many at once: try again", agent=agent)

    def _new(self, agent: str) -> Standing:
        return Standing(agent=agent, version=digest(self._roster.get(agent)))

    def _change_of(self, condition: AgentCondition, reason: str) -> Change:
        return Change(condition=condition, reason=reason, principal=HEALTH, at=self._clock.now())

    async def _put(self, standing: Standing, version: int) -> bool:
        """Whether it was stored over ``version``; else somebody else was faster."""
        value = msgspec.to_builtins(standing)
        record = Record(kind=RECORD, tenant=TENANT, key=standing.agent, value=value)
        try:
            stored = await self._records.put(record, expected=version)
        except Conflict:
            return False
        self._standings[standing.agent] = standing, stored.version
        return True


def retired(standings: Iterable[Standing], present: Sequence[str]) -> tuple[Standing, ...]:
    """Of the ``standings`` those whose agents are not among ``present``: kept for the runs that are pinned to them."""
    known = frozenset(present)
    return tuple(s for s in standings if s.agent not in known)


def _moved(before: Standing, said: Change) -> Standing:
    """``before`` with a new condition and all that follows from it."""
    if said.condition != "quarantined":
        is_over = said.condition == "active"
        return _said(
            before,
            said,
            condition=said.condition,
            is_marked=False,
            until=None,
            trial=None,
            trial_until=None,
            quarantines=0 if is_over else before.quarantines,
        )
    cool_down_s = min(COOL_DOWN_S * 2**before.quarantines, MAX_COOL_DOWN_S)
    return _said(
        before,
        said,
        condition="quarantined",
        is_marked=False,
        until=said.at + timedelta(seconds=cool_down_s),
        quarantines=before.quarantines + 1,
        trial=None,
        trial_until=None,
    )


def _said(standing: Standing, said: Change, **changes: object) -> Standing:
    kept = (*standing.changes, said)[-KEPT_CHANGES:]
    return msgspec.structs.replace(standing, changes=kept, **changes)


def _at(standing: Standing) -> datetime:
    assert standing.why is not None  # noqa: S101 - a quarantine is a change
    return standing.why.at
