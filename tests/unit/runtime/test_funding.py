"""Whether a task that ran out of what its run had drawn tries again with more, or has met the run's own limit."""

from __future__ import annotations

from random import Random

import pytest

from collegium.adapters.memory.journal import MemoryJournal
from collegium.domain import body as b
from collegium.domain.errors import LimitReached
from collegium.domain.goal import Goal
from collegium.domain.ids import Ids
from collegium.domain.plan import Plan, Task
from collegium.domain.usage import Allotment, Limits, Usage
from collegium.runtime.accounts import AccountCaps, Accounts, PeriodCaps
from collegium.runtime.funding import Funding
from collegium.testing.clock import FakeClock
from tests.unit.domain.history import History

FOUR = Plan(tasks=tuple(Task(id=f"t{n}", title=f"T{n}", capability="operate") for n in range(4)))


@pytest.mark.parametrize(("need", "has_hope"), [(1_500, True), (2_000, True), (2_100, False), (7_000, False)])
async def test_a_task_tries_again_only_where_the_limit_of_its_run_would_let_it(need: int, *, has_hope: bool) -> None:
    """Else it would be parked and tried again for as long as others hold anything of the account."""
    caps = AccountCaps(tenant=PeriodCaps(day=Allotment(tokens=100_000)))
    accounts = Accounts(MemoryJournal(), clock=FakeClock(), ids=Ids(lambda: 1), caps=caps)
    (account,) = accounts.of_run("t", "local")
    await accounts.draw(account, "run_other:1", "run_other", lambda _: Allotment(tokens=90_000))
    history = History(Random(0), given=FOUR)
    history.write(b.RunSubmitted(goal=Goal(text="x", plan=FOUR, limits=Limits(tokens=6_000))))
    history.write(b.RunAllotted(draw="d", accounts=(account.id,), allotment=Allotment(tokens=144)))
    history.settle_decisions()
    assert history.state is not None
    assert history.state.tasks["t0"].allotment == Allotment(tokens=144)
    error = LimitReached("too much", limit="tokens", need=str(need), left="144")
    funding = Funding(accounts)
    assert await funding.may_have_more(history.state, error, task="t0", spent=Usage()) is has_hope
