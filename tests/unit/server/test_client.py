"""The typed client against a real server: everything it offers, and what it does when things go wrong."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from collegium.client import Client
from collegium.client.wire import OpenQuestion, RunSummary
from collegium.domain.document import GivenFile
from collegium.domain.errors import InvalidPlan, NotAuthenticated, NotFound, StoreUnavailable, UsageError
from collegium.domain.plan import Plan, Task
from collegium.domain.principal import Principal
from collegium.domain.usage import Limits
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.stores.moved import PLAN, Hanging, working


async def test_a_goal_is_done_over_a_server(serve: Serve, tmp_path: Path):
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.txt").write_text("Six times seven is 42.")
    async with team(working()) as app:
        served = await serve(app)
        async with Client(served.url) as client:
            files: list[str | Path | GivenFile] = [folder, GivenFile(path="b.txt", data=b"b")]
            run = await client.submit("Do both.", plan=PLAN, files=files, limits=Limits(tokens=100_000))
            seqs = [event.seq async for event in run.events()]
            report = await run.result()
            assert report == await app.result(run.id)
            assert seqs == [event.seq async for event in app.events(run.id)]
            goal = (await app.state(run.id)).goal
            assert [f.path for f in goal.files] == ["sub/a.txt", "b.txt"]
            assert goal.limits.tokens == 100_000
            assert [e async for e in client.events(run.id)] == [e async for e in app.events(run.id)]
            page = await client.runs(limit=1, statuses=["succeeded"])
            assert [one.run_id for one in page.items] == [run.id]
            assert page.next is None


async def test_a_submit_that_is_repeated_makes_one_run(serve: Serve):
    async with team(Hanging()) as app:
        async with Client((await serve(app)).url) as client:
            runs = [await client.submit("Do both.", idempotency_key="one") for _ in range(3)]
        assert len({run.id for run in runs}) == 1


async def test_a_run_is_steered(serve: Serve):
    async with team(Hanging()) as app, Client((await serve(app)).url) as client:
        run = await client.submit("Do both.", plan=PLAN)
        await client.say(run.id, "Hurry.")
        await run.cancel("enough")
        assert (await run.result()).status == "cancelled"


async def test_errors_are_those_of_the_domain(serve: Serve):
    async with team(working()) as app, Client((await serve(app)).url) as client:
        with pytest.raises(NotFound, match="there is no run run_none"):
            await client.report("run_none")
        with pytest.raises(UsageError):
            await client.submit("   ")
        with pytest.raises(InvalidPlan, match="fly"):
            await client.submit("x", plan=Plan(tasks=(Task(id="a", title="A", capability="fly"),)))
        with pytest.raises(UsageError, match="no cursor"):
            await client.runs(after="nothing")


async def test_whoever_is_not_there_is_said_to_be_away():
    async with Client("http://127.0.0.1:9", attempts=2) as client:
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await client.runs()
    with pytest.raises(UsageError, match="no URL"):
        Client("collegium.example")


async def test_a_key_is_shown_and_never_sent_on(serve: Serve):
    class Door:
        async def identify(self, connection: httpx.Request) -> Principal:
            if connection.headers.get("authorization") != "Bearer clg_test_x":
                raise NotAuthenticated("nobody knows who asks")
            return Principal(id="key:x", tenant="default", scopes=frozenset({"runs:read"}), kind="key")

    async with team(working()) as app:
        url = (await serve(app, authenticator=Door())).url
        async with Client(url) as client:
            with pytest.raises(NotAuthenticated):
                await client.runs()
        async with Client(url, key="clg_test_x") as client:
            assert (await client.runs()).items == ()


async def test_what_the_client_calls_is_in_the_document(serve: Serve):
    """Methods, paths and fields of the client are those of the server's document."""
    calls = {
        ("post", "/v1/runs"), ("get", "/v1/runs"), ("get", "/v1/runs/{run}"), ("get", "/v1/runs/{run}/events"),
        ("post", "/v1/runs/{run}/cancel"), ("post", "/v1/runs/{run}/say"), ("get", "/v1/runs/{run}/files/{path}"),
        ("post", "/v1/uploads"), ("get", "/v1/approvals"), ("post", "/v1/approvals/{approval}/answer"),
    }  # fmt: skip
    async with team(working()) as app:
        document = (await (await serve(app)).http.get("/openapi.json")).json()
    known = {(method, path) for path, found in document["paths"].items() for method in found}
    assert calls <= known
    summary = document["components"]["schemas"]["RunSummary"]["properties"]
    assert set(RunSummary.__struct_fields__) == set(summary)
    asked = document["components"]["schemas"]["ApprovalShown"]["properties"]
    assert set(OpenQuestion.__struct_fields__) <= set(asked)
