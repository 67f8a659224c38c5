"""Approvals, schedules, stops, topics, usage, collections and what the installation has, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collegium.adapters.clock import SystemClock
from collegium.domain.message import Message
from collegium.domain.plan import Plan, Task
from collegium.server.access.page import place
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.server.test_auth_keys import bearer, door
from tests.unit.stores.moved import working

PLAN = Plan(tasks=(Task(id="one", title="One", capability="operate", instructions="Do it."),))
LISTS = ("approvals", "schedules", "stops", "topics", "usage/runs", "workers", "agents", "tools")


async def test_a_question_is_listed_shown_and_answered_once(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        run = await app.submit("Ask.", plan=PLAN, is_plan_reviewed=True)
        await run.result()
        (item,) = (await http.get("/v1/approvals")).json()["items"]
        assert (item["kind"], item["status"], item["answers"]) == ("plan", "open", ["approve", "reject"])
        where = f"/v1/approvals/{item['approval_id']}"
        assert (await http.post(f"{where}/answer", json={"answer": "done"})).status_code == 400
        assert (await http.post(f"{where}/answer", json={"answer": "approve", "plan": {"tasks": 3}})).status_code == 422
        edited = {"tasks": [{"id": "two", "title": "Two", "capability": "operate", "instructions": "Do that."}]}
        wanted = {"answer": "approve", "reason": "rather this", "plan": edited}
        said = (await http.post(f"{where}/answer", json=wanted)).json()
        assert (said["status"], said["answer"], said["reason"]) == ("answered", "approve", "rather this")
        assert (await http.post(f"{where}/answer", json={"answer": "reject"})).status_code == 409
        assert (await http.get(where)).json() == said
        assert "two" in (await app.state(run.id)).tasks
        assert (await http.get("/v1/approvals")).json()["items"] == []


async def test_whoever_answers_is_the_principal_of_the_key(serve: Serve):
    async with team(working()) as app:
        keeper = door(app, SystemClock())
        asks = await keeper.keys.create(tenant="acme", roles=["admin"], created_by="test")
        reads = await keeper.keys.create(tenant="acme", roles=["viewer"], created_by="test")
        http = (await serve(app, authenticator=keeper)).http
        run = await app.submit("Ask.", plan=PLAN, is_plan_reviewed=True, tenant="acme")
        await run.result()
        (item,) = (await http.get("/v1/approvals", headers=bearer(reads.text))).json()["items"]
        where = f"/v1/approvals/{item['approval_id']}/answer"
        assert (await http.post(where, json={"answer": "approve"}, headers=bearer(reads.text))).status_code == 403
        said = (await http.post(where, json={"answer": "approve"}, headers=bearer(asks.text))).json()
        assert said["answered_by"] == f"key:{asks.key.id}"


async def test_a_schedule_is_changed_by_whoever_has_seen_it_as_it_is(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        made = await http.post("/v1/schedules", json={"cron": "@daily", "goal": "Look.", "name": "nightly"})
        assert made.status_code == 201
        where, tag = made.headers["location"], made.headers["etag"]
        assert (await http.get(where)).headers["etag"] == tag
        assert (await http.post(f"{where}/pause", headers={"if-match": '"other"'})).status_code == 412
        rests = await http.post(f"{where}/pause", json={"reason": "holidays"}, headers={"if-match": tag})
        assert (rests.json()["status"], rests.json()["paused"]) == ("paused", "holidays")
        assert rests.headers["etag"] != tag
        for method, path in (("POST", f"{where}/resume"), ("DELETE", where)):
            assert (await http.request(method, path, headers={"if-match": tag})).status_code == 412
        assert (await http.post(f"{where}/resume", headers={"if-match": rests.headers["etag"]})).status_code == 200
        assert (await http.delete(where, headers={"if-match": "*"})).status_code == 204
        assert (await http.get(where)).status_code == 404
        for wrong in ({"cron": "@dayly"}, {"tz": "Mars/Base"}, {"jitter_s": 90_000}, {"goal": " "}):
            assert (
                await http.post("/v1/schedules", json={"cron": "@daily", "goal": "Look.", **wrong})
            ).status_code == 400


async def test_pages_of_schedules_hold_while_others_are_added(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        names = [f"s{i}" for i in range(5)]
        for name in names:
            await app.schedules.add("@daily", "Look.", name=name)
        seen: list[str] = []
        page: dict[str, Any] = {"next": ""}
        while page["next"] is not None:
            more = {"after": page["next"]} if page["next"] else {}
            page = (await http.get("/v1/schedules", params={"limit": 2, **more})).json()
            seen += [s["name"] for s in page["items"]]
            if len(seen) == 2:
                await app.schedules.add("@daily", "Look.", name="late")
        assert seen == [*names, "late"]


async def test_a_stop_holds_for_what_is_ones_own(serve: Serve):
    async with team(working()) as app:
        keeper = door(app, SystemClock())
        mine = await keeper.keys.create(tenant="acme", roles=["admin"], created_by="test")
        host = await keeper.keys.create(tenant="acme", roles=["admin"], scopes=["host"], created_by="test")
        http = (await serve(app, authenticator=keeper)).http
        run = await app.submit("Ask.", plan=PLAN, is_plan_reviewed=True, tenant="acme")
        await run.result()
        foreign = await app.submit("Ask.", plan=PLAN, is_plan_reviewed=True, tenant="other")
        await foreign.result()
        await app.breaker.stop("run", foreign.id)
        for path, status in (
            (f"run/{run.id}", 200),
            ("tenant/acme", 200),
            (f"run/{foreign.id}", 404),
            ("tenant/other", 403),
            ("agent/writer", 403),
            ("tool/calculate", 403),
        ):
            assert (await http.put(f"/v1/stops/{path}", headers=bearer(mine.text))).status_code == status, path
        assert (await http.put("/v1/stops/tool/calculate", headers=bearer(host.text))).status_code == 200
        assert (await http.put("/v1/stops/tool/nonsense", headers=bearer(host.text))).status_code == 404
        shown = (await http.get("/v1/stops", headers=bearer(mine.text))).json()["items"]
        assert [s["kind"] for s in shown] == ["run", "tenant", "tool"]
        assert foreign.id not in str(shown)
        gone = (await http.delete("/v1/stops/tenant/acme", headers=bearer(mine.text))).json()
        assert gone["was_stopped"] is True


async def test_messages_are_those_of_the_tenant(serve: Serve):
    async with team(working()) as app:
        keeper = door(app, SystemClock())
        mine = bearer((await keeper.keys.create(tenant="acme", roles=["admin"], created_by="test")).text)
        theirs = bearer((await keeper.keys.create(tenant="other", roles=["admin"], created_by="test")).text)
        http = (await serve(app, authenticator=keeper)).http
        where = "/v1/topics/orders.new/messages"
        for headers in (mine, theirs):
            made = await http.post(where, json={"id": "order-1", "body": {"of": str(headers)}}, headers=headers)
            assert made.json()["is_new"] is True, "an id of one tenant does not stand in for another's"
        assert (await http.post(where, json={"id": "order-1", "body": {}}, headers=mine)).json()["is_new"] is False
        page = (await http.get(where, headers=mine)).json()
        assert [m["id"] for m in page["items"]] == ["order-1"]
        assert page["items"][0]["body"] == {"of": str(mine)}
        assert (await http.get(where, params={"after": page["next"]}, headers=mine)).json()["items"] == []
        assert len((await http.get(where, params={"since": "2020-01-01"}, headers=mine)).json()["items"]) == 1


@pytest.mark.parametrize("topic", ["tasks.operate", "control.wrk_1", "replies.msg_1", "views.x", "~own"])
async def test_topics_of_processes_are_neither_read_nor_written(serve: Serve, topic: str):
    async with team(working()) as app:
        http = (await serve(app)).http
        assert (await http.get(f"/v1/topics/{topic}/messages")).status_code == 403
        assert (await http.post(f"/v1/topics/{topic}/messages", json={"body": {}})).status_code == 403


async def test_boards_and_inboxes_are_read_by_their_own_tenant_and_written_by_agents_alone(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        foreign = await app.submit("Ask.", plan=PLAN, is_plan_reviewed=True, tenant="other")
        own = await app.submit("Ask.", plan=PLAN, is_plan_reviewed=True)
        inbox = "agents.writer.inbox"
        for tenant in ("other", "default"):
            await app.stores.bus.publish(Message(id=tenant, topic=inbox, tenant=tenant, body={"of": tenant}))
        assert (await http.get(f"/v1/topics/runs.{foreign.id}.board/messages")).status_code == 404
        assert (await http.get(f"/v1/topics/runs.{own.id}.board/messages")).status_code == 200
        assert [m["id"] for m in (await http.get(f"/v1/topics/{inbox}/messages")).json()["items"]] == ["default"]
        for topic in (inbox, f"runs.{own.id}.board"):
            assert (await http.post(f"/v1/topics/{topic}/messages", json={"body": {}})).status_code == 403


async def test_a_dead_letter_is_given_back_by_its_own_tenant(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        bus = app.stores.bus
        for tenant in ("other", "default"):
            await bus.publish(Message(id=tenant, topic="orders", tenant=tenant, body={"of": tenant}))
        for claim in await bus.claim(["orders"], "desk", 2):
            await bus.settle(claim, dead="no such order")
        (letter,) = (await http.get("/v1/dead-letters", params={"topic": "orders"})).json()["items"]
        assert (letter["message"]["id"], letter["group"], letter["reason"]) == ("default", "desk", "no such order")
        foreign = next(x for x in await bus.letters("orders") if x.message.tenant == "other")
        refused = {"topic": "orders", "seqs": [foreign.message.seq]}
        assert (await http.post("/v1/dead-letters/revive", json=refused)).status_code == 404
        wanted = {"topic": "orders", "seqs": [letter["message"]["seq"]]}
        assert (await http.post("/v1/dead-letters/revive", json=wanted)).json()["revived"] == wanted["seqs"]
        assert [x.message.tenant for x in await bus.letters("orders")] == ["other"]


async def test_what_the_installation_has_is_seen_and_changed_by_the_host_alone(serve: Serve):
    async with team(working()) as app:
        keeper = door(app, SystemClock())
        mine = bearer((await keeper.keys.create(tenant="acme", roles=["admin"], created_by="test")).text)
        host = bearer(
            (await keeper.keys.create(tenant="acme", roles=[], scopes=["host", "agents:read"], created_by="t")).text
        )
        http = (await serve(app, authenticator=keeper)).http
        await app.placement.lifecycle.look()
        assert "writer" in [a["name"] for a in (await http.get("/v1/agents", headers=mine)).json()["items"]]
        assert (await http.post("/v1/agents/writer/drain", headers=mine)).status_code == 403
        drained = (await http.post("/v1/agents/writer/drain", json={"reason": "slow"}, headers=host)).json()
        assert (drained["condition"], drained["changes"][-1]["reason"]) == ("draining", "slow")
        assert (await http.post("/v1/agents/writer/resume", headers=host)).json()["condition"] == "active"
        assert (await http.get("/v1/agents/nobody", headers=mine)).status_code == 404
        assert (await http.get("/v1/settings", headers=mine)).status_code == 403
        assert (await http.post("/v1/workers/wrk_1/drain", headers=host)).status_code == 404
        found = (await http.get("/v1/tools", params={"query": "calculate"}, headers=mine)).json()["items"]
        assert "calculate" in [t["name"] for t in found]
        assert (await http.get("/v1/tools/calculate", headers=mine)).json()["effect"] == "pure"


async def test_usage_and_documents_of_a_run(serve: Serve, tmp_path: Path):
    (tmp_path / "owner.md").write_text("# Owner\n\nThe owner is Ann.\n")
    async with team(working()) as app:
        http = (await serve(app)).http
        run = await app.submit("Do it.", files=[str(tmp_path)], plan=PLAN)
        report = await run.result()
        used = (await http.get("/v1/usage/runs")).json()
        assert used["items"][0]["run_id"] == run.id
        assert used["sum"].get("model_calls", 0) == report.usage.model_calls > 0
        accounts = (await http.get("/v1/usage", params={"user": "local", "agent": "writer"})).json()["accounts"]
        assert [(a["scope"], a["period"]) for a in accounts][:2] == [("tenant", "day"), ("tenant", "month")]
        assert len(accounts) == 6
        documents = (await http.get(f"/v1/collections/{run.id}/documents")).json()["items"]
        assert [d["path"] for d in documents] == ["owner.md"]
        found = (await http.get(f"/v1/collections/{run.id}/search", params={"query": "owner"})).json()["items"]
        assert "Ann" in str(found)


@pytest.mark.parametrize("resource", LISTS)
async def test_cursors_of_other_lists_and_hostile_ids_are_refused(serve: Serve, resource: str):
    async with team(working()) as app:
        http = (await serve(app)).http
        for wrong in ("nonsense", "WzFd", "é", "a" * 600, "\x00"):
            reply = await http.get(f"/v1/{resource}", params={"after": wrong})
            assert 400 <= reply.status_code < 500, (resource, wrong)
            assert reply.headers["content-type"] == "application/problem+json"
        for id_ in ("%00", "a" * 10_000, "%F0%9F%92%A9", "..%2F..", "%ED%A0%80"):
            reply = await http.get(f"/v1/{resource}/{id_}")
            assert 400 <= reply.status_code < 500, (resource, id_[:20])
    assert place("x", None) is None


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/v1/keys", "GET, POST"), ("/v1/runs", "GET, POST"), ("/v1/runs/batch", "POST"), ("/v1/keys/x", "DELETE, GET")],
)
async def test_a_method_that_a_path_has_not_is_refused_with_those_it_has(serve: Serve, path: str, allowed: str):
    async with team(working()) as app:
        reply = await (await serve(app)).http.request("OPTIONS", path)
        assert (reply.status_code, reply.headers["allow"]) == (405, allowed)
