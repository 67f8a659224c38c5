"""What is done over HTTP with a run that was submitted."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from collegium.domain.document import GivenFile
from collegium.domain.principal import ROLES, Principal
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.stores.moved import Hanging, working

PLAN: dict[str, list[dict[str, Any]]] = {
    "tasks": [
        {"id": "one", "title": "One", "capability": "operate", "instructions": "Do one."},
        {"id": "two", "title": "Two", "capability": "operate", "instructions": "Do two.", "depends_on": ["one"]},
    ]
}


class As:
    """Everybody is a principal with one role."""

    def __init__(self, role: str) -> None:
        self._principal = Principal(id=f"key:{role}", tenant="default", scopes=ROLES[role], kind="key")

    async def identify(self, connection: object) -> Principal:
        return self._principal


async def submitted(http: httpx.AsyncClient, **wanted: Any) -> str:
    reply = await http.post("/v1/runs", json={"goal": "Do both.", **wanted})
    assert reply.status_code == 202, reply.text
    return str(reply.json()["run_id"])


async def test_everything_that_can_be_said_of_a_goal_reaches_it(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        run = await submitted(
            http,
            priority="urgent",
            plan=PLAN,
            limits={"cost_usd": "1.50", "tokens": 100_000, "deadline_s": 60, "parallel": 2},
            output_schema={"type": "object", "properties": {"n": {"type": "integer"}}},
            tools=["calculate"],
        )
        goal = (await app.state(run)).goal
        assert (goal.priority, goal.tools, goal.principal) == (0, ("calculate",), "local")
        assert [t.id for t in goal.plan.tasks] == ["one", "two"] if goal.plan else False
        limits = goal.limits
        assert (str(limits.cost_usd), limits.tokens, limits.deadline_s, limits.parallel) == ("1.50", 100_000, 60, 2)
        await app.cancel(run)


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ({"plan": {"tasks": []}}, 422, "invalid_plan"),
        ({"plan": {"tasks": [{"id": "a"}]}}, 422, "invalid_request"),
        ({"plan": {"tasks": [PLAN["tasks"][0] | {"capability": "fly"}]}}, 422, "invalid_plan"),
        ({"plan_only": True, "review_plan": True}, 400, "usage"),
        ({"files": ["upl_none"]}, 400, "unreadable_input"),
        ({"continues": "run_none"}, 404, "not_found"),
        ({"limits": {"tokens": 0}}, 422, "invalid_request"),
        ({"limits": {"cost_usd": "NaN"}}, 422, "invalid_request"),
        ({"nothing": 1}, 422, "invalid_request"),
        ({"output_schema": {"type": "nothing"}}, 400, "usage"),
    ],
)
async def test_a_goal_that_cannot_be_is_refused(serve: Serve, wanted: dict[str, Any], status: int, code: str):
    async with team(working()) as app:
        http = (await serve(app)).http
        reply = await http.post("/v1/runs", json={"goal": "Do both.", **wanted})
        assert (reply.status_code, reply.json()["code"]) == (status, code), reply.text
        assert (await http.get("/v1/runs")).json()["items"] == []


async def test_a_run_is_told_cancelled_and_judged(serve: Serve):
    async with team(Hanging()) as app:
        http = (await serve(app)).http
        run = await submitted(http, plan=PLAN)
        early = await http.post(f"/v1/runs/{run}/feedback", json={"rating": "good"})
        assert (early.status_code, early.json()["code"]) == (409, "wrong_state")
        assert (await http.post(f"/v1/runs/{run}/say", json={"text": "Hurry."})).json()["run_id"] == run
        assert (await app.state(run)).said == ("Hurry.",)
        reply = await http.post(f"/v1/runs/{run}/cancel", json={"reason": "enough"})
        assert reply.status_code == 202, reply.text
        assert (await app.result(run)).status == "cancelled"
        assert (await http.post(f"/v1/runs/{run}/cancel")).status_code == 202  # twice is harmless
        assert (await http.post(f"/v1/runs/{run}/resume")).json()["status"] == "cancelled"
        late = await http.post(f"/v1/runs/{run}/say", json={"text": "Hurry."})
        assert (late.status_code, late.json()["code"]) == (409, "wrong_state")
        said = await http.post(f"/v1/runs/{run}/feedback", json={"rating": "bad", "note": "too slow"})
        assert said.status_code == 204, said.text
        events = (await http.get(f"/v1/runs/{run}/events?limit=1000")).json()["items"]
        assert events[-1]["type"] == "feedback.given"
        assert events[-1]["body"] == {"is_good": False, "principal": "local", "note": "too slow"}


async def test_a_run_is_forked(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        run = await submitted(http, plan=PLAN)
        await app.result(run)
        events = (await http.get(f"/v1/runs/{run}/events?limit=1000")).json()["items"]
        settled = next(e["seq"] for e in events if e["type"] == "task.settled")
        made = await http.post(f"/v1/runs/{run}/fork", json={"at": settled})
        assert made.status_code == 202, made.text
        report = await app.result(made.json()["run_id"])
        assert report.status == "succeeded"
        late = await http.post(f"/v1/runs/{run}/fork", json={"at": 10_000})
        assert late.status_code == 400, late.text


async def test_leave_to_write_again_is_in_the_log(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        run = await submitted(http, plan=PLAN)
        await app.result(run)
        events = (await http.get(f"/v1/runs/{run}/events?limit=1000")).json()["items"]
        settled = next(e["seq"] for e in events if e["type"] == "task.settled")
        made = (await http.post(f"/v1/runs/{run}/fork", json={"at": settled, "effects": "allow"})).json()["run_id"]
        await app.result(made)
        (line,) = (await http.get("/v1/audit?action=runs.forked")).json()["items"]
        assert (line["object"], line["details"], line["rule"]) == (made, {"parent": run}, "approvals:decide")


async def test_several_goals_at_once_stand_each_for_itself(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        wanted = {"runs": [{"goal": "Do both."}, {"goal": "Do both.", "files": ["upl_none"]}, {"goal": "Do both."}]}
        reply = await http.post("/v1/runs/batch", json=wanted)
        one, two, three = reply.json()["items"]
        assert two["code"] == "unreadable_input"
        assert one["run_id"] != three["run_id"]
        ended = await http.post("/v1/runs/cancel", json={"runs": [one["run_id"], "run_none", three["run_id"]]})
        assert [x["code"] for x in ended.json()["items"]] == [None, "not_found", None]


async def test_what_a_run_wrote_is_handed_out_to_be_saved(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        writing = {"id": "w", "title": "Write", "capability": "write", "depends_on": ["one"], "save_as": "out/a b.html"}
        plan = {"tasks": [PLAN["tasks"][0], writing]}
        run = await submitted(http, plan=plan)
        await app.result(run)
        listed = (await http.get(f"/v1/runs/{run}/files")).json()["items"]
        assert [one["path"] for one in listed] == ["out/a b.html"]
        reply = await http.get(f"/v1/runs/{run}/files/out/a b.html")
        assert reply.content
        assert reply.headers["content-type"] == "application/octet-stream"
        assert reply.headers["content-disposition"] == "attachment; filename*=UTF-8''a%20b.html"
        assert reply.headers["x-content-type-options"] == "nosniff"
        for path in ("nothing", "../../etc/passwd", "out%00"):
            assert (await http.get(f"/v1/runs/{run}/files/{path}")).status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/runs", {"goal": "x"}),
        ("/v1/runs/batch", {"runs": [{"goal": "x"}]}),
        ("/v1/runs/cancel", {"runs": ["run_x"]}),
        ("/v1/runs/run_x/cancel", {}),
        ("/v1/runs/run_x/resume", {}),
        ("/v1/runs/run_x/fork", {"at": 1}),
        ("/v1/runs/run_x/say", {"text": "x"}),
        ("/v1/runs/run_x/feedback", {"rating": "good"}),
        ("/v1/uploads?name=x", None),
    ],
)
async def test_whoever_only_looks_changes_nothing(serve: Serve, path: str, body: dict[str, Any] | None):
    async with team(working()) as app:
        http = (await serve(app, authenticator=As("viewer"))).http
        reply = await http.post(path, json=body)
        assert (reply.status_code, reply.json()["code"]) == (403, "not_allowed"), reply.text


async def test_to_write_again_unasked_is_a_decision(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app, authenticator=As("operator"))).http
        for path, body in (("fork", {"at": 1, "effects": "allow"}), ("resume", {"outcome": "done"})):
            reply = await http.post(f"/v1/runs/run_x/{path}", json=body)
            assert reply.status_code == 403
            assert "approvals:decide" in reply.json()["detail"]


async def test_files_of_the_host_cannot_be_named():
    """What comes from outside names uploads; paths are for those who use the machine."""
    from collegium.server.access.runs import Submission

    assert Submission.__annotations__["files"] == f"tuple[{GivenFile.__name__}, ...]"


async def test_whoever_has_seen_a_run_as_it_was_does_not_change_it_as_it_is(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        run = await submitted(http, plan=PLAN, review_plan=True)
        await app.run(run).result()
        where = f"/v1/runs/{run}"
        seen = {"if-match": (await http.get(where)).headers["etag"]}
        assert (await http.post(f"{where}/say", json={"text": "Hurry."}, headers=seen)).status_code == 200
        for deed, body in (("say", {"text": "Hurry!"}), ("cancel", {}), ("resume", {})):
            late = await http.post(f"{where}/{deed}", json=body, headers=seen)
            assert (late.status_code, late.json()["code"]) == (412, "changed"), deed
            present = (await http.get(where)).headers["etag"]
            assert late.headers["etag"] == present
        assert (await app.state(run)).cancel is None
        now = {"if-match": f'W/"0", {(await http.get(where)).headers["etag"]}'}
        assert (await http.post(f"{where}/cancel", json={}, headers=now)).status_code == 202
        late = await http.post(f"{where}/feedback", json={"rating": "good"}, headers=seen)
        assert late.status_code == 412
        assert (await http.post(f"{where}/feedback", json={"rating": "good"}, headers={"if-match": "*"})).is_success
        gone = await http.post("/v1/runs/run_none/say", json={"text": "x"}, headers=seen)
        assert gone.status_code == 404
        document = (await http.get("/openapi.json")).json()
        names = [p["name"] for p in document["paths"]["/v1/runs/{run}/cancel"]["post"]["parameters"]]
        assert "If-Match" in names
