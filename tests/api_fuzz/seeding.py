"""What a server is given before it is fuzzed, so that ids lead somewhere: one of everything that can be found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx

from collegium.domain.message import Message
from collegium.ports import Bus

TOPIC = "orders"
PLAN = {"tasks": [{"id": "one", "title": "One", "capability": "operate", "instructions": "Say it."}]}
EACH = 6
"""So many of what a case may remove."""
SOON_S = 30.0


class Seeds(NamedTuple):
    """Ids by the parameter that takes them."""

    ids: dict[str, list[str]]

    def shown(self) -> str:
        """How many there are of each."""
        return ", ".join(f"{len(ids)} {name}" for name, ids in sorted(self.ids.items()))


async def leave_dead_letters(bus: Bus, tenant: str) -> None:
    """Leaves messages of ``TOPIC`` that a group has given up."""
    for n in range(EACH):
        await bus.publish(Message(id=f"order-{n}", topic=TOPIC, tenant=tenant, body={"order": n}))
    for claim in await bus.claim([TOPIC], "desk", EACH):
        await bus.settle(claim, dead="no such order")


async def seed(http: httpx.AsyncClient) -> Seeds:
    """Makes runs that have ended and one that waits, uploads, schedules, webhooks, keys, and names them."""

    async def made(path: str, body: dict[str, Any]) -> Any:
        reply = await http.post(path, json=body)
        assert reply.is_success, (path, reply.text)
        return reply.json()

    uploads = [await _upload(http, f"notes-{n}.txt") for n in range(EACH)]
    ended = [await made("/v1/runs", {"goal": f"Say it {n}.", "files": uploads[:1]}) for n in range(2)]
    waiting = [await made("/v1/runs", {"goal": f"Ask {n}.", "plan": PLAN, "review_plan": True}) for n in range(EACH)]
    conversation = {"goal": "And more?", "continues": ended[0]["run_id"]}
    hooks = [await made("/v1/webhooks", {"url": f"https://example.org/{n}"}) for n in range(EACH)]
    schedules = [await made("/v1/schedules", {"cron": "@yearly", "goal": f"Say {n}."}) for n in range(EACH)]
    keys = [await made("/v1/keys", {"roles": ["viewer"], "name": f"seed {n}"}) for n in range(EACH)]
    for run in ended:
        await _until(http, f"/v1/runs/{run['run_id']}", lambda told: told["status"] == "succeeded")
    found = (await _until(http, "/v1/approvals", lambda told: len(told["items"]) >= EACH))["items"]
    ended.append(await made("/v1/runs", conversation))
    agents = (await http.get("/v1/agents")).json()["items"]
    tools = (await http.get("/v1/tools")).json()["items"]
    return Seeds(
        {
            "run": [one["run_id"] for one in (*ended, *waiting)],
            "upload": uploads,
            "hook": [one["webhook"]["id"] for one in hooks],
            "schedule": [one["schedule_id"] for one in schedules],
            "key": [one["shown"]["key_id"] for one in keys],
            "approval": [one["approval_id"] for one in found],
            "agent": [one["name"] for one in agents],
            "tool": [one["name"] for one in tools],
            "topic": [TOPIC],
        }
    )


async def _until(http: httpx.AsyncClient, path: str, is_there: Callable[[Any], bool]) -> Any:
    """What is told at ``path`` once it is as it should be."""
    async with asyncio.timeout(SOON_S):
        while True:
            if is_there(told := (await http.get(path)).json()):
                return told
            await asyncio.sleep(0.02)


async def _upload(http: httpx.AsyncClient, name: str) -> str:
    kind = {"content-type": "application/octet-stream"}
    reply = await http.post("/v1/uploads", params={"name": name}, content=b"The notice is 30 days.", headers=kind)
    assert reply.status_code == 201, reply.text
    found: str = reply.json()["id"]
    return found
