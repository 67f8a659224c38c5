"""MCP with the official client over real HTTP, of the stateless era and of the one before it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, TextContent

from collegium.domain.document import GivenFile
from collegium.domain.principal import Principal, scopes_of
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.server.people import Somebody
from tests.unit.stores.moved import PLAN, Hanging, working

ERAS = ["2026-07-28", "legacy"]
KEEPER = Principal(id="key:keeper", tenant="default", scopes=scopes_of(["approver", "operator"]), kind="key")


@asynccontextmanager
async def connected(url: str, mode: Any = "auto") -> AsyncIterator[Client]:
    async with Client(f"{url}/mcp", mode=mode, read_timeout_seconds=30) as client:
        yield client


def told(result: CallToolResult) -> str:
    content = result.content[0]
    assert isinstance(content, TextContent)
    return content.text


async def test_the_newest_version_is_found_by_asking(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        for mode, version in (("auto", "2026-07-28"), ("legacy", "2025-11-25")):
            async with connected(served.url, mode) as client:
                assert client.protocol_version == version
                assert client.server_info is not None
                assert client.server_info.name == "collegium"


@pytest.mark.parametrize("era", ERAS)
async def test_a_goal_is_done_from_the_first_call_to_the_answer(serve: Serve, era: str):
    async with team(working()) as app:
        served = await serve(app)
        async with connected(served.url, era) as client:
            asked = {"goal": "Do both.", "idempotency_key": "k"}
            run = (await client.call_tool("submit_goal", asked)).structured_content["run_id"]
            # A stream that broke loses its request: whoever asks again is given the same run.
            assert (await client.call_tool("submit_goal", asked)).structured_content == {"run_id": run}
            over = (await client.call_tool("wait_for_run", {"run_id": run, "timeout_s": 20})).structured_content
            assert (over["status"], over["is_over"]) == ("succeeded", True)
            assert isinstance(over["answer"], str)
            assert (await client.call_tool("read_run", {"run_id": run})).structured_content == over
            events = (await client.call_tool("read_events", {"run_id": run, "limit": 2})).structured_content
            assert [e["seq"] for e in events["events"]] == [1, 2]
            assert events["next"] == 2
            listed = (await client.call_tool("list_runs", {})).structured_content
            assert [one["run_id"] for one in listed["runs"]] == [run]


@pytest.mark.parametrize("era", ERAS)
async def test_tools_say_what_they_take_give_and_change(serve: Serve, era: str):
    async with team(working()) as app:
        served = await serve(app)
        async with connected(served.url, era) as client:
            tools = (await client.list_tools()).tools
            assert [t.name for t in tools] == [t.name for t in (await client.list_tools()).tools]
        by_name = {t.name: t for t in tools}
        changing = {t.name for t in tools if t.annotations is not None and not t.annotations.read_only_hint}
        assert changing == {"submit_goal", "answer_approval", "cancel_run"}
        assert by_name["submit_goal"].input_schema["required"] == ["goal"]
        assert all(t.output_schema is not None and t.output_schema["type"] == "object" for t in tools)


@pytest.mark.parametrize("era", ERAS)
async def test_questions_are_listed_and_answered(serve: Serve, era: str):
    async with team(working()) as app:
        served = await serve(app, authenticator=Somebody(KEEPER))
        run = (await app.submit("Do both.", plan=PLAN, is_plan_reviewed=True)).id
        async with connected(served.url, era) as client:
            waiting = (await client.call_tool("wait_for_run", {"run_id": run, "timeout_s": 20})).structured_content
            assert waiting["status"] == "waiting"
            open_ones = (await client.call_tool("list_approvals", {})).structured_content["questions"]
            assert [(q["run_id"], q["question"]["kind"]) for q in open_ones] == [(run, "plan")]
            approval = open_ones[0]["question"]["approval"]
            wrong = await client.call_tool("answer_approval", {"approval": approval, "answer": "retry"})
            assert wrong.is_error
            assert told(wrong).startswith("usage: ")
            await client.call_tool("answer_approval", {"approval": approval, "answer": "approve"})
            over = (await client.call_tool("wait_for_run", {"run_id": run, "timeout_s": 20})).structured_content
            assert over["is_over"]
        state = await app.state(run)
        answer = state.approvals[approval].answer
        assert answer is not None
        assert answer.principal == "key:keeper"


@pytest.mark.parametrize("era", ERAS)
async def test_documents_of_a_run_are_searched_and_runs_are_resources(serve: Serve, era: str):
    async with team(working()) as app:
        served = await serve(app)
        file = GivenFile(path="a.md", data=b"The warranty lasts seven years.")
        run = await app.submit("Do both.", plan=PLAN, files=[file])
        await run.result()
        async with connected(served.url, era) as client:
            asked = {"run_id": run.id, "query": "how long is the warranty"}
            found = (await client.call_tool("search_documents", asked)).structured_content["passages"]
            assert (found[0]["document"], found[0]["text"]) == ("a.md", "The warranty lasts seven years.")
            resources = (await client.list_resources()).resources
            assert [str(one.uri) for one in resources] == [f"collegium://runs/{run.id}"]
            read = (await client.read_resource(str(resources[0].uri))).contents[0]
            assert json.loads(getattr(read, "text", "{}"))["run_id"] == run.id
            for uri in ("collegium://runs/run_none", "file:///etc/passwd"):
                with pytest.raises(MCPError, match="there is no"):
                    await client.read_resource(uri)


@pytest.mark.parametrize("era", ERAS)
async def test_a_run_is_cancelled(serve: Serve, era: str):
    model = Hanging()
    async with team(model) as app:
        served = await serve(app)
        run = (await app.submit("Hang.", plan=PLAN)).id
        await model.asked.wait()
        async with connected(served.url, era) as client:
            standing = await client.call_tool("wait_for_run", {"run_id": run, "timeout_s": 0.2})
            assert standing.structured_content["status"] == "running"
            await client.call_tool("cancel_run", {"run_id": run, "reason": "enough"})
            over = (await client.call_tool("wait_for_run", {"run_id": run, "timeout_s": 20})).structured_content
            assert over["status"] == "cancelled"


@pytest.mark.parametrize("era", ERAS)
async def test_what_does_not_do_is_said_to_the_model_and_nothing_of_the_inside(serve: Serve, era: str):
    async with team(working()) as app:
        served = await serve(app)
        async with connected(served.url, era) as client:
            for tool, arguments, code in (
                ("submit_goal", {}, "invalid_arguments"),
                ("submit_goal", {"goal": 7}, "invalid_arguments"),
                ("submit_goal", {"goal": "x", "surprise": 1}, "invalid_arguments"),
                ("submit_goal", {"goal": "   "}, "usage"),
                ("read_run", {"run_id": "run_none"}, "not_found"),
                ("wait_for_run", {"run_id": "run_none"}, "not_found"),
                ("wait_for_run", {"run_id": "run_none", "timeout_s": 1e9}, "invalid_arguments"),
                ("answer_approval", {"approval": "apr_none", "answer": "approve"}, "not_found"),
                ("list_runs", {"after": "zzz"}, "usage"),
            ):
                result = await client.call_tool(tool, arguments)
                assert result.is_error, (tool, arguments)
                assert told(result).startswith(f"{code}: "), told(result)
                assert "Traceback" not in told(result)
            with pytest.raises(MCPError, match="there is no tool"):
                await client.call_tool("rm_rf", {})


async def test_a_caller_has_its_own_rights_and_its_own_tenant(serve: Serve):
    async with team(working()) as app:
        run = (await app.submit("Do both.", plan=PLAN)).id
        viewer = Principal(id="key:v", tenant="default", scopes=scopes_of(["viewer"]), kind="key")
        stranger = Principal(id="key:s", tenant="other", scopes=scopes_of(["admin"]), kind="key")
        served = await serve(app, authenticator=Somebody(viewer))
        async with connected(served.url) as client:
            assert not (await client.call_tool("read_run", {"run_id": run})).is_error
            for tool, arguments in (("submit_goal", {"goal": "x"}), ("cancel_run", {"run_id": run})):
                assert told(await client.call_tool(tool, arguments)).startswith("not_allowed: ")
        served = await serve(app, authenticator=Somebody(stranger))
        async with connected(served.url) as client:
            for tool in ("read_run", "wait_for_run", "read_events", "cancel_run"):
                assert told(await client.call_tool(tool, {"run_id": run})).startswith("not_found: ")
            assert (await client.call_tool("list_runs", {})).structured_content["runs"] == []
            assert (await client.list_resources()).resources == []


async def test_without_a_session_there_is_nothing_to_listen_to_and_nobody_unknown_is_served(serve: Serve):
    async with team(working()) as app:
        served = await serve(app, authenticator=Somebody(None))
        reply = await served.http.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        assert (reply.status_code, reply.json()["code"]) == (401, "not_authenticated")
        served = await serve(app)
        for method in ("GET", "DELETE"):
            reply = await served.http.request(method, "/mcp")
            assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
        for body, status in ((b"{", 400), (b"[]", 400), (b"x" * 2_000_000, 413)):
            headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
            reply = await served.http.post("/mcp", content=body, headers=headers)
            assert reply.status_code == status, (body[:10], reply.text)
