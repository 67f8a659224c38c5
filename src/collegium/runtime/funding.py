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
from collegium.domain.allot import LEAST, caps, given_back
from collegium.domain.decision import Decision
from collegium.domain.errors import LimitReached
from collegium.domain.run import RunState
from collegium.domain.task import TaskState
from collegium.domain.usage import CAPS, Allotment, Usage
from collegium.oversight.limits import amount
from collegium.runtime.accounts import Account, Accounts, Book

WAIT_S = 1.0
"""A run that waits for others to give back what they hold looks again after so long."""
MAX_WAIT_S = 30.0
"""A task that waits for what others hold of its agent's account looks again after so long at most."""
_TASK = Usage(cost_usd=Decimal("0.0001"), input_tokens=4_096, output_tokens=1_024, tool_calls=4)
"""A task that has less than this of an account's cap can hardly make one call."""
_MICRO_USD = Decimal("0.000001")
_UNCAPPED = Allotment()


class Funded(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of new attempts that somebody wants to decide on.

    Attributes:
        verdict: ``enough``: they go ahead. ``more``: first append ``decisions``, then ask what is wanted again.
            ``hold``: not now; what others hold may come back. ``none``: ``task`` ends for ``reason``, then ask again.
        is_settled_first: ``more``: nothing else is decided before the draw that is over was settled.
    """

    verdict: Literal["enough", "more", "hold", "none"]
    decisions: tuple[Decision, ...] = ()
    is_settled_first: bool = False
    task: str = ""
    reason: str = ""


ENOUGH, HOLD = Funded(verdict="enough"), Funded(verdict="hold")


class Funding:
    """Draws on ``accounts`` for runs and attempts."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts

    async def fund(self, state: RunState, decisions: Sequence[Decision]) -> Funded:
        """Whether the run has the means for the attempts that ``decisions`` create, and what gives it the means."""
        wanted = [d.task for d in decisions if isinstance(d.body, b.TaskReady) and d.task is not None]
        if not wanted or not self.accounts.has_runs:
            return ENOUGH
        accounts, draw = self.of_run(state), state.draw
        need = _Need.of(state, wanted, accounts)
        if draw is None:
            return await self._draw(state, accounts, need)
        drawn = draw.allotted.allotment
        free = drawn.left(drawn.of(state.usage - draw.before).plus(need.held))
        short = _short(free, need.least)
        if not short:
            return ENOUGH
        can_grow = any([_has(await self._rest(a), short) for a in accounts])
        if _is_any_open(state):
            # What open attempts hold goes into the new draw, before the old one is given up.
            again = await self._draw(state, accounts, need) if can_grow else HOLD
            if again.verdict == "more":
                return msgspec.structs.replace(again, decisions=(*given_back(state), *again.decisions))
            return HOLD if _short(free, need.must) or not _is_some(free) else ENOUGH
        if not can_grow and not _short(free, need.must) and _is_some(free):
            return ENOUGH
        # Given back first, even to wait: two runs that hold too little each would wait for each other.
        return Funded(verdict="more", decisions=given_back(state), is_settled_first=True)

    async def may_have_more(self, state: RunState, error: LimitReached, *, task: str, spent: Usage) -> bool:
        """Whether the open attempt of ``task``, which ``error`` ends after ``spent``, would fit another draw.

        What other runs hold is counted in: it may come back, and the task waits for it.
        """
        draw, cap = state.draw, str(error.fields.get("limit"))
        if draw is None or cap not in CAPS or getattr(draw.allotted.allotment, cap) is None:
            return False
        mine, need = getattr(state.tasks[task].allotment, cap), Decimal(str(error.fields["need"]))
        others = sum(1 for t in state.tasks.values() if not t.is_settled and not t.is_open)
        rounded_off = sum(1 for t in state.tasks.values() if not t.is_settled)  # what even parts leave, at most
        own = getattr(_own_rest(state), cap)
        if own is not None and own < mine * others + rounded_off * (_MICRO_USD if cap == "cost_usd" else 1):
            return False  # the run's own limit is what holds
        if own is not None and need > _most_of(own + mine - getattr(spent, cap), others + 1, cap):
            return False  # it would hold the next time
        books = [await self.accounts.book(a.id) for a in self.of_run(state)]
        if _was_short(state.tasks[task], error, mine) and not any(_is_some_held(b, state.id) for b in books):
            return False  # the last draw was made knowing what it needs, and nobody will give anything back
        used = getattr(draw.allotted.allotment.of(state.usage - draw.before + spent), cap)
        return all(
            (rest := getattr(account.caps.left(account.caps.of(book.settled)), cap)) is None or rest - used >= need
            for account, book in [(a, await self.accounts.book(a.id)) for a in self.of_run(state)]
        )

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
            for one in self.of_run(state):
                if name in (await self.accounts.book(one.id)).open:
                    await self.accounts.settle(one.id, name, Usage())

    async def draw_attempt(self, accounts: Sequence[Account], run: str, task: TaskState) -> Allotment:
        """What the newest attempt of ``task`` may take of its agent's ``accounts``; again gives the same.

        Raises LimitReached when nothing is left; its field ``is_held`` says whether some may come back.
        """
        name, given = attempt_draw(run, task.task.id, task.attempt), Allotment()
        for account in accounts:
            must = _lacked(task)
            size = partial(self._sized, least=account.caps.of(_TASK).plus(must), must=must)
            book = await self.accounts.draw(account, name, run, size)
            if name not in book.draws:
                is_held = _may_come_back(book, account, must)
                raise LimitReached(self._nothing_left(account, book), limit="account", is_held=is_held)
            given = given.least(book.draws[name])
        return given

    async def has(self, accounts: Sequence[Account], error: LimitReached, *, spent: Usage) -> bool:
        """Whether every one of ``accounts`` may have what ``error`` says is needed, once others give back."""
        cap, need = str(error.fields.get("limit")), Decimal(str(error.fields.get("need", 0)))
        for account in accounts:
            book = await self.accounts.book(account.id)
            rest = getattr(account.caps.left(account.caps.of(book.settled + spent)), cap)
            if rest is not None and rest < need:
                return False
        return True

    async def _draw(self, state: RunState, accounts: Sequence[Account], need: _Need) -> Funded:
        name, given = _draw_id(state), Allotment()
        size = partial(self._sized, least=need.least, must=need.must, own=_own_rest(state), held=need.held)
        # All are looked at before one is drawn on: who waits for one account must not keep others from another.
        books = [(account, await self.accounts.book(account.id)) for account in accounts]
        short = [(a, book) for a, book in books if name not in book.draws and size(book.left(a.caps)) is None]
        for account in accounts if not short else ():
            book = await self.accounts.draw(account, name, state.id, size)
            if name not in book.draws:
                short = [(account, book)]
                break
            given = given.least(book.draws[name])
        if short and (_is_any_open(state) or all(_may_come_back(k, a, need.must, but=state.id) for a, k in short)):
            return HOLD
        if short:
            return Funded(verdict="none", task=need.last, reason=self._nothing_left(*short[0]))
        if _is_any_open(state) and _short(given, need.held.plus(need.must)):
            return HOLD  # drawn when less was needed; it is taken up once nothing is held
        allotted = b.RunAllotted(draw=name, accounts=tuple(a.id for a in accounts), allotment=given)
        return Funded(verdict="more", decisions=(Decision(body=allotted),))

    def _sized(
        self,
        left: Allotment,
        *,
        least: Allotment,
        must: Allotment,
        own: Allotment = _UNCAPPED,
        held: Allotment = _UNCAPPED,
    ) -> Allotment | None:
        """How much of ``left`` is drawn beside ``held``: what ``own`` caps allow, else a slice; None for too little."""
        parts: dict[str, Any] = {}
        for cap in CAPS:
            rest, mine, kept = getattr(left, cap), getattr(own, cap), getattr(held, cap) or 0
            if rest is None:
                continue
            size = max(self._slice(cap, rest), 2 * (getattr(least, cap) or 0)) if mine is None else mine
            parts[cap] = min(rest, size + kept)
            if (parts[cap] <= kept and mine != 0) or parts[cap] < kept + (getattr(must, cap) or 0):
                return None
        return Allotment(**parts)

    def _slice(self, cap: str, rest: Any) -> Any:
        part = Decimal(str(self.accounts.caps.slice_share)) * rest
        return part.quantize(_MICRO_USD, rounding=ROUND_FLOOR) if cap == "cost_usd" else int(part)

    def of_run(self, state: RunState) -> tuple[Account, ...]:
        """The accounts that the run draws on now."""
        return self.accounts.of_run(state.tenant, state.goal.principal)

    async def _rest(self, account: Account) -> Allotment:
        return (await self.accounts.book(account.id)).left(account.caps)

    async def explain(self, accounts: Sequence[Account], cap: str) -> str:
        """Which of ``accounts`` is nearest to its end by this cap, as a sentence; empty where none has it."""
        books = [(a, await self.accounts.book(a.id)) for a in accounts if getattr(a.caps, cap, None) is not None]
        nearest = min(books, key=lambda one: getattr(one[1].left(one[0].caps), cap), default=None)
        return "" if nearest is None else self._nothing_left(*nearest, cap)

    def _nothing_left(self, account: Account, book: Book, cap: str | None = None) -> str:
        """The sentence of a run that ends for it: account, cap, what was used, when the period ends."""
        left, settled, held = book.left(account.caps), account.caps.of(book.settled), book.held()
        capped = [c for c in CAPS if getattr(account.caps, c) is not None]
        cap = cap or min(capped, key=lambda c: float(getattr(left, c)) / (float(getattr(account.caps, c)) or 1.0))
        set_aside = getattr(held, cap) or 0
        others = f" and {amount(cap, set_aside)} are set aside for runs under way" if set_aside else ""
        return (
            f"{account.label} may use {amount(cap, getattr(account.caps, cap))} and has used "
            f"{amount(cap, getattr(settled, cap), is_bare=True)}{others}; the {account.period} ends at "
            f"{account.ends_at:%Y-%m-%d %H:%M} UTC: wait, or raise limits.{account.scope}.{account.period}_"
            f"{'usd' if cap == 'cost_usd' else cap}"
        )


def _was_short(task: TaskState, error: LimitReached, given: Any) -> bool:
    """Whether the task had stopped for the same cap before, and was given less than it needed then."""
    code, _, need = (task.error or "").rpartition(":")
    return code == f"{error.code}:{error.fields.get('limit')}" and given < Decimal(need)


def _is_some_held(book: Book, but: str) -> bool:
    """Whether other runs than ``but`` hold anything that may come back."""
    held = book.held(but=but)
    return any((getattr(held, cap) or 0) > 0 for cap in CAPS)


def attempt_draw(run: str, task: str, attempt: int) -> str:
    """The id under which an attempt draws on its agent's accounts."""
    return f"{run}/{task}/{attempt}"


def _draw_id(state: RunState) -> str:
    return f"{state.id}:{len(state.draws) + 1}"


class _Need(msgspec.Struct, frozen=True, kw_only=True):
    """What new attempts of a run need, of every cap that some account has.

    Attributes:
        held: What open attempts hold.
        least: With less of it, more is drawn where there is more.
        must: With less of it, a task that ran out before would only run out again.
        last: The task that is given up first when there is not enough for all.
    """

    held: Allotment
    least: Allotment
    must: Allotment
    last: str

    @classmethod
    def of(cls, state: RunState, wanted: Sequence[str], accounts: Sequence[Account]) -> _Need:
        """What the attempts of ``wanted`` need. Every unsettled task gets an even part, so it is needed for each."""
        waiting = sum(1 for t in state.tasks.values() if not t.is_settled and not t.is_open) or 1
        own, lacked, least, must = _own_rest(state), Allotment(), dict[str, Any](), dict[str, Any]()
        for name in wanted:
            lacked = _most(lacked, _lacked(state.tasks[name]))
        for cap in CAPS:
            if any(getattr(a.caps, cap) is not None for a in accounts):
                missed, mine = getattr(lacked, cap), getattr(own, cap)
                each = max(getattr(_TASK, cap), missed or 0) * waiting
                least[cap] = each if mine is None else min(each, mine)
                if missed is not None and (mine is None or missed * waiting <= mine):
                    must[cap] = missed * waiting
                elif missed is not None and missed <= _most_of(mine, waiting, cap):
                    must[cap] = missed
        lacking = [n for n in wanted if _lacked(state.tasks[n]).is_capped] or list(wanted)
        return cls(held=_held(state), least=Allotment(**least), must=Allotment(**must), last=lacking[-1])


def lack(error: LimitReached) -> str:
    """The code of a park that waits for more out of accounts: the cap and what the next call needs of it."""
    cap = error.fields.get("limit")
    return f"{error.code}:{cap}:{error.fields.get('need')}" if cap in CAPS else error.code


def _lacked(task: TaskState) -> Allotment:
    """What the last attempt of ``task`` lacked for its next call; nothing when it ended for another reason."""
    code, _, rest = (task.error or "").partition(":")
    cap, _, need = rest.partition(":")
    if code != LimitReached.code or cap not in CAPS:
        return Allotment()
    missed: dict[str, Any] = {cap: Decimal(need) if cap == "cost_usd" else int(need)}
    return Allotment(**missed)


def _most_of(left: Any, waiting: int, cap: str) -> Any:
    """The most that a task may get of what is ``left`` of the run's own cap while ``waiting`` of them share it."""
    return max(left / waiting, min(left, getattr(LEAST, cap)))


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


def _short(free: Allotment, need: Allotment) -> list[str]:
    return [
        cap
        for cap in CAPS
        if getattr(free, cap) is not None and getattr(need, cap) is not None and getattr(free, cap) < getattr(need, cap)
    ]


def _is_some(left: Allotment) -> bool:
    """Whether there is anything left of every cap."""
    return all(getattr(left, cap) is None or getattr(left, cap) > 0 for cap in CAPS)


def _may_come_back(book: Book, account: Account, must: Allotment, *, but: str = "") -> bool:
    """Whether enough is left once others than the run ``but`` give back what they hold and do not use."""
    held, rest, need = book.held(but=but), account.caps.left(account.caps.of(book.settled)), account.caps.of(_TASK)
    return _is_any(held) and not _short(rest, _most(need, must))


def _is_any(held: Allotment) -> bool:
    return any((getattr(held, cap) or 0) > 0 for cap in CAPS)


def _has(rest: Allotment, caps_: Sequence[str]) -> bool:
    """Whether there is anything left of one of these caps."""
    return any((getattr(rest, cap) or 0) > 0 for cap in caps_)


def _most(one: Allotment, other: Allotment) -> Allotment:
    """The larger need of both, each by itself."""
    values = {c: [v for v in (getattr(one, c), getattr(other, c)) if v is not None] for c in CAPS}
    return Allotment(**{c: max(v) for c, v in values.items() if v})
