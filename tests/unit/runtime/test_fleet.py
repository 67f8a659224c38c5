"""A worker's card, the orders it hears, and who sees and sends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from collegium.adapters.memory.bus import MemoryBus
from collegium.adapters.memory.directory import MemoryDirectory
from collegium.domain.errors import StoreUnavailable, UnknownName, UsageError
from collegium.domain.ids import Ids
from collegium.domain.message import Message, control_topic
from collegium.domain.worker import AgentCard, WorkerCard
from collegium.runtime.cards import CARD_S, LOOK_S, TTL_S, Cards, Place
from collegium.runtime.fleet import Fleet, takers
from collegium.runtime.orders import AGAIN_S, HEAR_S, Orders, order
from collegium.testing.clock import FakeClock

PLACE = Place("one", 7, "1.2")
WRITER = AgentCard(name="writer", version="ab", capabilities=("write",))


class Worker:
    """What a card tells of."""

    id = "wrk_00000001"
    concurrency = 8
    capabilities = ("plan", "write")

    def __init__(self) -> None:
        self.is_draining = False
        self.load = 0


class Away(MemoryBus, MemoryDirectory):
    """A bus, or a directory, that is away until it is back."""

    def __init__(self, clock: FakeClock) -> None:
        MemoryBus.__init__(self, clock)
        self._cards = MemoryDirectory(clock)
        self.is_away = False

    def _look(self) -> None:
        if self.is_away:
            raise StoreUnavailable("it is away")

    async def read(self, *args: Any, **kwargs: Any) -> tuple[Message, ...]:
        self._look()
        return await MemoryBus.read(self, *args, **kwargs)

    async def post(self, card: WorkerCard, *, ttl_s: float) -> None:
        self._look()
        await self._cards.post(card, ttl_s=ttl_s)

    async def cards(self) -> tuple[WorkerCard, ...]:
        return await self._cards.cards()

    async def remove(self, worker: str) -> None:
        self._look()
        await self._cards.remove(worker)


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None], clock: FakeClock) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    await clock.advance(0)
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def ids() -> Ids:
    return Ids(lambda: 1_000)


async def test_a_card_is_shown_as_long_as_the_worker_works() -> None:
    clock, worker = FakeClock(), Worker()
    directory = MemoryDirectory(clock)
    cards = Cards(
        worker, directory, place=PLACE, clock=clock, agents=lambda: (WRITER,), models=lambda: ("local:small",)
    )
    async with running(cards.show(), clock):
        (shown,) = await directory.cards()
        assert (shown.worker, shown.host, shown.pid, shown.version) == (worker.id, "one", 7, "1.2")
        assert (shown.state, shown.capabilities, shown.concurrency) == ("ready", ("plan", "write"), 8)
        assert (shown.agents, shown.models) == ((WRITER,), ("local:small",))
        worker.load = 3
        await clock.advance(CARD_S + LOOK_S)
        assert (await directory.cards())[0].load == 3
        worker.is_draining = True
        await clock.advance(LOOK_S)
        assert (await directory.cards())[0].state == "draining", "a change is shown at once"
    await clock.advance(TTL_S)
    assert await directory.cards() == (), "who is gone without a word fades"


async def test_a_worker_that_leaves_takes_its_card_away() -> None:
    clock = FakeClock()
    directory = MemoryDirectory(clock)
    cards = Cards(Worker(), directory, place=PLACE, clock=clock)
    await cards.post()
    await cards.remove()
    assert await directory.cards() == ()


async def test_a_directory_that_is_away_stops_nothing() -> None:
    clock = FakeClock()
    directory = Away(clock)
    directory.is_away = True
    cards = Cards(Worker(), directory, place=PLACE, clock=clock)
    async with running(cards.show(), clock):
        await clock.advance(3 * CARD_S)
        assert await directory.cards() == ()
        directory.is_away = False
        await clock.advance(CARD_S)
        assert len(await directory.cards()) == 1
    directory.is_away = True
    await cards.remove()


async def test_an_event_loop_that_stood_still_shows_as_lag() -> None:
    clock = FakeClock()
    directory = MemoryDirectory(clock)
    slow = 0.0

    class Late(FakeClock):
        def monotonic(self) -> float:
            return super().monotonic() + slow

    late = Late()
    cards = Cards(Worker(), directory, place=PLACE, clock=late)
    async with running(cards.show(), late):
        await late.advance(1.0)
        slow = 2.0  # the loop turned two seconds later than it should have
        await late.advance(LOOK_S)
        assert cards.card().lag_s == pytest.approx(2.0, abs=0.3)
        await late.advance(60)
        assert cards.card().lag_s < 0.01


async def nothing(run: str) -> None:
    raise AssertionError(run)


async def test_an_order_to_drain_is_heard_once_and_by_one() -> None:
    clock = FakeClock()
    bus = MemoryBus(clock)
    first, second = (Orders(name, bus, clock=clock, look=nothing) for name in ("wrk_1", "wrk_2"))
    fleet = Fleet(MemoryDirectory(clock), bus, ids=ids())
    async with running(first.hear(), clock), running(second.hear(), clock):
        await fleet.drain("wrk_1", by="ann")
        await clock.advance(0.01)
        assert first.dismissed.is_set()
        assert not second.dismissed.is_set()


async def test_orders_that_cannot_be_understood_are_left_out() -> None:
    clock = FakeClock()
    bus = MemoryBus(clock)
    looks: list[str] = []
    orders = Orders("wrk_1", bus, clock=clock, look=told(looks))
    async with running(orders.hear(), clock):
        for body in ({}, {"order": "look"}, {"order": "dance"}, {"order": "look", "run": 7}):
            await bus.publish(Message(id=f"m{len(body)}", topic=control_topic("wrk_1"), tenant="x", body=body))
            await clock.advance(0.01)
        await order(bus, "wrk_1", ids(), tenant="x", order="look", run="run_1")
        await clock.advance(0.01)
        assert looks == ["run_1"]
        assert not orders.dismissed.is_set()


async def test_a_bus_that_was_emptied_is_heard_from_its_beginning() -> None:
    clock = FakeClock()
    looks: list[str] = []
    bus = MemoryBus(clock)
    orders = Orders("wrk_1", bus, clock=clock, look=told(looks))
    async with running(orders.hear(), clock):
        for number in range(3):
            await order(bus, "wrk_1", Ids(lambda n=number: 1_000 + n), tenant="x", order="look", run=f"run_{number}")  # type: ignore[misc]
        await clock.advance(0.01)
        bus.__init__(clock)  # type: ignore[misc] # what it held is gone, and it counts from one again
        await order(bus, "wrk_1", Ids(lambda: 2_000), tenant="x", order="look", run="run_late")
        await clock.advance(2 * HEAR_S)
    assert looks == ["run_0", "run_1", "run_2", "run_late"]


async def test_a_bus_that_comes_back_is_heard_again() -> None:
    clock = FakeClock()
    bus = Away(clock)
    bus.is_away = True
    orders = Orders("wrk_1", bus, clock=clock, look=nothing)
    async with running(orders.hear(), clock):
        await Fleet(None, bus, ids=ids()).drain("wrk_1")
        await clock.advance(5 * AGAIN_S)
        assert not orders.dismissed.is_set()
        bus.is_away = False
        await clock.advance(AGAIN_S)
        assert orders.dismissed.is_set()


async def test_workers_are_found_by_the_end_of_their_ids() -> None:
    clock = FakeClock()
    directory = MemoryDirectory(clock)
    fleet = Fleet(directory, MemoryBus(clock), ids=ids())
    with pytest.raises(UnknownName, match="nor any other"):
        await fleet.find("wrk_1")
    cards = [_card("wrk_0001abcd"), _card("wrk_0002abcd"), _card("wrk_0003ffff", state="draining")]
    for card in cards:
        await directory.post(card, ttl_s=10)
    assert (await fleet.find("0002abcd")).worker == "wrk_0002abcd"
    assert (await fleet.find("wrk_0003ffff")).worker == "wrk_0003ffff"
    with pytest.raises(UsageError, match="2 workers"):
        await fleet.find("abcd")
    with pytest.raises(UnknownName, match="wrk_0003ffff"):
        await fleet.find("wrk_0003fffe")
    assert [one.worker for one in takers(cards, "write")] == ["wrk_0001abcd", "wrk_0002abcd"]
    assert takers(cards, "dance") == ()


def told(heard: list[str]) -> Callable[[str], Coroutine[Any, Any, None]]:
    async def look(run: str) -> None:
        heard.append(run)

    return look


def _card(worker: str, *, state: Any = "ready", capabilities: Sequence[str] = ("write",)) -> WorkerCard:
    at = FakeClock().now()
    return WorkerCard(
        worker=worker, host="h", pid=1, version="1", started_at=at, at=at, state=state, capabilities=tuple(capabilities)
    )
