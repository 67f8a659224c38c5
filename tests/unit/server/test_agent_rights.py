"""Over HTTP: a run's tools may do what the key may that asked for it; a schedule's what the key may that added it."""

from __future__ import annotations

from collegium.adapters.clock import SystemClock
from collegium.domain.chat import ToolCall
from collegium.testing.harness import team
from tests.unit.runtime.colleagues import Roles, plan, task
from tests.unit.server.conftest import Serve
from tests.unit.server.test_auth_keys import bearer, door, made

LOOK = ToolCall(id="c", name="search_inputs", arguments={"query": "Who owns it?"})


async def test_a_key_that_may_not_read_documents_has_no_agent_that_does(serve: Serve):
    model = Roles({"Do a.": [(LOOK,), "It cannot be looked up."]})
    async with team(model) as app:
        keeper = door(app, SystemClock())
        key, _ = await made(keeper, roles=(), scopes=["runs:write", "runs:read"])
        served = await serve(app, authenticator=keeper)
        http, mine = served.http, bearer(key)
        wanted = {"goal": "x", "plan": {"tasks": [{"id": "a", "title": "a", "capability": "operate"}]}}
        wanted["plan"]["tasks"][0]["instructions"] = "Do a."  # type: ignore[index]
        reply = await http.post("/v1/runs", json=wanted, headers=mine)
        assert reply.status_code == 202, reply.text
        run = reply.json()["run_id"]
        await app.result(run)
        assert "search_inputs" not in {t.name for t in model.shown["Do a.", 0].tools}
        events = (await http.get(f"/v1/runs/{run}/events", headers=mine)).json()["items"]
        (judged,) = [e["body"] for e in events if e["type"] == "step.judged"]
        assert (judged["decision"], judged["rule"]) == ("deny", "the right knowledge:read is missing")
        (finished,) = [e["body"] for e in events if e["type"] == "tool.finished"]
        assert finished["result"]["is_ok"] is False
        assert "search_inputs was not called: it takes the right knowledge:read" in finished["result"]["text"]
        goals = [e["body"]["goal"] for e in events if e["type"] == "run.submitted"]
        assert [g["scopes"] for g in goals] == [["runs:read", "runs:write"]]


async def test_rights_go_along_with_schedules_and_forks_and_idempotency_keys(serve: Serve):
    model = Roles({"Do a.": ["Done."]})
    async with team(model) as app:
        keeper = door(app, SystemClock())
        narrow, _ = await made(keeper, roles=(), scopes=["runs:write", "runs:read"])
        wide, _ = await made(keeper)
        http = (await serve(app, authenticator=keeper)).http
        reply = await http.post("/v1/schedules", json={"cron": "@daily", "goal": "x"}, headers=bearer(narrow))
        schedule = await app.schedules.get(reply.json()["schedule_id"])
        assert (await app.schedules.goal(schedule)).scopes == ("runs:read", "runs:write")
        run = await app.submit("x", plan=plan(task("a")), principal=await keeper.keys.identify(narrow))
        await run.result()
        reply = await http.post(f"/v1/runs/{run.id}/fork", json={"at": 1}, headers=bearer(wide))
        assert (await app.state(reply.json()["run_id"])).goal.scopes == ("runs:read", "runs:write")
        only, _ = await made(keeper, roles=(), scopes=["runs:write"])
        reply = await http.post("/v1/runs", json={"goal": "And?", "continues": run.id}, headers=bearer(only))
        assert reply.status_code == 403, "the answer and the files of that run would be shown to its team"
