"""A2A 1.0 with the client of the SDK over real HTTP, by both bindings."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.client.client import Client
from a2a.types import (
    CancelTaskRequest,
    GetExtendedAgentCardRequest,
    GetTaskRequest,
    ListTasksRequest,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskState,
)
from a2a.utils.errors import (
    InvalidParamsError,
    InvalidRequestError,
    PushNotificationNotSupportedError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from collegium.domain.principal import Principal, scopes_of
from collegium.server.a2a.wire import data
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.server.people import Somebody
from tests.unit.stores.moved import PLAN, Hanging, working

BINDINGS = ["JSONRPC", "HTTP+JSON"]


@asynccontextmanager
async def connected(url: str, binding: str = "JSONRPC", *, streams: bool = False) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        config = ClientConfig(httpx_client=http, supported_protocol_bindings=[binding], streaming=streams)
        yield await ClientFactory(config).create_from_url(url)


def saying(text: str, **fields: Any) -> SendMessageRequest:
    message = Message(message_id=str(uuid.uuid4()), role=Role.ROLE_USER, parts=[Part(text=text)], **fields)
    return SendMessageRequest(message=message)


async def sent(client: Client, request: SendMessageRequest) -> Task:
    (reply,) = [one async for one in client.send_message(request)]
    return reply.task


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_goal_is_a_task_and_its_answer_an_artifact(serve: Serve, binding: str):
    async with team(working()) as app:
        served = await serve(app)
        async with connected(served.url, binding) as client:
            request = saying("Do both.")
            request.message.parts.append(Part(raw=b"Seven years.", filename="../../a.md", media_type="text/markdown"))
            task = await sent(client, request)
            assert task.status.state == TaskState.TASK_STATE_COMPLETED
            assert task.context_id == task.id
            assert [a.artifact_id for a in task.artifacts] == ["answer"]
            assert task.history[0].parts[0].text == "Do both."
            assert [f.path for f in (await app.state(task.id)).goal.files] == ["a.md"]
            # The same message again is the same task.
            assert (await sent(client, request)).id == task.id
            assert (await client.get_task(GetTaskRequest(id=task.id, history_length=0))).history == []
            listed = await client.list_tasks(ListTasksRequest())
            assert [(t.id, len(t.artifacts)) for t in listed.tasks] == [(task.id, 0)]
            done = ListTasksRequest(status=TaskState.TASK_STATE_COMPLETED, include_artifacts=True)
            assert len((await client.list_tasks(done)).tasks[0].artifacts) == 1
            failed = ListTasksRequest(status=TaskState.TASK_STATE_FAILED)
            assert len((await client.list_tasks(failed)).tasks) == 0


@pytest.mark.parametrize("binding", BINDINGS)
async def test_messages_of_one_context_are_runs_that_ask_on(serve: Serve, binding: str):
    async with team(working()) as app:
        served = await serve(app)
        async with connected(served.url, binding) as client:
            first = await sent(client, saying("Do both."))
            again = saying("And now?", context_id=first.context_id)
            second = await sent(client, again)
            third = await sent(client, saying("And then?", context_id=first.context_id))
            assert {first.context_id} == {second.context_id, third.context_id}
            assert (await app.state(second.id)).goal.continues == first.id
            assert (await app.state(third.id)).goal.continues == second.id
            chain = await client.list_tasks(ListTasksRequest(context_id=first.context_id))
            assert [t.id for t in chain.tasks] == [third.id, second.id, first.id]
            with pytest.raises(TaskNotFoundError):
                await sent(client, saying("Who?", context_id="of-my-own"))
            with pytest.raises(UnsupportedOperationError):
                await sent(client, saying("More.", task_id=first.id))


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_task_that_needs_input_is_answered_by_a_message(serve: Serve, binding: str):
    async with team(working()) as app:
        served = await serve(app)
        async with connected(served.url, binding) as client:
            run = (await app.submit("Do both.", plan=PLAN, is_plan_reviewed=True)).id
            await app.result(run)
            task = await client.get_task(GetTaskRequest(id=run))
            assert task.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
            question = task.status.message.parts[1].data.struct_value
            assert list(question["answers"]) == ["approve", "reject"]
            still = await sent(client, saying("Make it short.", task_id=run))
            assert still.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
            assert (await app.state(run)).said == ("Make it short.",)
            with pytest.raises(InvalidParamsError):
                await sent(client, answering(run, question["approval"], "perhaps"))
            done = await sent(client, answering(run, question["approval"], "approve"))
            assert done.status.state == TaskState.TASK_STATE_COMPLETED


def answering(run: str, approval: str, answer: str) -> SendMessageRequest:
    part = Part(data=data({"approval": approval, "answer": answer, "reason": "it is fine"}))
    message = Message(message_id=str(uuid.uuid4()), role=Role.ROLE_USER, parts=[part], task_id=run)
    return SendMessageRequest(message=message)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_stream_tells_what_happens_until_the_end(serve: Serve, binding: str):
    async with team(working()) as app:
        served = await serve(app)
        async with connected(served.url, binding, streams=True) as client:
            events = [one async for one in client.send_message(saying("Do both."))]
            kinds = [one.WhichOneof("payload") for one in events]
            assert kinds[0] == "task"
            assert kinds[-2:] == ["artifact_update", "status_update"]
            states = [e.status_update.status.state for e in events if e.HasField("status_update")]
            assert states[-1] == TaskState.TASK_STATE_COMPLETED
            assert TaskState.TASK_STATE_WORKING in states
            lines = [p.text for e in events for p in e.status_update.status.message.parts]
            assert any(line.endswith("has begun") for line in lines)
            run = (await app.submit("Do both.", plan=PLAN, is_plan_reviewed=True)).id
            told = [one async for one in client.subscribe(SubscribeToTaskRequest(id=run))]
            last = told[-1]
            state = last.task.status.state if last.HasField("task") else last.status_update.status.state
            assert state == TaskState.TASK_STATE_INPUT_REQUIRED
            await sent_stream(client, saying("approve", task_id=run))
            with pytest.raises(UnsupportedOperationError):
                _ = [one async for one in client.subscribe(SubscribeToTaskRequest(id=run))]


async def sent_stream(client: Client, request: SendMessageRequest) -> None:
    events = [one async for one in client.send_message(request)]
    assert events[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_task_is_cancelled_once(serve: Serve, binding: str):
    model = Hanging()
    async with team(model) as app:
        served = await serve(app)
        async with connected(served.url, binding) as client:
            request = saying("Hang.")
            request.configuration.CopyFrom(SendMessageConfiguration(return_immediately=True))
            task = await sent(client, request)
            assert task.status.state in (TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING)
            await model.asked.wait()
            over = await client.cancel_task(CancelTaskRequest(id=task.id))
            assert over.status.state == TaskState.TASK_STATE_CANCELED
            with pytest.raises(TaskNotCancelableError):
                await client.cancel_task(CancelTaskRequest(id=task.id))


async def test_the_card_is_open_and_nothing_else_is(serve: Serve):
    async with team(working()) as app:
        served = await serve(app, authenticator=Somebody(None))
        reply = await served.http.get("/.well-known/agent-card.json")
        card = reply.json()
        assert [i["protocolBinding"] for i in card["supportedInterfaces"]] == BINDINGS
        assert card["supportedInterfaces"][0]["url"] == f"{served.url}/a2a"
        assert card["securitySchemes"]["bearer"]["httpAuthSecurityScheme"]["scheme"] == "Bearer"
        assert [s["id"] for s in card["skills"]] == ["goal"]
        again = await served.http.get("/.well-known/agent-card.json", headers={"if-none-match": reply.headers["etag"]})
        assert again.status_code == 304
        for method, path in (
            ("POST", "/a2a"),
            ("POST", "/a2a/message:send"),
            ("GET", "/a2a/tasks"),
            ("GET", "/a2a/extendedAgentCard"),
        ):
            assert (await served.http.request(method, path)).status_code == 401, path
        served = await serve(app)
        async with connected(served.url) as client:
            extended = await client.get_extended_agent_card(GetExtendedAgentCardRequest())
            assert {"research", "write"} <= {s.id for s in extended.skills}


@pytest.mark.parametrize("binding", BINDINGS)
async def test_other_tenants_tasks_are_not_there_and_rights_hold(serve: Serve, binding: str):
    async with team(working()) as app:
        run = (await app.submit("Do both.", plan=PLAN)).id
        stranger = Principal(id="key:s", tenant="other", scopes=scopes_of(["admin"]), kind="key")
        served = await serve(app, authenticator=Somebody(stranger))
        async with connected(served.url, binding) as client:
            with pytest.raises(TaskNotFoundError):
                await client.get_task(GetTaskRequest(id=run))
            with pytest.raises(TaskNotFoundError):
                await client.cancel_task(CancelTaskRequest(id=run))
            with pytest.raises(TaskNotFoundError):
                await sent(client, saying("x", task_id=run))
            with pytest.raises(TaskNotFoundError):
                await sent(client, saying("x", context_id=run))
            assert len((await client.list_tasks(ListTasksRequest())).tasks) == 0
        viewer = Principal(id="key:v", tenant="default", scopes=scopes_of(["viewer"]), kind="key")
        served = await serve(app, authenticator=Somebody(viewer))
        async with connected(served.url, binding) as client:
            with pytest.raises(InvalidRequestError, match="not_allowed"):
                await sent(client, saying("x"))


async def test_what_does_not_do_is_refused_with_nothing_of_the_inside(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        version = {"a2a-version": "1.0"}
        for body, code in (
            (b"{", -32700),
            (b"[]", -32600),
            (b'{"jsonrpc":"2.0","id":1,"method":"Nothing"}', -32601),
            (b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":7}}', -32602),
            (b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{}}', -32602),
            (b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"run_none"}}', -32001),
            (b'{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":{"pageSize":1000}}', -32602),
            (b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"run_none","tenant":"other"}}', -32602),
        ):
            reply = await served.http.post("/a2a", content=body, headers=version)
            assert reply.json()["error"]["code"] == code, (body, reply.text)
        reply = await served.http.post(
            "/a2a", json={"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "x"}}
        )
        assert reply.json()["error"]["code"] == -32009
        big = await served.http.post("/a2a", content=b"x" * 17_000_000, headers=version)
        assert big.status_code == 413
        async with connected(served.url) as client:
            empty = saying("  ")
            with pytest.raises(InvalidParamsError):
                await sent(client, empty)
            pushed = saying("x")
            pushed.configuration.task_push_notification_config.url = "http://127.0.0.1/"
            with pytest.raises(PushNotificationNotSupportedError):
                await sent(client, pushed)
