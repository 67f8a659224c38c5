"""Hostile text through the faces beside REST: it comes back as data of a kind that no browser takes for a page."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from websockets.asyncio.client import connect

from collegium.server.rest.manual import page
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.server.test_agui import asking
from tests.unit.stores.moved import working

PAYLOADS = (
    "<script>xss7d1</script>",
    "'\"></script><svg onload=xss7d1>",
    "x\r\ndata: <script>xss7d1</script>\r\n\r\n<img src=x onerror=xss7d1>",
)
KINDS = ("application/json", "application/problem+json", "text/event-stream", "application/a2a+json")
BROWSER = {"accept": "text/html,*/*;q=0.8"}


def check(reply: httpx.Response, *, status: tuple[int, ...] = (200,)) -> None:
    """It is data, said to be data, and not to be taken for anything else."""
    assert reply.status_code in status, (reply.request.url, reply.status_code, reply.text[:300])
    assert reply.headers["content-type"].partition(";")[0] in KINDS, (reply.request.url, reply.headers)
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in reply.headers["content-security-policy"]
    if reply.headers["content-type"].startswith("text/event-stream"):
        fields = ("data:", "event:", "id:", "retry:", ":", "")
        assert all(line.startswith(fields) and "<" not in line[:7] for line in reply.text.split("\n"))
        for line in reply.text.splitlines():
            if line.startswith("data:"):
                json.loads(line.removeprefix("data:"))
    else:
        json.loads(reply.text)


@pytest.mark.parametrize("payload", PAYLOADS, ids=["a script", "a way out", "a line"])
async def test_what_is_hostile_comes_back_as_data_from_every_face(serve: Serve, payload: str):
    async with team(working()) as app:
        served = await serve(app)
        http = served.http
        http.headers.update(BROWSER)
        run = (await http.post("/v1/runs", json={"goal": payload})).json()["run_id"]
        await app.result(run)
        shown = await http.post("/graphql", json={"query": "{ runs(limit: 5) { items { goal } } }"})
        check(shown)
        assert payload in [one["goal"] for one in shown.json()["data"]["runs"]["items"]], "as it was said"
        check(await http.post("/graphql", json={"query": payload}))
        check(await http.post("/graphql", json={"query": "query($r: String!) { run(id: $r) { goal } }",
                                                "variables": {"r": payload}}))  # fmt: skip
        told = await http.get(f"/v1/runs/{run}/events", headers={"accept": "text/event-stream"})
        check(told)
        assert "xss7d1" in told.text
        check(await http.post("/agui", json=asking(payload)))
        check(await http.post("/agui", json={"threadId": payload}), status=(400, 422))
        for method, params in (("SendMessage", _message(payload)), (payload, {}), ("GetTask", {"id": payload})):
            call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            check(await http.post("/a2a", json=call, headers={"A2A-Version": "1.0"}))
        for method, params in (("tools/call", {"name": payload, "arguments": {}}), (payload, {})):
            call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            accept = {"accept": "application/json, text/event-stream"}
            check(await http.post("/mcp", json=call, headers=accept), status=(200, 400, 404))
        for path in (payload, f"v1/runs/{payload}", f"docs/{payload}", f"a2a/{payload}"):
            check(await http.get("/" + quote(path, safe="/")), status=(400, 404, 405))
        check(await http.get("/.well-known/agent-card.json", headers={"x-forwarded-host": "xss7d1.example"}))


@pytest.mark.parametrize("payload", PAYLOADS, ids=["a script", "a way out", "a line"])
async def test_frames_of_a_socket_are_json_whatever_they_tell(serve: Serve, payload: str):
    async with team(working()) as app:
        served = await serve(app)
        run = (await served.http.post("/v1/runs", json={"goal": payload})).json()["run_id"]
        await app.result(run)
        async with connect(served.url.replace("http://", "ws://") + "/v1/ws", proxy=None) as socket:
            for sent in ({"op": payload}, {"op": "subscribe", "topics": [payload]}, payload,
                         {"op": "subscribe", "topics": [f"run:{run}"]}):  # fmt: skip
                await socket.send(json.dumps(sent) if isinstance(sent, dict) else sent)
                frame = await socket.recv()
                assert isinstance(frame, str)
                assert isinstance(json.loads(frame), dict)


async def test_the_manual_shows_what_a_document_says_and_follows_none_of_it(serve: Serve):
    hostile = PAYLOADS[0]
    operation: dict[str, Any] = {
        "summary": hostile, "description": hostile, "tags": [hostile],
        "parameters": [{"name": hostile, "in": hostile, "description": hostile, "required": True}],
        "requestBody": {"content": {hostile: {"schema": {"$ref": hostile, "description": hostile}}}},
        "responses": {hostile: {"description": hostile, "content": {hostile: {"schema": {"title": hostile}}}}},
    }  # fmt: skip
    document = {
        "info": {"title": hostile, "version": hostile, "summary": hostile},
        "paths": {f"/{hostile}": {"get": operation}},
        "components": {"schemas": {hostile: {"description": hostile, "properties": {hostile: {}}}}},
    }
    shown = page(document)
    assert "xss7d1" in shown
    assert "<script" not in shown
    async with team(working()) as app:
        reply = await (await serve(app)).http.get(f"/docs?x={hostile}", headers=BROWSER)
        assert reply.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "xss7d1" not in reply.text


def _message(text: str) -> dict[str, Any]:
    return {"message": {"messageId": "m-1", "role": "ROLE_USER", "parts": [{"text": text}]}}
