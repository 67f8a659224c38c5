"""Pages of a list that changes while it is read: nothing comes twice, nothing that was there throughout is missed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import httpx
import pytest

from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.stores.moved import Hanging, working

PLAN = {"tasks": [{"id": "one", "title": "One", "capability": "operate", "instructions": "Do it."}]}
SOON_S = 20.0
AT_FIRST, ROUNDS = 5, 4


class Listed(NamedTuple):
    """A list: where it is, how one more comes into it, how one goes."""

    path: str
    id_: str
    add: Callable[[httpx.AsyncClient], Awaitable[str]]
    remove: Callable[[httpx.AsyncClient, str], Awaitable[object]]


async def _posted(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Any:
    reply = await http.post(path, json=body)
    assert reply.is_success, reply.text
    return reply.json()


async def _running(http: httpx.AsyncClient) -> str:
    run: str = (await _posted(http, "/v1/runs", {"goal": "Do it.", "plan": PLAN}))["run_id"]
    return run


async def _cancelled(http: httpx.AsyncClient, run: str) -> None:
    await _posted(http, f"/v1/runs/{run}/cancel", {})
    await _until(http, f"/v1/runs/{run}", lambda told: told["status"] == "cancelled")


async def _asked(http: httpx.AsyncClient) -> str:
    body = {"goal": "Do it.", "plan": PLAN, "review_plan": True}
    run = (await _posted(http, "/v1/runs", body))["run_id"]
    told = await _until(
        http, "/v1/approvals?limit=200", lambda told: any(one["run_id"] == run for one in told["items"])
    )
    return next(str(one["approval_id"]) for one in told["items"] if one["run_id"] == run)


async def _rejected(http: httpx.AsyncClient, approval: str) -> None:
    await _posted(http, f"/v1/approvals/{approval}/answer", {"answer": "reject"})
    await _until(http, f"/v1/approvals/{approval}", lambda told: told["status"] != "open")


async def _scheduled(http: httpx.AsyncClient) -> str:
    return str((await _posted(http, "/v1/schedules", {"cron": "@yearly", "goal": "Do it."}))["schedule_id"])


async def _uploaded(http: httpx.AsyncClient) -> str:
    kind = {"content-type": "application/octet-stream"}
    return str((await http.post("/v1/uploads?name=a.txt", content=b"x", headers=kind)).json()["id"])


async def _hooked(http: httpx.AsyncClient) -> str:
    return str((await _posted(http, "/v1/webhooks", {"url": "https://example.org/a"}))["webhook"]["id"])


def _deleted(path: str) -> Callable[[httpx.AsyncClient, str], Awaitable[object]]:
    return lambda http, id_: http.delete(f"{path}/{id_}")


LISTS = {
    "runs of a status": Listed("/v1/runs?status=running,queued,waiting", "run_id", _running, _cancelled),
    "approvals": Listed("/v1/approvals?", "approval_id", _asked, _rejected),
    "schedules": Listed("/v1/schedules?", "schedule_id", _scheduled, _deleted("/v1/schedules")),
    "uploads": Listed("/v1/uploads?", "id", _uploaded, _deleted("/v1/uploads")),
    "webhooks": Listed("/v1/webhooks?", "id", _hooked, _deleted("/v1/webhooks")),
}


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_that_changes_is_read_whole_and_once(serve: Serve, name: str):
    listed, chance = LISTS[name], random.Random(name)
    async with team(Hanging()) as app:
        http = (await serve(app)).http
        there = {await listed.add(http) for _ in range(AT_FIRST)}
        for _ in range(ROUNDS):
            stayed, seen, after = set(there), list[str](), ""
            while True:
                page = (await http.get(f"{listed.path}&limit={chance.randint(1, 3)}{after}")).json()
                seen += [one[listed.id_] for one in page["items"]]
                if page["next"] is None:
                    break
                after = f"&after={page['next']}"
                if chance.random() < 0.7:
                    there.add(await listed.add(http))
                if there and chance.random() < 0.6:
                    # Also the one that the cursor stands on.
                    gone = seen[-1] if seen[-1] in there and chance.random() < 0.5 else chance.choice(sorted(there))
                    await listed.remove(http, gone)
                    there.discard(gone)
                    stayed.discard(gone)
            assert len(seen) == len(set(seen))
            assert stayed <= set(seen)


async def test_events_that_come_while_they_are_read_are_each_read_once(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        run = (await _posted(http, "/v1/runs", {"goal": "Do both."}))["run_id"]
        chance, seen, is_over = random.Random(1), list[int](), False
        async with asyncio.timeout(SOON_S):
            while True:
                after = seen[-1] if seen else 0
                page = (await http.get(f"/v1/runs/{run}/events?limit={chance.randint(1, 4)}&after={after}")).json()
                seen += [one["seq"] for one in page["items"]]
                if is_over and not page["items"]:
                    break
                is_over = (await app.state(run)).finished is not None
        assert seen == list(range(1, len(await app.stores.journal.read(run)) + 1))


async def _until(http: httpx.AsyncClient, path: str, is_there: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(SOON_S):
        while True:
            if is_there(told := (await http.get(path)).json()):
                return told
            await asyncio.sleep(0.01)
