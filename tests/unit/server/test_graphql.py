"""GraphQL over real HTTP and sockets: what is asked for, done and told, and what is not another tenant's to see."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from gql import Client, gql
from gql.transport.exceptions import TransportQueryError
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport
from graphql import ObjectTypeDefinitionNode, parse, print_ast
from starlette.requests import HTTPConnection
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from collegium.app import DEFAULT_TENANT
from collegium.domain.principal import OPERATE, READ, Principal
from collegium.server.access.runs import RunAccess
from collegium.server.graphql import view
from collegium.server.graphql.reference import text
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve, Served
from tests.unit.stores.moved import Hanging, opened, working

SOON_S = 20.0
SPOKEN = Subprotocol("graphql-transport-ws")


class Door:
    """Lets everybody in as one principal."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.holds = True

    async def identify(self, connection: HTTPConnection) -> Principal:
        """The principal."""
        return self.principal

    async def still_valid(self, principal: Principal) -> bool:
        """Whether it holds."""
        return self.holds


def key(scopes: frozenset[str], tenant: str = DEFAULT_TENANT) -> Door:
    return Door(Principal(id="key:k", tenant=tenant, scopes=scopes, kind="key", credential="key:k"))


async def ask(served: Served, query: str, **variables: Any) -> dict[str, Any]:
    answer = await served.http.post("/graphql", json={"query": query, "variables": variables})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def codes(found: dict[str, Any]) -> list[str]:
    return [one["extensions"]["code"] for one in found.get("errors", ())]


RUN = """query($id: ID!) { run(id: $id) { id status goal usage { inputTokens costUsd } answer { text data }
  plan { source tasks { id title status usage { modelCalls } } } tasks { id } approvals { approvalId run { id } }
  files { path } events(limit: 5) { next items { seq type body } } steps(limit: 500) { items { type task } }
  documents { items { path } } } }"""


async def test_a_run_is_submitted_and_read(serve: Serve) -> None:
    async with team(working()) as app:
        served = await serve(app)
        made = await ask(served, 'mutation { submit(run: {goal: "Do both.", idempotencyKey: "a"}) { id status } }')
        run = made["data"]["submit"]["id"]
        again = await ask(served, 'mutation { submit(run: {goal: "Do both.", idempotencyKey: "a"}) { id } }')
        assert again["data"]["submit"]["id"] == run
        await app.result(run)
        found = await ask(served, RUN, id=run)
        assert "errors" not in found
        shown = found["data"]["run"]
        assert (shown["id"], shown["goal"], shown["status"]) == (run, "Do both.", "succeeded")
        assert [one["seq"] for one in shown["events"]["items"]] == [1, 2, 3, 4, 5]
        assert shown["events"]["next"] == "5"
        assert shown["events"]["items"][0]["body"]["goal"]["text"] == "Do both."
        assert {one["type"] for one in shown["steps"]["items"]} == {"step.proposed"}
        assert [one["id"] for one in shown["plan"]["tasks"]] == [one["id"] for one in shown["tasks"]]
        said = await ask(served, "mutation($r: ID!) { feedback(run: $r, isGood: true) }", r=run)
        assert said["data"] == {"feedback": True}


async def test_cursors_are_those_of_rest(serve: Serve) -> None:
    async with team(working()) as app:
        served = await serve(app)
        runs = [(await app.submit(f"Goal {i}.", is_plan_only=True)).id for i in range(3)]
        first = (await ask(served, "{ runs(limit: 2) { next items { id } } }"))["data"]["runs"]
        assert [one["id"] for one in first["items"]] == runs[:0:-1]
        rest = (await served.http.get("/v1/runs", params={"after": first["next"]})).json()
        assert [one["run_id"] for one in rest["items"]] == runs[:1]
        query = "query($a: String) { runs(after: $a) { next items { id } } }"
        last = (await ask(served, query, a=first["next"]))["data"]["runs"]
        assert last == {"next": None, "items": [{"id": runs[0]}]}
        assert codes(await ask(served, query, a="nonsense")) == ["usage"]
        assert codes(await ask(served, "{ runs(limit: 0) { next } }")) == ["usage"]


async def test_lists_of_the_installation_are_there(serve: Serve) -> None:
    async with team(working()) as app:
        served = await serve(app)
        found = await ask(
            served,
            "{ agents { items { name condition declared } } tools { items { name definition } } "
            "workers { items { worker } } usage { items { runId usage { costUsd } } } "
            "schedules { items { scheduleId } } stops { items { kind } } approvals { items { approvalId } } }",
        )
        assert "errors" not in found, found
        assert found["data"]["agents"]["items"]
        assert found["data"]["tools"]["items"]


async def test_questions_schedules_and_stops_are_answered_and_moved(serve: Serve) -> None:
    async with team(working()) as app:
        served = await serve(app)
        run = await app.submit("Do both.", is_plan_reviewed=True)
        await run.result()
        listed = await ask(served, "{ approvals { items { approvalId kind run { id status } } } }")
        (question,) = listed["data"]["approvals"]["items"]
        assert question["run"] == {"id": run.id, "status": "waiting"}
        answered = await ask(
            served, 'mutation($a: ID!) { answer(approval: $a, answer: "approve") { id } }', a=question["approvalId"]
        )
        assert answered["data"]["answer"]["id"] == run.id
        again = await ask(
            served, 'mutation($a: ID!) { answer(approval: $a, answer: "approve") { id } }', a=question["approvalId"]
        )
        assert codes(again) == ["already_decided"]
        schedule = (await app.schedules.add("@daily", "Do it.", name="daily")).id
        for name, status in (("pauseSchedule", "paused"), ("resumeSchedule", "active")):
            moved = await ask(served, f"mutation($s: ID!) {{ {name}(schedule: $s) {{ status }} }}", s=schedule)
            assert moved["data"] == {name: {"status": status}}
        assert (await ask(served, "mutation($s: ID!) { removeSchedule(schedule: $s) }", s=schedule))["data"] is not None
        put = await ask(served, 'mutation($r: String!) { stop(kind: "run", name: $r) { name } }', r=run.id)
        assert put["data"]["stop"]["name"] == run.id
        off = await ask(served, 'mutation($r: String!) { start(kind: "run", name: $r) }', r=run.id)
        assert off["data"] == {"start": True}
        assert codes(await ask(served, 'mutation { stop(kind: "all", name: "x") { name } }')) == ["usage"]


BY_ID = (
    "query($i: ID!) { run(id: $i) { id } }",
    "query($i: ID!) { approval(id: $i) { approvalId } }",
    "query($i: ID!) { schedule(id: $i) { scheduleId } }",
    "mutation($i: ID!) { cancel(run: $i) { id } }",
    "mutation($i: ID!) { resume(run: $i) { id } }",
    "mutation($i: ID!) { fork(run: $i, at: 1) { id } }",
    'mutation($i: ID!) { say(run: $i, text: "x") { id } }',
    "mutation($i: ID!) { feedback(run: $i, isGood: true) }",
    'mutation($i: ID!) { answer(approval: $i, answer: "approve") { id } }',
    "mutation($i: ID!) { pauseSchedule(schedule: $i) { name } }",
    "mutation($i: ID!) { resumeSchedule(schedule: $i) { name } }",
    "mutation($i: ID!) { removeSchedule(schedule: $i) }",
    'mutation($i: String!) { stop(kind: "run", name: $i) { name } }',
    'mutation($i: String!) { start(kind: "run", name: $i) }',
    'mutation($i: String!) { submit(run: {goal: "On.", continues: $i}) { id } }',
    'mutation($i: String!) { submit(run: {goal: "On.", files: [$i]}) { id } }',
)


async def test_ids_of_another_tenant_are_not_there(serve: Serve) -> None:
    async with team(working()) as app:
        served = await serve(app)
        run = await app.submit("Do heliotrope.", is_plan_reviewed=True, tenant="other")
        await run.result()
        (question,) = await app.approvals(tenant="other")
        schedule = await app.schedules.add("@daily", "Do heliotrope.", name="heliotrope", tenant="other")
        for query in BY_ID:
            for id_ in (run.id, question.approval.id, schedule.id):
                found = await ask(served, query, i=id_)
                is_null = all(value is None for value in (found["data"] or {}).values())
                assert is_null, (query, found)
                assert set(codes(found)) <= {"not_found", "unreadable_input"}, (query, found)
                assert codes(found) or query.startswith("query"), query
                assert "heliotrope" not in str(found)
        for id_ in (run.id, "run_none"):
            async with client(served) as session, asyncio.timeout(SOON_S):
                query = f'subscription {{ events(run: "{id_}") {{ seq }} }}'
                with pytest.raises(TransportQueryError, match="there is no run"):
                    await anext(session.subscribe(gql(query)))
        names = "runs { items { goal } } approvals { items { question } } schedules { items { goal } }"
        everything = await ask(served, f"{{ {names} usage {{ items {{ runId }} }} stops {{ items {{ name }} }} }}")
        assert all(one == {"items": []} for one in everything["data"].values())
        assert (await app.state(run.id, tenant="other")).status == "waiting"


async def test_every_field_that_takes_an_id_is_tried_above() -> None:
    document = parse(text())
    fields = {
        field.name.value
        for kind in document.definitions
        if isinstance(kind, ObjectTypeDefinitionNode)
        for field in kind.fields or ()
        for given in field.arguments or ()
        if print_ast(given.type) == "ID!"
    }
    assert fields == {
        "run", "approval", "schedule", "cancel", "resume", "fork", "say", "feedback", "answer", "pauseSchedule",
        "resumeSchedule", "removeSchedule", "events",
    }  # fmt: skip


async def test_scopes_hold_and_errors_have_codes(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    async with team(working()) as app:
        served = await serve(app, authenticator=key(READ))
        refused = await ask(served, 'mutation { submit(run: {goal: "x"}) { id } }')
        assert codes(refused) == ["not_allowed"]
        assert len(refused["errors"][0]["extensions"]["trace_id"]) == 32
        assert codes(await ask(served, 'mutation { stop(kind: "tool", name: "x") { name } }')) == ["not_allowed"]
        assert codes(await ask(served, "{ nothing }")) == ["invalid_request"]
        assert set(codes(await ask(served, "{ __schema { types { name } } }"))) == {"invalid_request"}

        async def broken(self: RunAccess, *_: Any, **__: Any) -> None:
            raise RuntimeError("the password is tulip")

        monkeypatch.setattr(RunAccess, "states", broken)
        found = await ask(served, "{ runs { next } }")
        assert codes(found) == ["internal"]
        assert "tulip" not in str(found)


async def test_only_posts_of_json_are_taken(serve: Serve) -> None:
    async with team(working()) as app:
        http = (await serve(app)).http
        assert (await http.get("/graphql", params={"query": "{ runs { next } }"})).status_code == 405
        assert (await http.post("/graphql", json=[{"query": "{ runs { next } }"}])).status_code == 400
        for body in (b"", b"{", b"[" * 100_000, b'{"query": 1}', b'{"query": "{"}', b'"x"', b"\xff", b"null"):
            answer = await http.post("/graphql", content=body, headers={"content-type": "application/json"})
            assert answer.status_code in (200, 400), body[:20]
            assert answer.status_code == 400 or answer.json()["errors"], body[:20]
        other = {"content-type": "text/plain"}
        plain = await http.post("/graphql", content=b'{"query": "{ runs { next } }"}', headers=other)
        assert plain.status_code == 400
        assert (await http.post("/graphql", json={"query": "{a}", "variables": "x" * 2**21})).status_code == 413


@asynccontextmanager
async def client(served: Served) -> AsyncIterator[Any]:
    url = served.url.replace("http://", "ws://") + "/graphql"
    transport = WebsocketsTransport(url=url, subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL])
    async with Client(transport=transport, fetch_schema_from_transport=False) as session:
        yield session


async def test_a_client_of_others_asks_does_and_looks_on(serve: Serve) -> None:
    async with team(working()) as app:
        served = await serve(app)
        transport = HTTPXAsyncTransport(url=f"{served.url}/graphql")
        async with Client(transport=transport, fetch_schema_from_transport=True) as http:
            made = await http.execute(gql('mutation { submit(run: {goal: "Do both."}) { id } }'))
        run = made["submit"]["id"]
        async with client(served) as session, asyncio.timeout(SOON_S):
            query = gql("subscription($r: ID!) { events(run: $r, after: 2) { seq type } }")
            query.variable_values = {"r": run}
            seen = [told["events"]["seq"] async for told in session.subscribe(query)]
            listed = await session.execute(gql("{ runs { items { id status } } }"))
        assert seen == [one.seq for one in await app.stores.journal.read(run)][2:]
        assert listed["runs"]["items"] == [{"id": run, "status": "succeeded"}]


async def test_changes_of_lists_are_told(serve: Serve) -> None:
    async with team(Hanging()) as app:
        served = await serve(app)
        run = await app.submit("Do both.")
        async with client(served) as session, asyncio.timeout(SOON_S):
            told = session.subscribe(gql('subscription { changes(topics: ["runs"]) { topic key value } }'))
            first = await anext(told)
            assert (first["changes"]["topic"], first["changes"]["key"]) == ("runs", run.id)
            await told.aclose()


async def test_sockets_end_with_the_credential_and_pages_of_others_get_none(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "CHECK_S", 0.05)
    async with team(working()) as app:
        entry = key(OPERATE)
        served = await serve(app, authenticator=entry)
        url = served.url.replace("http://", "ws://") + "/graphql"
        with pytest.raises(InvalidStatus):
            await connect(url, proxy=None, origin=Origin("https://evil.example"), subprotocols=[SPOKEN])
        async with connect(url, proxy=None, subprotocols=[SPOKEN]) as made:
            entry.holds = False
            with pytest.raises(ConnectionClosed):
                async with asyncio.timeout(SOON_S):
                    await made.recv()
            assert made.close_code == 4401


async def test_messages_that_are_none_close_the_socket(serve: Serve) -> None:
    async with team(working()) as app:
        served = await serve(app)
        url = served.url.replace("http://", "ws://") + "/graphql"
        ack = '{"type":"connection_init"}'
        for bad in ("", '"x"', "[]", "{}", '{"type":1}', '{"type":"subscribe","id":"1","payload":3}', "[" * 100_000):
            async with connect(url, proxy=None, subprotocols=[SPOKEN]) as made, asyncio.timeout(SOON_S):
                await made.send(ack)
                assert "connection_ack" in str(await made.recv())
                await made.send(bad)
                await made.wait_closed()
                assert made.close_code == 4400, bad[:40]


async def test_a_page_of_runs_is_read_once_however_much_is_asked_of_them(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    joined = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        made = joined(*args, **options)
        made.set_trace_callback(statements.append)
        return made

    monkeypatch.setattr(sqlite3, "connect", traced)
    async with (
        opened(f"sqlite:///{tmp_path}/c.db") as stores,
        team(working(), stores=stores, scope="none") as app,
    ):
        served = await serve(app)
        for number in range(50):
            await app.submit(f"Goal {number}.")

        async def count(fields: str) -> int:
            await ask(served, "{ runs { items { id } } }")
            statements.clear()
            found = await ask(served, f"{{ runs {{ items {{ {fields} }} }} }}")
            assert len(found["data"]["runs"]["items"]) == 50
            return sum(one.lstrip().upper().startswith("SELECT") for one in statements)

        bare = await count("id status")
        deep = await count("id tasks { id usage { modelCalls } } plan { source } approvals { run { goal } }")
        # The journal has no read of several runs: a page costs the same for each run, and no more for what is in it.
        assert 0 < bare <= 50 * 4
        assert deep == bare


async def test_a_credential_that_is_gone_changes_nothing_over_an_open_socket(serve: Serve) -> None:
    """The socket is closed a little later; until then nothing is done for it."""
    async with team(Hanging()) as app:
        entry = key(OPERATE)
        served = await serve(app, authenticator=entry)
        url = served.url.replace("http://", "ws://") + "/graphql"
        async with connect(url, proxy=None, subprotocols=[SPOKEN]) as made:
            await made.send('{"type": "connection_init"}')
            await made.recv()
            told = []
            for name in ("before", "after"):
                query = 'mutation { submit(run: {goal: "Do both."}) { id } }'
                await made.send(json.dumps({"type": "subscribe", "id": name, "payload": {"query": query}}))
                async with asyncio.timeout(SOON_S):
                    while (message := json.loads(await made.recv())).get("type") == "complete":
                        pass
                told.append(message)
                entry.holds = False
        assert told[0]["type"] == "next", told
        assert told[1]["type"] == "error", told
        assert told[1]["payload"][0]["extensions"]["code"] == "not_authenticated"
        assert len(await app.runs()) == 1
