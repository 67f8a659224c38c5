"""Runs over HTTP: submit, look, list, read."""

from __future__ import annotations

import re
from pathlib import Path

from collegium.domain.tombstone import Tombstone
from collegium.server.access.access import Access
from collegium.server.access.reach import Reach
from collegium.server.rest.reference import text
from collegium.testing.clock import FakeClock
from collegium.testing.harness import memory_stores, team
from tests.unit.server.conftest import Serve
from tests.unit.server.test_projects import limited
from tests.unit.stores.moved import working


async def test_a_goal_is_submitted_and_its_run_is_shown(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        reply = await served.http.post("/v1/runs", json={"goal": "Do both."}, headers={"Idempotency-Key": "one"})
        assert reply.status_code == 202, reply.text
        run = reply.json()["run_id"]
        assert reply.headers["location"] == f"/v1/runs/{run}"
        again = await served.http.post("/v1/runs", json={"goal": "Do both."}, headers={"Idempotency-Key": "one"})
        assert again.json() == {"run_id": run}
        other = await served.http.post("/v1/runs", json={"goal": "Else."}, headers={"Idempotency-Key": "one"})
        assert (other.status_code, other.json()["code"]) == (422, "key_reused")
        await app.result(run)
        shown = (await served.http.get(f"/v1/runs/{run}")).json()
        assert (shown["run_id"], shown["goal"]) == (run, "Do both.")
        listed = (await served.http.get("/v1/runs")).json()
        assert [one["run_id"] for one in listed["items"]] == [run]
        assert listed["next"] is None
        events = (await served.http.get(f"/v1/runs/{run}/events?limit=2")).json()
        assert [e["seq"] for e in events["items"]] == [1, 2]
        assert events["next"] == "2"


async def test_what_does_not_do_is_said(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        for path, status, code in (
            ("/v1/runs/run_none", 404, "not_found"),
            ("/v1/runs?after=zzz", 400, "usage"),
            ("/v1/runs?limit=0", 400, "usage"),
            ("/v1/nothing", 404, "not_found"),
            ("/v1/runs/", 404, "not_found"),
            ("/v1/schedules/", 404, "not_found"),
        ):
            reply = await served.http.get(path)
            assert (reply.status_code, reply.json()["code"]) == (status, code), reply.text
        reply = await served.http.post("/v1/runs", content=b"{", headers={"content-type": "application/json"})
        assert (reply.status_code, reply.json()["code"]) == (400, "invalid_request")
        reply = await served.http.post("/v1/runs", content=b'{"goal": "Who?"}', headers={"content-type": "text/plain"})
        assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_media_type")
        assert "content-type: application/json" in reply.json()["detail"]
        reply = await served.http.post("/v1/runs", json={"goal": 7})
        assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
        assert reply.json()["errors"][0]["pointer"] == "#/body/goal"
        reply = await served.http.delete("/v1/runs")
        assert reply.status_code == 405


async def test_the_document_describes_all_of_it(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        found = (await served.http.get("/openapi.json")).json()
        assert found["openapi"].startswith("3.1")
        assert set(found["paths"]["/v1/runs"]) == {"get", "post"}
        assert "RunReport" in found["components"]["schemas"]


async def test_the_manual_is_one_page_that_loads_nothing(serve: Serve):
    async with team(working()) as app:
        reply = await (await serve(app)).http.get("/docs")
        assert reply.headers["content-type"].startswith("text/html")
        assert reply.headers["content-security-policy"].startswith("default-src 'none'")
        assert "/v1/runs/{run}/cancel" in reply.text
        assert "<script" not in reply.text
        assert re.findall(r"(?:src|href)=[\"']?([^\"'> ]+)", reply.text) == ["/openapi.json"]


def test_the_reference_page_is_what_the_code_says():
    page = Path(__file__).parents[3] / "docs" / "reference" / "api.md"
    assert page.read_text() == text(), "run: python -m collegium.server.rest.reference docs/reference"


async def test_what_was_pruned_is_not_shown_from_memory(serve: Serve):
    """A pruned run keeps its head; what is kept of it here must not outlive it."""
    clock = FakeClock()
    stores = memory_stores(clock)
    async with team(working(), stores=stores) as app:
        run = (await app.submit("Do both.", project="alpha")).id
        await app.result(run)
    async with team(working(), stores=stores, clock=clock, scope="none") as app:
        http = (await serve(app)).http
        assert (await http.get(f"/v1/runs/{run}")).json()["goal"] == "Do both."
        assert (await http.get(f"/v1/runs/{run}/events")).json()["items"]
        state = await app.state(run)
        archive = stores.archive
        assert archive is not None
        head = await stores.journal.head(run)
        assert head is not None
        assert state.finished_at is not None
        await archive.prune(
            Tombstone(
                run=run,
                tenant="default",
                seq=head.seq,
                mac=head.mac,
                status=state.status,
                what="run",
                kept=0,
                submitted_at=state.submitted_at,
                finished_at=state.finished_at,
                pruned_at=app.now(),
            )
        )
        await clock.advance(1.0)
        gone = await http.get(f"/v1/runs/{run}")
        assert gone.status_code == 404, gone.text
        assert "Do both." not in (await http.get(f"/v1/runs/{run}/events")).text
        (listed,) = (await http.get("/v1/runs")).json()["items"]
        assert (listed["run_id"], listed["goal"], listed["is_pruned"]) == (run, "", True)
        asked = (await http.post("/graphql", json={"query": "{ runs { items { id } next } }"})).json()
        assert asked == {"data": {"runs": {"items": [], "next": None}}}
        used = await http.get("/v1/usage/runs")
        assert (used.status_code, used.json()["items"]) == (200, []), used.text
        # Its head still tells the project.
        for project, shown in (("alpha", [(run, "alpha")]), ("beta", [])):
            page = await Access(app, limited(project)).runs.page()
            assert [(one.run_id, one.project) for one in page.items] == shown
            assert await Reach(app, limited(project)).has_run(run) == bool(shown)
