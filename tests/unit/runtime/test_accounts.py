"""Accounts: what tenants, users and agents may take in a day holds, whoever draws, whoever dies, whatever the day."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as replace_struct

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.sqlite.store import open_store
from collegium.app import Collegium, Stores
from collegium.domain.errors import NotFound, StoreUnavailable
from collegium.domain.event import Draft
from collegium.domain.head import HeadQuery
from collegium.domain.ids import Ids
from collegium.domain.plan import Plan
from collegium.domain.usage import CAPS as CAPS_
from collegium.domain.usage import Allotment, Limits, Usage
from collegium.ports import Receipt
from collegium.runtime.accounts import ORPHAN_S, TENANT, AccountCaps, Accounts, Book, PeriodCaps
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from collegium.tools.definition import tool
from tests.unit.runtime.greedy import GreedyModel, fan, look

pytestmark = pytest.mark.usefixtures("short_waits")

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def of_day(**caps: Any) -> PeriodCaps:
    return PeriodCaps(day=Allotment(**caps))


@asynccontextmanager
async def stores_of(kind: str, folder: Path) -> AsyncIterator[Stores]:
    clock = SystemClock()
    stores = memory_stores(clock)
    if kind == "memory":
        yield stores
        return
    store = open_store(folder / "store.db", clock=clock)
    try:
        yield replace(stores, journal=store.journal, records=store.records, blobs=store.blobs)
    finally:
        await store.aclose()


async def statuses(app: Collegium, runs: Sequence[str]) -> list[str]:
    reports = await asyncio.gather(*(asyncio.wait_for(app.result(run), 60) for run in runs))
    return [r.status for r in reports]


CAPS: dict[str, tuple[AccountCaps, Limits]] = {
    "run": (AccountCaps(), Limits(tokens=30_000, cost_usd=Decimal("0.3"))),
    "tenant": (AccountCaps(tenant=of_day(tokens=120_000, cost_usd=Decimal("1.1"))), Limits()),
    "user": (AccountCaps(user=of_day(input_tokens=60_000, output_tokens=50_000, tool_calls=90)), Limits()),
    "agent": (AccountCaps(agent=of_day(tokens=120_000)), Limits()),
    "all": (
        AccountCaps(tenant=of_day(cost_usd=Decimal("0.9")), user=of_day(tokens=100_000), agent=of_day(tool_calls=60)),
        Limits(tokens=40_000),
    ),
}


@pytest.mark.parametrize(
    ("scope", "kind"), [*((scope, "memory") for scope in CAPS), ("run", "sqlite"), ("all", "sqlite")]
)
async def test_fifty_agents_of_three_workers_never_exceed_one_limit(scope: str, kind: str, tmp_path: Path) -> None:
    caps, limits = CAPS[scope]
    model, is_one = GreedyModel(), scope == "run"
    async with stores_of(kind, tmp_path) as stores, AsyncExitStack() as stack:
        bus = MemoryBus(SystemClock())
        apps = [
            await stack.enter_async_context(
                team(model, tools=[look], stores=replace(stores, bus=bus), caps=caps, limits=limits, scope="all")
            )
            for _ in range(3)
        ]
        plans = [fan(50)] if is_one else [fan(5)] * 10
        runs = [(await apps[i % 3].submit("x", plan=plan)).id for i, plan in enumerate(plans)]
        ends = await statuses(apps[0], runs)
        states = [await apps[0].state(run) for run in runs]
        await check_books(stores, caps)
        charged = await settled(stores)
    assert "limited" in ends
    for state in states:
        assert not exceeds(caps_of(limits), state.usage)
    if is_one:
        assert not exceeds(caps_of(limits), model.billed)
    for name, used in charged.items():
        assert used.tokens == model.billed.tokens, name  # nothing is spent beside the books
    assert bool(charged) == (not is_one)


async def settled(stores: Stores) -> dict[str, Usage]:
    """What each account was charged; nothing may be left open, though the last settlements may be under way."""
    reader = Accounts(stores.journal, clock=SystemClock(), ids=Ids(lambda: 1))
    async with asyncio.timeout(10):
        while True:
            books = {h.run: await reader.book(h.run) for h in await stores.journal.heads(HeadQuery(tenant=TENANT))}
            if not any(book.open for book in books.values()):
                break
            await asyncio.sleep(0.01)
    return {name: book.settled for name, book in books.items()}


async def check_books(stores: Stores, caps: AccountCaps) -> None:
    """No account ever held and charged more than its cap, at no event of its journal."""
    for head in await stores.journal.heads(HeadQuery(tenant=TENANT)):
        cap, book = getattr(caps, head.run.split("_")[1]).day, Book()
        for event in await stores.journal.read(head.run, 0, 100_000):
            book.apply(event)
            taken = cap.of(book.settled).plus(book.held())
            over = [c for c in CAPS_ if getattr(cap, c) is not None and getattr(taken, c) > getattr(cap, c)]
            assert not over, (head.run, event.seq, taken)


def caps_of(limits: Limits) -> Allotment:
    return Allotment(tokens=limits.tokens, cost_usd=limits.cost_usd)


def exceeds(cap: Allotment, used: Usage) -> bool:
    taken = cap.of(used)
    return any(getattr(cap, c) is not None and getattr(taken, c) > getattr(cap, c) for c in CAPS_)


async def until_over(app: Collegium, runs: Sequence[str], clock: FakeClock) -> list[str]:
    async with asyncio.timeout(60):
        while True:
            states = [await app.state(run) for run in runs]
            if all(s.finished is not None for s in states):
                return [s.status for s in states]
            await clock.advance(0.5)


async def test_midnight_in_the_middle_of_a_run_begins_a_new_account() -> None:
    clock = FakeClock(datetime(2026, 11, 22, 23, 59, 50, tzinfo=UTC))
    caps = AccountCaps(tenant=of_day(tokens=40_000), user=PeriodCaps(month=Allotment(tokens=1_000_000)))
    stores, model = memory_stores(clock), GreedyModel(clock=clock)
    chain = fan(3)
    chain = Plan(
        tasks=tuple(replace_struct(t, depends_on=(f"t{i - 1}",) if i else ()) for i, t in enumerate(chain.tasks))
    )
    waiting = asyncio.Event()

    @tool(effect="read", name="look", capabilities=["operate"])
    async def slow() -> str:
        """Look for a while."""
        waiting.set()
        await clock.sleep(6)
        return "nothing"

    async with team(model, tools=[slow], stores=stores, clock=clock, caps=caps) as app:
        run = await app.submit("x", plan=chain)
        ends = await until_over(app, [run.id], clock)
        accounts = (await run.state()).draws
    used = await settled(stores)
    days = {name: u.tokens for name, u in used.items() if "tenant" in name}
    assert [name.rpartition("_")[2] for name in sorted(days)] == ["2026-11-22", "2026-11-23"], (ends, accounts)
    assert all(tokens <= 40_000 for tokens in days.values())
    assert sum(days.values()) == model.billed.tokens
    assert used["acct_user_default.local_2026-11"].tokens == model.billed.tokens


async def test_a_run_that_finds_its_account_empty_ends_limited_and_says_which() -> None:
    clock = FakeClock(NOON)
    caps = AccountCaps(user=of_day(tokens=9_000))
    stores = memory_stores(clock)
    async with team(GreedyModel(), tools=[look], stores=stores, clock=clock, caps=caps) as app:
        first = [(await app.submit("x", plan=fan(1))).id]
        assert await until_over(app, first, clock) == ["succeeded"]  # told to wrap up, it did
        second = await app.submit("x", plan=fan(2))
        await until_over(app, [second.id], clock)
        report = await second.result()
        other = await app.submit("x", plan=fan(1), principal="maria")
        await until_over(app, [other.id], clock)
        assert (await other.state()).usage.tokens > 0  # every user has a day of their own
    assert report.status == "limited"
    assert report.error == "limited"
    assert "the user 'local' on 2026-11-22 may use 9,000 tokens and has used 9,000;" in report.reason
    assert "the day ends at 2026-11-23 00:00 UTC: wait, or raise limits.user.day_tokens" in report.reason


async def test_a_run_that_waits_for_a_person_holds_nothing() -> None:
    clock = FakeClock(NOON)
    stores, caps = memory_stores(clock), AccountCaps(tenant=of_day(tokens=100_000))
    async with team(GreedyModel(), tools=[look], stores=stores, clock=clock, caps=caps) as app:
        run = await app.submit("x", is_plan_reviewed=True)
        async with asyncio.timeout(20):
            while (await run.state()).status != "waiting":
                await clock.advance(0.2)
        used = await settled(stores)
        (asked,) = (await run.state()).open_approvals
        await app.answer(asked.id, "approve", principal="maria")
        await until_over(app, [run.id], clock)
        assert len((await run.state()).draws) > 1
    assert sum(u.tokens for u in used.values()) > 0  # the plan was paid for


async def test_without_caps_nothing_is_written_beside_the_run() -> None:
    stores = memory_stores(SystemClock())
    async with team(GreedyModel(), tools=[look], stores=stores) as app:
        run = await app.submit("x", plan=fan(2))
        assert (await run.result()).status == "succeeded"
    assert {h.run for h in await stores.journal.heads(HeadQuery())} == {run.id}
    assert not (await stores.journal.heads(HeadQuery(tenant=TENANT)))


async def test_accounts_stand_in_no_listing_and_are_nobodys_runs() -> None:
    stores, caps = memory_stores(SystemClock()), AccountCaps(tenant=of_day(tokens=200_000))
    async with team(GreedyModel(), tools=[look], stores=stores, caps=caps, scope="all") as app:
        run = await app.submit("x", plan=fan(2))
        assert (await run.result()).status == "succeeded"
        assert [h.run for h in await app.runs()] == [run.id]
        (account,) = await stores.journal.heads(HeadQuery(tenant=TENANT))
        with pytest.raises(NotFound):
            await app.result(account.run)


class Mortal:
    """A journal whose process dies with its n-th append, before or after that is stored."""

    def __init__(self, inner: Any, dies_at: int, *, is_stored: bool) -> None:
        self._inner = inner
        self._left = dies_at
        self._is_stored = is_stored
        self.is_dead = False

    def append(self, run: str, drafts: Sequence[Draft], **options: Any) -> Receipt:
        self._left -= 1
        if self._left == 0:
            if self._is_stored:
                self._inner.append(run, drafts, **options)
            self.is_dead = True
        receipt: Receipt = Nothing() if self.is_dead else self._inner.append(run, drafts, **options)
        return receipt

    def __getattr__(self, name: str) -> Any:
        if self.is_dead:
            raise StoreUnavailable("this process is dead")
        return getattr(self._inner, name)


class Nothing:
    async def durable(self) -> tuple[Any, ...]:
        raise StoreUnavailable("this process is dead")


@pytest.mark.parametrize("seed", range(10))
async def test_whatever_dies_between_account_and_run_the_caps_hold_and_orphans_come_back(seed: int) -> None:
    """Each seed kills two processes one after the other, at appends of any journal."""
    chance, clock = random.Random(seed), FakeClock(NOON)
    caps = AccountCaps(
        tenant=of_day(tokens=300_000), user=of_day(cost_usd=Decimal("1.2")), agent=of_day(tokens=400_000)
    )
    stores, model = memory_stores(clock), GreedyModel(2)
    runs: list[str] = []
    for _ in range(2):
        journal = Mortal(stores.journal, chance.randint(1, 60), is_stored=chance.random() < 0.5)
        own = replace(stores, journal=journal, bus=MemoryBus(clock))
        async with team(model, tools=[look], stores=own, clock=clock, caps=caps, scope="all") as app:
            with suppress(StoreUnavailable):
                runs += [(await app.submit("x", plan=fan(3))).id for _ in range(2)]
            for _ in range(20):
                await clock.advance(0.5)
    async with team(model, tools=[look], stores=stores, clock=clock, caps=caps, scope="all") as heir:
        runs = [h.run for h in await heir.runs()]
        await until_over(heir, runs, clock)
        for _ in range(8):
            await clock.advance(ORPHAN_S / 2)
        charged = await settled(stores)
    await check_books(stores, caps)
    for name, used in charged.items():
        assert used.tokens >= model.billed.tokens, name
