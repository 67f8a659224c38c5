"""What happens is told while it happens: each event once, in order, to all who look on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from collegium.adapters.clock import SystemClock
from collegium.domain.errors import NotAllowed, NotFound, UsageError
from collegium.domain.event import Event
from collegium.domain.message import Message
from collegium.domain.principal import Principal, local
from collegium.server.access.live import LiveAccess
from collegium.server.live.change import MOST, Change, RunChange, Taker, Token, Told
from collegium.server.live.hub import Hub
from collegium.testing.harness import memory_stores, own_bus, team
from tests.unit.server.conftest import Serve
from tests.unit.stores.moved import working

SOON_S = 20.0
VIEWER = Principal(id="key:v", tenant="default", scopes=frozenset({"runs:read"}), kind="key")


async def collected(events: AsyncIterator[Event]) -> list[int]:
    async with asyncio.timeout(SOON_S):
        return [event.seq async for event in events]


async def test_a_run_is_followed_from_any_place_to_its_end() -> None:
    async with team(working()) as app:
        run = await app.submit("Do both.")
        hub = Hub(app)
        live = LiveAccess(hub, local("default"))
        everything = await collected(live.follow(run.id))
        assert everything == list(range(1, everything[-1] + 1))
        assert (await app.stores.journal.read(run.id))[-1].seq == everything[-1]
        assert await collected(live.follow(run.id, after=3)) == everything[3:]
        assert await collected(live.follow(run.id, after=everything[-1])) == []
        assert hub.watched == 0


async def test_what_another_process_does_is_seen_without_any_hint() -> None:
    stores = memory_stores(SystemClock())
    async with team(working(), stores=own_bus(stores), scope="none") as looking:
        async with team(working(), stores=stores) as working_:
            run = await working_.submit("Do both.")
            seen = await collected(LiveAccess(Hub(looking), local("default")).follow(run.id))
        assert seen == [event.seq for event in await stores.journal.read(run.id)]


async def test_many_who_follow_cost_one_reader() -> None:
    async with team(working()) as app:
        run = await app.submit("Do both.")
        hub = Hub(app)
        live = LiveAccess(hub, local("default"))
        following = [asyncio.create_task(collected(live.follow(run.id, after=n % 7))) for n in range(50)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert hub.watched == 1
        seen = await asyncio.gather(*following)
        for n, numbers in enumerate(seen):
            assert numbers == list(range(n % 7 + 1, seen[0][-1] + 1))


async def test_nobody_follows_what_is_anothers() -> None:
    async with team(working()) as app:
        run = await app.submit("Do both.", tenant="other")
        with pytest.raises(NotFound):
            await collected(LiveAccess(Hub(app), local("default")).follow(run.id))
        with pytest.raises(NotFound):
            await anext(aiter(LiveAccess(Hub(app), local("default")).changes(f"runs.{run.id}.board")))
        with pytest.raises(NotAllowed):
            await anext(aiter(LiveAccess(Hub(app), VIEWER).changes("workers")))
        for topic in ("tasks.write", "control.wrk_1", "views.hints", "runs.run_1.events", "a b"):
            with pytest.raises(UsageError):
                await anext(aiter(LiveAccess(Hub(app), local("default")).changes(topic)))


async def told(changes: AsyncIterator[Change], key: str, value: object) -> Change:
    async with asyncio.timeout(SOON_S):
        async for change in changes:
            if change.key == key and (value is None or change.value == value):
                return change
    raise AssertionError("it ended")


async def test_lists_tell_what_is_there_and_what_changes() -> None:
    async with team(working()) as app:
        before = await app.submit("Do both.")
        await before.result()
        async with aclosing(LiveAccess(Hub(app), VIEWER).changes("runs", "approvals")) as changes:
            head = await app.stores.journal.head(before.id)
            assert head is not None
            end = RunChange(run_id=before.id, status="succeeded", seq=head.seq)
            assert (await told(changes, before.id, end)).topic == "runs"
            await app.submit("Do both.", tenant="other")
            run = await app.submit("Do both.")
            await run.result()
            head = await app.stores.journal.head(run.id)
            assert head is not None
            await told(changes, run.id, RunChange(run_id=run.id, status="succeeded", seq=head.seq))


async def test_a_topic_tells_the_messages_of_its_tenant_alone() -> None:
    async with team(working()) as app:

        async def post() -> None:
            for n in range(10_000):
                for tenant in ("other", "default"):
                    message = Message(id=f"{n}.{tenant}", topic="agents.writer.inbox", tenant=tenant, body={"n": n})
                    await app.stores.bus.publish(message)
                await asyncio.sleep(0.001)

        posting = asyncio.ensure_future(post())
        async with aclosing(LiveAccess(Hub(app), local("default")).changes("agents.writer.inbox")) as changes:
            async with asyncio.timeout(SOON_S):
                seen = [(await anext(changes)).key.split(".") for _ in range(5)]
        posting.cancel()
        first = int(seen[0][0])
        assert seen == [[str(first + n), "default"] for n in range(5)]


def test_of_each_thing_the_latest_is_kept_and_of_all_not_too_many() -> None:
    taker = Taker(lambda: None)
    for n in range(3):
        taker.offer(Told(Change(topic="runs", key="a", value=n)))
    assert [one.change.value for one in taker.take()] == [2]
    for n in range(MOST + 5):
        taker.offer(Told(Change(topic="runs", key=str(n), value=n)))
    taken = taker.take()
    assert len(taken) == MOST + 1
    assert taken[0].change == Change(topic="runs", is_resync=True)
    assert taker.take() == []


def test_pieces_of_one_text_are_joined() -> None:
    taker = Taker(lambda: None)
    for at, text in ((0, "Once "), (5, "upon "), (10, "a time")):
        token = Token(task="t", attempt=1, call=1, at=at, text=text)
        taker.offer(Told(Change(topic="x.deltas", key="t", value=token)))
    (one,) = taker.take()
    assert json.loads(one.text)["value"]["text"] == "Once upon a time"
    for at, text in ((16, "."), (0, "Again")):
        token = Token(task="t", attempt=1, call=1 if at else 2, at=at, text=text)
        taker.offer(Told(Change(topic="x.deltas", key="t", value=token)))
    (one,) = taker.take()
    assert json.loads(one.text)["value"]["text"] == "Again"


async def test_a_stream_of_events_goes_on_where_it_broke_off(serve: Serve) -> None:
    async with team(working()) as app:
        served = await serve(app)
        run = await app.submit("Do both.")
        seen: list[int] = []
        is_over = False
        while not is_over:
            headers = {"accept": "text/event-stream", "last-event-id": str(seen[-1] if seen else 0)}
            async with served.http.stream("GET", f"/v1/runs/{run.id}/events?after=1", headers=headers) as reply:
                assert reply.headers["content-type"].startswith("text/event-stream")
                count = 0
                async for line in reply.aiter_lines():
                    if line.startswith("id: "):
                        seen.append(int(line[4:]))
                        count += 1
                    if line == "event: end":
                        is_over = True
                    if count == 4:
                        break
        assert seen == [event.seq for event in await app.stores.journal.read(run.id)]
        missing = await served.http.get("/v1/runs/run_none/events", headers={"accept": "text/event-stream"})
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
