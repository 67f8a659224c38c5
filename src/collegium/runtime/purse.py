"""The purse: what one attempt may spend, by its part of the run, its agent's own caps, and its agent's accounts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from collegium.domain.agent import Agent
from collegium.domain.errors import LimitReached
from collegium.domain.run import RunState
from collegium.domain.task import TaskState
from collegium.domain.usage import CAPS, Allotment, Usage
from collegium.oversight.limits import SOFT_SHARE, AttemptLimits
from collegium.ports import Clock
from collegium.runtime.accounts import Account
from collegium.runtime.funding import Funding, attempt_draw, lack


class Purse:
    """One attempt's means. Where no agent's accounts are capped it reads and writes nothing."""

    def __init__(self, state: RunState, task: TaskState, *, funding: Funding | None, clock: Clock) -> None:
        self._state = state
        self._task = task
        self._funding = funding
        self._clock = clock
        self._of: tuple[Account, ...] = ()
        self._drawn = Allotment()
        self.own = Allotment() if task.asked is None else task.asked.allotment
        """What an attempt may take by its agent, and by those that have asked for the task; no cap of the run."""
        self.limits = AttemptLimits(task.allotment)

    async def open(self, agent: Agent) -> AttemptLimits:
        """The limits of an attempt by ``agent``; what it may take of accounts is set aside, durably.

        Raises ``LimitReached`` when its accounts have nothing left.
        """
        own = self.own = self.own.least(Allotment(cost_usd=agent.limit_usd, tokens=agent.limit_tokens))
        if self._funding is not None:
            self._of = self._funding.accounts.of_agent(self._state.tenant, agent.name)
            run, task = self._state.id, self._task
            self._drawn = await self._funding.draw_attempt(self._of, run, task)
        allotment = self._task.allotment.least(own).least(self._drawn)
        self.limits = AttemptLimits(
            allotment, advice=self._advice(allotment, own, agent.name), is_late=self._is_late(agent)
        )
        return self.limits

    async def close(self, usage: Usage) -> None:
        """Gives back what was not used; twice is harmless. The sweep does it for attempts that end without a word."""
        if self._of and self._funding is not None:
            name = attempt_draw(self._state.id, self._task.task.id, self._task.attempt)
            for account in self._of:
                await self._funding.accounts.settle(account.id, name, usage)

    async def may_have_more(self, state: RunState, error: LimitReached) -> bool:
        """Whether another attempt, with more drawn from accounts, would get past ``error``."""
        cap = str(error.fields.get("limit"))
        if self._funding is None or cap not in CAPS:
            return False
        given = getattr(self.limits.allotment, cap)
        if given is not None and getattr(self._drawn, cap) == given != getattr(self._task.allotment, cap):
            return await self._funding.has(self._of, error, spent=self.limits.spent)
        if given is None or given != getattr(self._task.allotment, cap):
            return False  # it is the agent's own cap that holds
        task = self._task.task.id
        return await self._funding.may_have_more(state, error, task=task, spent=self.limits.spent)

    def lack(self, error: LimitReached) -> str:
        """The code of a park for ``error``; while it only waits for others, what the task lacked before is kept."""
        before = self._task.error or ""
        return before if error.fields.get("is_held") and before.startswith(f"{error.code}:") else lack(error)

    async def explained(self, error: LimitReached) -> str:
        """The sentence of ``error``, with the account it comes from where it is not the run's own limit."""
        cap = str(error.fields.get("limit"))
        if self._funding is None or cap not in CAPS or getattr(self.limits.allotment, cap) is None:
            return error.message
        given, own = getattr(self.limits.allotment, cap), getattr(self._task.allotment, cap)
        if given == own and self._is_account_tighter(cap):
            accounts = self._funding.of_run(self._state)
        elif given == getattr(self._drawn, cap):
            accounts = self._of
        else:
            return error.message
        account = await self._funding.explain(accounts, cap)
        return f"{error.message.rpartition(': ')[0]}: {account}" if account else error.message

    def _is_account_tighter(self, cap: str) -> bool:
        """Whether the run holds less of an account than its own limits would let it."""
        own, draw = getattr(self._state.goal.limits, cap), self._state.draw
        drawn = None if draw is None else getattr(draw.allotted.allotment, cap)
        return drawn is not None and (own is None or drawn < own)

    @property
    def is_drawn(self) -> bool:
        """Whether something of an account is set aside for the attempt."""
        return bool(self._of)

    def _advice(self, allotment: Allotment, own: Allotment, agent: str) -> dict[str, str]:
        """What a person can do about each cap that is not the run's."""
        advice: dict[str, str] = {}
        scopes: Sequence[tuple[Allotment, str]] = (
            (self._drawn, "raise limits.agent"),
            (own, f"raise the limit of agent {agent!r}" + (", or of the one that asks" if self._task.asked else "")),
        )
        for cap in CAPS:
            held = getattr(allotment, cap)
            if held != getattr(self._task.allotment, cap):
                advice[cap] = next(what for caps, what in scopes if getattr(caps, cap) == held)
        return advice

    def _is_late(self, agent: Agent) -> Callable[[], bool]:
        """Whether most of the run's time, or of the attempt's own, is over."""
        started_s, run = self._clock.monotonic(), self._state
        own_s = min([s for s in (self._task.task.timeout_s, agent.timeout_s) if s is not None], default=None)
        deadline_s = run.goal.limits.deadline_s

        def is_late() -> bool:
            if own_s is not None and self._clock.monotonic() - started_s >= SOFT_SHARE * own_s:
                return True
            if deadline_s is None:
                return False
            return self._clock.now() >= run.submitted_at + timedelta(seconds=SOFT_SHARE * deadline_s)

        return is_late
