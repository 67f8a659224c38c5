"""Funding: when a run draws on its accounts, how much, and when what it did not use goes back.

The order is always account first, then run: whoever dies in between has set too much aside, never too little, and the
sweep gives it back. A draw's id is counted by the run itself, so that everybody who decides for the run at the same
time draws the same amount once.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal
from functools import partial
from typing import Any, Literal

import msgspec

from collegium.domain import body as b
from collegium.domain.allot import caps, given_back
from collegium.domain.decision import Decision
from collegium.domain.errors import LimitReached
from collegium.domain.run import RunState
from collegium.domain.usage import CAPS, Allotment, Usage
from collegium.oversight.limits import amount
from collegium.runtime.accounts import Account, Accounts, Book

WAIT_S = 1.0
"""A run that waits for others to give back what they hold looks again after so long."""
FLOOR = Allotment(
    cost_usd=Decimal("0.0001"), tokens=4_096, input_tokens=4_096, output_tokens=512, tool_calls=4
)  # fmt: skip
"""A task that has less than this of an account's cap can hardly make one call."""
_MICRO_USD = Decimal("0.000001")
_UNCAPPED = Allotment()


class Funded(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of new attempts that somebody wants to decide on.

    Attributes:
        verdict: ``enough``: they go ahead. ``more``: first append ``decisions``, then ask what is wanted again.
            ``hold``: not now; what others hold may come back. ``none``: nothing is left, ``reason`` says of what.
        is_settled_first: ``more``: nothing else is decided before the draw that is over was settled.
    """

    verdict: Literal["enough", "more", "hold", "none"]
    decisions: tuple[Decision, ...] = ()
    is_settled_first: bool = False
    reason: str = ""


ENOUGH = Funded(verdict="enough")


class Funding:
    """Draws on ``accounts`` for runs and attempts."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts

    async def fund(self, state: RunState, decisions: Sequence[Decision]) -> Funded:
        """Whether the run has the means for the attempts that ``decisions`` create, and what gives it the means."""
        wanted = [d.task for d in decisions if isinstance(d.body, b.TaskReady) and d.task is not None]
        if not wanted or not self.accounts.has_runs:
            return ENOUGH
        accounts = self._of(state)
        need = _need(state, wanted, accounts)
        draw = state.draw
        if draw is None:
            return await self._draw(state, accounts, need, held=Allotment())
        held = _held(state)
        drawn = draw.allotted.allotment
        free = drawn.left(drawn.of(state.usage - draw.before).plus(held))
        if _covers(free, need):
            return ENOUGH
        if not _is_more(_short(free, need), [await self._rest(a) for a in accounts]):
            return ENOUGH if _is_some(free) else await self._empty(state, accounts)
        if not _is_any_open(state):
            return Funded(verdict="more", decisions=given_back(state), is_settled_first=True)
        # What open attempts hold goes into the new draw, before the old one is given up.
        again = await self._draw(state, accounts, need, held=held)
        if again.verdict == "more":
            return msgspec.structs.replace(again, decisions=(*given_back(state), *again.decisions))
        return ENOUGH if _covers(free, FLOOR) else Funded(verdict="hold")

    async def may_have_more(self, state: RunState, error: LimitReached, *, task: str, spent: Usage) -> bool:
        """Whether the open attempt of ``task``, which ``error`` ends after ``spent``, would fit another draw."""
        draw, cap = state.draw, str(error.fields.get("limit"))
        if draw is None or cap not in CAPS or getattr(draw.allotted.allotment, cap) is None:
            return False
        mine, need = state.tasks[task].allotment, Decimal(str(error.fields["need"]))
        others = sum(1 for t in state.tasks.values() if not t.is_settled and not t.is_open)
        own = getattr(_own_rest(state), cap)
        if own is not None and own <= getattr(mine, cap) * others:
            return False  # the run's own limit is what holds
        drawn = draw.allotted.allotment
        taken = drawn.of(state.usage - draw.before).plus(_held(state))
        free = getattr(drawn.left(taken), cap) + max(getattr(mine, cap) - getattr(drawn.of(spent), cap), 0)
        rests = [getattr(await self._rest(a), cap) for a in self._of(state)]
        return bool(free + min([rest for rest in rests if rest is not None], default=0) >= need * (1 + others))

    async def settle(self, state: RunState) -> None:
        """Gives back what is over of the run's draws; twice is harmless. The sweep does what a crash leaves out."""
        for name, draw in state.draws.items():
            if draw.usage is not None:
                for account in draw.allotted.accounts:
                    if name in (await self.accounts.book(account)).open:
                        await self.accounts.settle(account, name, draw.usage)
        if state.finished is not None:
            # A draw that the run never came to know of: somebody died, or another account had nothing left.
            name = _draw_id(state)
            for one in self._of(state):
                if name in (await self.accounts.book(one.id)).open:
                    await self.accounts.settle(one.id, name, Usage())

    async def draw_attempt(self, accounts: Sequence[Account], run: str, task: str, attempt: int) -> Allotment:
        """What an attempt may take of its agent's ``accounts``; the same attempt again gives the same.

        Raises LimitReached when nothing is left; its field ``is_held`` says whether some may come back.
        """
        name, given = attempt_draw(run, task, attempt), Allotment()
        for account in accounts:
            book = await self.accounts.book(account.id)
            before = [a for n in range(1, attempt) if (a := book.draws.get(attempt_draw(run, task, n))) is not None]
            size = partial(self._sized, need=_doubled(before, account.caps))
            book = await self.accounts.draw(account, name, run, size)
            if name not in book.draws:
                is_held = _is_held(book, account)
                raise LimitReached(self._nothing_left(account, book), limit="account", is_held=is_held)
            given = given.least(book.draws[name])
        return given

    async def has(self, accounts: Sequence[Account], error: LimitReached) -> bool:
        """Whether every one of ``accounts`` has what ``error`` says is needed."""
        cap, need = str(error.fields.get("limit")), Decimal(str(error.fields.get("need", 0)))
        rests = [getattr(await self._rest(a), cap, None) for a in accounts]
        return all(rest is None or rest >= need for rest in rests)

    async def _draw(self, state: RunState, accounts: Sequence[Account], need: Allotment, *, held: Allotment) -> Funded:
        name = _draw_id(state)
        given = Allotment()
        for account in accounts:
            book = await self.accounts.draw(
                account, name, state.id, partial(self._sized, need=need, own=_own_rest(state), held=held)
            )
            if name not in book.draws:
                if _is_held(book, account, but=state.id):
                    return Funded(verdict="hold")
                return Funded(verdict="none", reason=self._nothing_left(account, book))
            given = given.least(book.draws[name])
        if not _covers(given, held):
            return Funded(verdict="hold")  # drawn when less was held; it is used once that was given back
        allotted = b.RunAllotted(draw=name, accounts=tuple(a.id for a in accounts), allotment=given)
        return Funded(verdict="more", decisions=(Decision(body=allotted),))

    async def _empty(self, state: RunState, accounts: Sequence[Account]) -> Funded:
        """The verdict when draw and accounts are empty: wait for others, or end, naming the account."""
        if _is_any_open(state):
            return Funded(verdict="hold")
        last = ""
        for account in accounts:
            book = await self.accounts.book(account.id)
            if not _is_some(book.left(account.caps)):
                if _is_held(book, account, but=state.id):
                    return Funded(verdict="hold")
                last = self._nothing_left(account, book)
        return Funded(verdict="none", reason=last) if last else Funded(verdict="hold")

    def _sized(
        self, left: Allotment, *, need: Allotment, own: Allotment = _UNCAPPED, held: Allotment = _UNCAPPED
    ) -> Allotment | None:
        """How much of ``left`` is drawn beside ``held``: what ``own`` caps allow, else a slice; None for nothing."""
        parts: dict[str, Any] = {}
        for cap in CAPS:
            rest, mine, kept = getattr(left, cap), getattr(own, cap), getattr(held, cap) or 0
            if rest is None:
                continue
            size = max(self._slice(cap, rest), getattr(need, cap) or 0) if mine is None else mine
            parts[cap] = min(rest, size + kept)
            if parts[cap] <= kept and mine != 0:
                return None
        return Allotment(**parts)

    def _slice(self, cap: str, rest: Any) -> Any:
        part = Decimal(str(self.accounts.caps.slice_share)) * rest
        return part.quantize(_MICRO_USD, rounding=ROUND_FLOOR) if cap == "cost_usd" else int(part)

    def _of(self, state: RunState) -> tuple[Account, ...]:
        return self.accounts.of_run(state.tenant, state.goal.principal)

    async def _rest(self, account: Account) -> Allotment:
        return (await self.accounts.book(account.id)).left(account.caps)

    def _nothing_left(self, account: Account, book: Book) -> str:
        """The sentence of a run that ends for it: account, cap, what was used, when the period ends."""
        left, settled, held = book.left(account.caps), account.caps.of(book.settled), book.held()
        cap = next((c for c in CAPS if getattr(left, c) is not None and getattr(left, c) <= 0), None)
        cap = cap or next(c for c in CAPS if getattr(left, c) is not None)
        used, set_aside = getattr(settled, cap), getattr(held, cap) or 0
        others = f" and {amount(cap, set_aside)} are set aside for runs under way" if set_aside else ""
        return (
            f"{account.label} may use {amount(cap, getattr(account.caps, cap))} and has used "
            f"{amount(cap, used, is_bare=True)}{others}; the {account.period} ends at "
            f"{account.ends_at:%Y-%m-%d %H:%M} UTC: wait, or raise limits.{account.scope}.{account.period}_"
            f"{'usd' if cap == 'cost_usd' else cap}"
        )


def attempt_draw(run: str, task: str, attempt: int) -> str:
    """The id under which an attempt draws on its agent's accounts."""
    return f"{run}/{task}/{attempt}"


def _draw_id(state: RunState) -> str:
    return f"{state.id}:{len(state.draws) + 1}"


def _is_any_open(state: RunState) -> bool:
    return any(t.is_open for t in state.tasks.values())


def _held(state: RunState) -> Allotment:
    held = Allotment()
    for task in state.tasks.values():
        if task.is_open:
            held = held.plus(task.allotment)
    return held


def _own_rest(state: RunState) -> Allotment:
    """What the run's own caps leave, open attempts not counted."""
    whole = caps(state.goal.limits)
    return whole.left(whole.of(state.usage).plus(_held(state)))


def _need(state: RunState, wanted: Sequence[str], accounts: Sequence[Account]) -> Allotment:
    """What the tasks that are not settled should have together, of every cap that some account has.

    A task that ran out of its part before gets twice as much; nobody gets more than the run's own limits allow.
    """
    waiting = sum(1 for t in state.tasks.values() if not t.is_settled and not t.is_open) or 1
    short = [state.tasks[n].allotment for n in wanted if state.tasks[n].error == LimitReached.code]
    own, needs = _own_rest(state), {}
    for cap in CAPS:
        if any(getattr(a.caps, cap) is not None for a in accounts):
            each = max([getattr(FLOOR, cap), *(2 * (getattr(a, cap) or 0) for a in short)])
            mine = getattr(own, cap)
            needs[cap] = each * waiting if mine is None else min(each * waiting, mine)
    return Allotment(**needs)


def _doubled(before: Sequence[Allotment], caps_: Allotment) -> Allotment:
    """What an attempt should have where earlier attempts of its task had less: twice the most of them."""
    return Allotment(**{
        cap: max([getattr(FLOOR, cap), *(2 * (getattr(a, cap) or 0) for a in before)])
        for cap in CAPS
        if getattr(caps_, cap) is not None
    })  # fmt: skip


def _covers(free: Allotment, need: Allotment) -> bool:
    """Whether ``free`` has at least ``need`` of every cap that both have."""
    return not _short(free, need)


def _short(free: Allotment, need: Allotment) -> list[str]:
    return [
        cap
        for cap in CAPS
        if getattr(free, cap) is not None and getattr(need, cap) is not None and getattr(free, cap) < getattr(need, cap)
    ]


def _is_more(short: Sequence[str], rests: Sequence[Allotment]) -> bool:
    """Whether of everything that is short, the accounts have some left: only then another draw helps."""
    return all(getattr(rest, cap) is None or getattr(rest, cap) > 0 for cap in short for rest in rests)


def _is_some(left: Allotment) -> bool:
    """Whether there is anything left of every cap."""
    return all(getattr(left, cap) is None or getattr(left, cap) > 0 for cap in CAPS)


def _is_held(book: Book, account: Account, *, but: str = "") -> bool:
    """Whether what is missing may come back: somebody else than the run ``but`` holds some of it."""
    held, left = book.held(but=but), book.left(account.caps)
    return any(
        (getattr(held, cap) or 0) > 0 for cap in CAPS if getattr(left, cap) is not None and getattr(left, cap) <= 0
    )
