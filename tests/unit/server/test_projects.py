"""Projects: who is limited to some of a tenant makes, sees and hands on those alone; see ``test_tenants.py`` too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from collegium.adapters.clock import SystemClock
from collegium.app import Collegium
from collegium.domain.errors import NotAllowed, NotFound, UsageError
from collegium.domain.principal import ADMIN, Principal, local
from collegium.server.access.access import Access
from collegium.server.access.reach import Reach
from collegium.server.access.topics import TopicAccess
from collegium.server.auth.doorkeeper import Doorkeeper
from collegium.server.live.change import Change, OpenQuestion, RunChange
from collegium.server.live.hub import Hub
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.server.test_auth_keys import bearer, door, made
from tests.unit.server.test_auth_tokens import checked
from tests.unit.stores.moved import PLAN, working

SOON_S = 20.0


class House(NamedTuple):
    """A tenant with runs of two projects and of none."""

    app: Collegium
    keeper: Doorkeeper
    http: httpx.AsyncClient
    runs: dict[str, str]

    async def key(self, *projects: str, **more: Any) -> dict[str, str]:
        text, _ = await made(self.keeper, projects=projects or None, **more)
        return bearer(text)

    async def listed(self, key: dict[str, str], query: str = "") -> list[str]:
        found, after = list[str](), ""
        while True:
            reply = await self.http.get(f"/v1/runs?{query}{after}", headers=key)
            assert reply.status_code == 200, reply.text
            page = reply.json()
            found += [one["run_id"] for one in page["items"]]
            if page["next"] is None:
                return found
            after = f"&after={page['next']}"


@asynccontextmanager
async def house(serve: Serve) -> AsyncIterator[House]:
    async with team(working()) as app:
        keeper = door(app, SystemClock())
        runs = {}
        for project in ("alpha", "beta", ""):
            run = await app.submit("Do both.", plan=PLAN, is_plan_reviewed=True, project=project)
            await run.result()
            runs[project] = run.id
        http = (await serve(app, authenticator=keeper)).http
        yield House(app, keeper, http, runs)


async def told_of(changes: AsyncIterator[Change], kind: type[RunChange | OpenQuestion]) -> str:
    """The run that the next change is about."""
    value = (await anext(changes)).value
    assert isinstance(value, kind)
    return value.run_id


def limited(*projects: str) -> Principal:
    return Principal(id="key:p", tenant="default", scopes=ADMIN, kind="key", projects=frozenset(projects))


async def test_a_key_sees_the_runs_of_its_projects_alone_and_makes_no_others(serve: Serve):
    async with house(serve) as found:
        one, two, every = await found.key("alpha"), await found.key("alpha", "beta"), await found.key()
        runs = found.runs
        assert await found.listed(one) == [runs["alpha"]]
        assert await found.listed(two, "limit=1&") == [runs["beta"], runs["alpha"]]
        assert await found.listed(every) == [runs[""], runs["beta"], runs["alpha"]]
        assert await found.listed(every, "project=beta&limit=1&") == [runs["beta"]]
        assert await found.listed(one, "project=beta&") == []
        goal = {"goal": "x", "plan_only": True}
        for key, wanted, project in (
            (one, "", "alpha"),
            (one, "alpha", "alpha"),
            (two, "beta", "beta"),
            (every, "", ""),
            (every, "gamma", "gamma"),
        ):
            reply = await found.http.post("/v1/runs", json={**goal, "project": wanted}, headers=key)
            assert reply.status_code == 202, reply.text
            assert (await found.app.state(reply.json()["run_id"])).goal.project == project
        for key, wanted, status in ((one, "beta", 403), (two, "", 400), (every, "~x", 400)):
            reply = await found.http.post("/v1/runs", json={**goal, "project": wanted}, headers=key)
            assert reply.status_code == status, reply.text
        # What asks on from a run stays where that is, and so does its fork.
        reply = await found.http.post("/v1/runs", json={**goal, "continues": runs["alpha"]}, headers=every)
        assert (await found.app.state(reply.json()["run_id"])).goal.project == "alpha"
        reply = await found.http.post(f"/v1/runs/{runs['beta']}/fork", json={"at": 1}, headers=two)
        assert (await found.app.state(reply.json()["run_id"])).goal.project == "beta"
        reply = await found.http.post("/v1/schedules", json={"cron": "@daily", "goal": "x"}, headers=one)
        assert reply.json()["project"] == "alpha"


async def test_pages_of_who_is_limited_are_full(serve: Serve):
    async with house(serve) as found:
        one, every = await found.key("alpha"), await found.key()
        made = [found.runs["alpha"]]
        for n in range(7):
            project = "beta" if n % 2 else "alpha"
            run = await found.app.submit("Do both.", plan=PLAN, is_plan_reviewed=True, project=project)
            await run.result()
            made += [run.id] if project == "alpha" else []
        fork = await found.app.fork(made[0], at=1)
        await fork.result()
        made = [fork.id, *reversed(made)]
        for key, query in ((one, ""), (every, "project=alpha&")):
            sizes, shown = list[int](), list[str]()
            after: str | None = ""
            while after is not None:
                path = f"/v1/runs?{query}limit=2" + (f"&after={after}" if after else "")
                page = (await found.http.get(path, headers=key)).json()
                sizes.append(len(page["items"]))
                shown += [item["run_id"] for item in page["items"]]
                after = page["next"]
            assert (sizes, shown) == ([2, 2, 2], made)
        await found.app.cancel(made[2])
        assert (await found.app.result(made[2])).status == "cancelled"
        assert await found.listed(one, "status=waiting&limit=2&") == [*made[:2], *made[3:]]
        assert await found.listed(one, "status=cancelled&status=failed&") == [made[2]]
        usage = (await found.http.get("/v1/usage/runs?limit=6", headers=one)).json()
        assert ([item["run_id"] for item in usage["items"]], usage["next"]) == (made, None)
        # What no store could be asked for is asked of none.
        for odd in ("\0", "a\0b", "\ud800"):
            assert Reach(found.app, limited("alpha")).within(odd) == frozenset()
            assert Reach(found.app, local("default")).within(odd) == frozenset()
        assert await found.listed(every, "project=a%00b&") == []


async def test_nobody_hands_on_more_projects_than_theirs(serve: Serve):
    async with house(serve) as found:
        one = await found.key("alpha")
        for more in ({}, {"projects": ["alpha"]}):
            reply = await found.http.post("/v1/keys", json={"roles": ["viewer"], **more}, headers=one)
            assert reply.status_code == 201, reply.text
            assert reply.json()["shown"]["projects"] == ["alpha"]
        for projects, status in ((["alpha", "beta"], 403), (["beta"], 403), ([], 422)):
            reply = await found.http.post("/v1/keys", json={"roles": ["viewer"], "projects": projects}, headers=one)
            assert reply.status_code == status, reply.text
        shown = (await found.http.get("/v1/keys", headers=one)).json()["items"]
        assert [key["projects"] for key in shown] == [["alpha"]] * 3
        for key in (await found.key("beta"), await found.key()):
            id_ = key["Authorization"].split("_")[2]
            for method, path in (("get", ""), ("delete", ""), ("post", "/rotate")):
                body: dict[str, Any] = {"json": {}} if method == "post" else {}
                reply = await found.http.request(method, f"/v1/keys/{id_}{path}", headers=one, **body)
                assert reply.status_code == 404, f"{method} {path}: {reply.text}"
        with pytest.raises(UsageError, match="limited to no project"):
            await found.keeper.keys.create(tenant="default", created_by="t", roles=["viewer"], projects=[])


async def test_lists_and_topics_that_are_looked_on_at_are_those_of_the_projects(serve: Serve):
    async with house(serve) as found:
        access = Access(found.app, limited("alpha"), hub=Hub(found.app))
        ours = {found.runs["alpha"]}
        for topic, kind in (("runs", RunChange), ("approvals", OpenQuestion)):
            changes = access.live.changes(topic)
            async with asyncio.timeout(SOON_S):
                told = {await told_of(changes, kind) for _ in ours}
                assert told == ours
                await found.app.submit("x", plan=PLAN, is_plan_reviewed=True, project="beta")
                run = await found.app.submit("y", plan=PLAN, is_plan_reviewed=True, project="alpha")
                ours.add(run.id)
                while (now := await told_of(changes, kind)) != run.id:
                    assert now in ours, "nothing of other projects is told"
            await changes.aclose()
        other = found.runs["beta"]
        with pytest.raises(NotFound):
            await anext(access.live.follow(other))
        with pytest.raises(NotFound):
            await anext(access.live.changes(f"runs.{other}.deltas"))
        for topic in ("agents.writer.inbox", "orders.new"):
            with pytest.raises(NotAllowed):
                await anext(access.live.changes(topic))
            with pytest.raises(NotAllowed):
                await TopicAccess(found.app, limited("alpha")).read(topic)
        assert {question.run for question in (await access.questions.page()).items} == ours
        assert {one.run_id for one in (await access.usage.runs()).items} == ours


async def test_graphql_and_the_streams_show_no_others(serve: Serve):
    async with house(serve) as found:
        one, other = await found.key("alpha"), found.runs["beta"]
        query = """query($id: ID!) { run(id: $id) { id } runs { items { id } } approvals { items { runId } }
            usage { items { runId } } }"""
        reply = await found.http.post("/graphql", json={"query": query, "variables": {"id": other}}, headers=one)
        mine = {"items": [{"runId": found.runs["alpha"]}]}
        shown = {"run": None, "runs": {"items": [{"id": found.runs["alpha"]}]}, "approvals": mine, "usage": mine}
        assert reply.json() == {"data": shown}
        reply = await found.http.get(f"/v1/runs/{other}/events", headers={**one, "accept": "text/event-stream"})
        assert reply.status_code == 404


async def test_a_session_and_a_ticket_open_no_more_than_the_key(serve: Serve):
    async with house(serve) as found:
        text, _ = await made(found.keeper, projects=["alpha"])
        principal = await found.keeper.keys.identify(text)
        session = await found.keeper.open_session(principal)
        assert (await found.keeper.by_session(session.text)).projects == frozenset({"alpha"})
        ticket = await found.keeper.make_ticket(principal)
        stream = f"/v1/runs/{found.runs['beta']}/events?ticket={ticket.text}"
        reply = await found.http.get(stream, headers={"accept": "text/event-stream"})
        assert reply.status_code == 404


@pytest.mark.parametrize(
    ("claim", "projects"),
    [(["alpha", "beta"], {"alpha", "beta"}), ("alpha beta", {"alpha", "beta"}), (None, set()), ([7], set())],
)
async def test_a_claim_gives_projects_and_none_gives_none(claim: Any, projects: set[str]):
    async with checked(projects_claim="projects") as found:
        user = await found.oidc.identify(found.idp.token(projects=claim))
        assert user.projects == frozenset(projects)
    async with checked() as found:
        assert (await found.oidc.identify(found.idp.token(projects=claim))).projects is None
