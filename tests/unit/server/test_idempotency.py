"""The same change sent twice: made once, answered the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
from starlette.requests import HTTPConnection

from collegium.adapters.clock import SystemClock
from collegium.adapters.memory.quota import MemoryQuota
from collegium.adapters.memory.records import MemoryRecords
from collegium.app import Collegium, Stores
from collegium.domain.principal import SCOPES, Principal
from collegium.domain.record import Record
from collegium.server.idempotency import HOLD_S, KEPT, KIND
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from tests.unit.server.conftest import Serve
from tests.unit.stores.moved import Hanging, working

GOALS = {"runs": [{"goal": "Do both."}]}


async def post(http: httpx.AsyncClient, key: str, body: object = GOALS, path: str = "/v1/runs/batch") -> httpx.Response:
    return await http.post(path, json=body, headers={"idempotency-key": key})


async def count(app: Collegium) -> int:
    return len(await app.runs())


async def test_the_first_answer_is_given_again(serve: Serve):
    async with team(Hanging()) as app:
        http = (await serve(app)).http
        first, again = await post(http, "one"), await post(http, "one")
        assert first.json() == again.json()
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        assert await count(app) == 1
        assert (await post(http, "two")).json() != first.json()
        other = await post(http, "one", {"runs": [{"goal": "Else."}]})
        assert (other.status_code, other.json()["code"]) == (422, "key_reused")
        assert await count(app) == 2


async def test_a_refusal_is_an_answer_too_and_a_fault_is_none(serve: Serve):
    async with team(Hanging()) as app:
        http = (await serve(app)).http
        first, again = await post(http, "one", {"runs": []}), await post(http, "one", {"runs": []})
        assert (first.status_code, again.status_code) == (422, 422)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["content-type"] == "application/problem+json"


async def test_while_the_first_is_answered_the_second_is_told_so(serve: Serve):
    records = Slow(memory_stores(SystemClock()))
    async with team(Hanging(), stores=records.stores) as app:
        http = (await serve(app)).http
        first = asyncio.ensure_future(post(http, "one"))
        await records.reached.wait()
        second = await post(http, "one")
        assert (second.status_code, second.json()["code"]) == (409, "in_progress")
        records.go.set()
        assert (await first).status_code == 200
        assert (await post(http, "one")).json() == (await first).json()
        assert await count(app) == 1


async def test_processes_share_what_is_under_way(serve: Serve):
    stores = replace(memory_stores(SystemClock()), quota=MemoryQuota(SystemClock()))
    records = Slow(stores)
    async with team(Hanging(), stores=records.stores) as one, team(Hanging(), stores=records.stores) as two:
        here, there = (await serve(one)).http, (await serve(two)).http
        first = asyncio.ensure_future(post(here, "one"))
        await records.reached.wait()
        assert (await post(there, "one")).json()["code"] == "in_progress"
        records.go.set()
        assert (await first).json() == (await post(there, "one")).json()


async def test_answers_are_kept_for_a_day(serve: Serve):
    clock = FakeClock()
    async with team(Hanging(), clock=clock, scope="none") as app:
        http = (await serve(app)).http
        first = await post(http, "one")
        await clock.advance(KEPT.total_seconds() - 1)
        assert (await post(http, "one")).json() == first.json()
        await clock.advance(1)
        assert (await post(http, "one")).json() != first.json()
        await clock.advance(KEPT.total_seconds())
        for n in range(50):
            await post(http, f"more-{n}", {"runs": []})
        assert len(await app.stores.records.find(KIND, "default", limit=100)) == 50


async def test_a_key_that_is_none_is_refused(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        assert (await post(http, "x" * 201)).status_code == 400
        assert (await post(http, "x" * 201, {"goal": "x"}, "/v1/runs")).status_code == 400


async def test_a_submit_is_answered_again_whatever_has_changed_since(serve: Serve):
    """The file is gone and the answer as well; the run is there, and is what the key stands for."""
    async with team(Hanging()) as app:
        http = (await serve(app)).http
        upload = (await http.post("/v1/uploads?name=a", content=b"a")).json()["id"]
        goal = {"goal": "Read.", "files": [upload]}
        first = await post(http, "one", goal, "/v1/runs")
        await http.delete(f"/v1/uploads/{upload}")
        again = await post(http, "one", goal, "/v1/runs")
        assert (again.status_code, again.json()) == (202, first.json())
        assert again.headers["location"] == first.headers["location"]


async def test_keys_of_one_principal_are_not_those_of_another(serve: Serve):
    class As:
        async def identify(self, connection: HTTPConnection) -> Principal:
            name = connection.headers["authorization"]
            return Principal(id=f"key:{name}", tenant="default", scopes=SCOPES, kind="key")

    async with team(Hanging()) as app:
        http = (await serve(app, authenticator=As())).http
        runs = set()
        for name in ("anna", "berta", "anna"):
            head = {"idempotency-key": "one", "authorization": name}
            runs.add((await http.post("/v1/runs", json={"goal": "Read."}, headers=head)).json()["run_id"])
        assert len(runs) == 2


async def test_a_hold_is_renewed_and_ends_with_its_process(serve: Serve):
    clock = FakeClock()
    quota = MemoryQuota(clock)
    records = Slow(replace(memory_stores(SystemClock()), quota=quota))
    async with team(Hanging(), stores=records.stores) as one, team(Hanging(), stores=records.stores) as two:
        here, there = (await serve(one)).http, (await serve(two)).http
        first = asyncio.ensure_future(post(here, "one"))
        await records.reached.wait()
        assert (await post(there, "one")).headers["retry-after"]
        await clock.advance(HOLD_S + 1)  # as if the process had died: nobody has renewed
        records.go.set()
        assert (await post(there, "one")).status_code == 200
        await first


class Slow:
    """Stores whose answers to changes are kept only once they may be."""

    def __init__(self, stores: Stores) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        self.stores = replace(stores, records=SlowRecords(self))


class SlowRecords(MemoryRecords):
    """Waits before it keeps an answer."""

    def __init__(self, slow: Slow) -> None:
        super().__init__()
        self._slow = slow

    async def put(self, record: Record, *, expected: int | None = None) -> Record:
        if record.kind == KIND and not self._slow.go.is_set():
            self._slow.reached.set()
            await self._slow.go.wait()
        return await super().put(record, expected=expected)
