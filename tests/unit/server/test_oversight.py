"""Four eyes and kill switches over HTTP: who may not answer, and that a switch holds in another process at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.presence import MemoryPresence
from collegium.domain.head import RunStatus
from collegium.oversight.approvals import ApprovalPolicy
from collegium.testing.harness import memory_stores, own_bus, team
from tests.unit.runtime.people import asked, ended
from tests.unit.runtime.test_approvals import asking, mailer, mailing
from tests.unit.server.conftest import Serve
from tests.unit.server.test_auth_keys import bearer, door
from tests.unit.stores.moved import PLAN, working

SOON_S = 20.0
KINDS = ("tenant", "run", "agent", "tool")


async def test_whoever_submitted_may_not_approve_over_http(serve: Serve):
    sent: list[str] = []
    policy = ApprovalPolicy(tools=("send_mail",), is_four_eyes=True)
    async with team(mailing(), tools=[mailer(sent)], approvals=policy) as app:
        keeper = door(app, SystemClock())
        ada = await keeper.keys.create(tenant="default", roles=["operator", "approver"], created_by="test")
        bo = await keeper.keys.create(tenant="default", roles=["approver"], created_by="test")
        http = (await serve(app, authenticator=keeper)).http
        run = await asking(app, principal=f"key:{ada.key.id}")
        path = f"/v1/approvals/{(await asked(run)).id}/answer"
        own = await http.post(path, json={"answer": "approve"}, headers=bearer(ada.text))
        assert (own.status_code, own.json()["code"]) == (403, "not_allowed"), own.text
        assert "second pair of eyes" in own.json()["detail"]
        assert sent == []
        other = await http.post(path, json={"answer": "approve"}, headers=bearer(bo.text))
        assert other.status_code == 200, other.text
        assert (await ended(run)).status == "succeeded"
        assert len(sent) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_switch_that_is_thrown_over_http_holds_in_another_process_and_after_all_have_ended(
    serve: Serve, kind: str
):
    stores = memory_stores(SystemClock())

    async def listed(http: httpx.AsyncClient) -> list[tuple[str, str]]:
        return [(one["kind"], one["name"]) for one in (await http.get("/v1/stops")).json()["items"]]

    async with (
        team(working(), stores=replace(own_bus(stores), presence=MemoryPresence()), scope="none") as console,
        team(working(), stores=replace(stores, presence=MemoryPresence()), scope="all") as worker,
    ):
        run = await worker.submit("Do both.", plan=PLAN, is_plan_reviewed=True)
        await run.result()
        name = {"tenant": "default", "run": run.id, "agent": "operator", "tool": "calculate"}[kind]
        here, there = (await serve(console)).http, (await serve(worker)).http
        assert (await here.put(f"/v1/stops/{kind}/{name}", json={"reason": "audit"})).status_code == 200
        async with asyncio.timeout(SOON_S):
            while True:
                if await listed(there) == [(kind, name)]:
                    break
                await asyncio.sleep(0.01)
        (approval,) = (await there.get("/v1/approvals")).json()["items"]
        reply = await there.post(f"/v1/approvals/{approval['approval_id']}/answer", json={"answer": "approve"})
        assert reply.status_code == 200, reply.text
        # Without a tool its agents go on; the others rest, as long as anybody looks.
        assert await _ends(there, run.id, within_s=SOON_S if kind == "tool" else 0.3) is (kind == "tool")
    async with team(working(), stores=replace(stores, presence=MemoryPresence()), scope="all") as heir:
        http = (await serve(heir)).http
        assert await listed(http) == [(kind, name)], "it is kept"
        assert (await http.delete(f"/v1/stops/{kind}/{name}")).json()["was_stopped"] is True
        assert await _ends(http, run.id, within_s=SOON_S)


async def _ends(http: httpx.AsyncClient, run: str, *, within_s: float) -> bool:
    """Whether the run ends within that time."""
    over: tuple[RunStatus, ...] = ("succeeded", "failed", "cancelled")
    try:
        async with asyncio.timeout(within_s):
            while True:
                if (await http.get(f"/v1/runs/{run}")).json()["status"] in over:
                    return True
                await asyncio.sleep(0.02)
    except TimeoutError:
        return False
