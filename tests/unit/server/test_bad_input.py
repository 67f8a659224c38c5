"""What no well-behaved client sends: always the right refusal, as a problem document, and never a fault of ours."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

import pytest

from collegium.server import head_cap
from collegium.server.head_cap import MAX_HEAD_BYTES
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve, Served
from tests.unit.stores.moved import working

JSON: Final = {"content-type": "application/json"}
DEEP: Final = b'{"goal":"x","output_schema":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_001
WRONG: Final = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b'["goal"]',
    "null": b"null",
    "not UTF-8": b'{"goal":"\xff\xfe"}',
    "a lone surrogate": rb'{"goal":"\ud800"}',
    "a huge number": b'{"goal":"x","limits":{"tokens":' + b"9" * 400 + b"}}",
    "a number beyond all": b'{"goal":"x","limits":{"deadline_s":1e999}}',
    "a number of more digits than are read": b'{"goal":"x","limits":{"tokens":' + b"9" * 5_000 + b"}}",
    "no number": b'{"goal":"x","limits":{"cost_usd":NaN}}',
    "another type": b'{"goal":{"text":"x"}}',
    "a field that is none": b'{"goal":"x","rm":"-rf"}',
    "great depth": DEEP,
    "a surrogate in a plan": rb'{"goal":"x","plan":{"tasks":[{"id":"\udfff","title":"t"}]}}',
    "a surrogate in a name": rb'{"goal":"x","tools":["\ud800"]}',
    "a surrogate in a key": rb'{"goal":"x","output_schema":{"type":"object","\ud800":1}}',
    "a surrogate as a model": rb'{"goal":"x","model":"\ud800"}',
    "a NUL in an id": rb'{"goal":"x","continues":"run_\u0000"}',
    "a NUL in a file": rb'{"goal":"x","files":["upl_\u0000"]}',
}

WRONG_OF_ITS_OWN = ("a surrogate in a key", "a NUL in an id", "a NUL in a file")
"""Goals as they should be, of which a batch tells one by one that they cannot be."""


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("/v1/runs?limt=5", "there are after, limit, project, status"),
        ("/v1/runs/run_1?at=5", "there is none"),
        ("/v1/runs/run_1/events?before=5", "there are after, limit"),
        ("/v1/schedules?limt=5", "there are after, limit"),
        ("/v1/schedules/one?at=5", "there is none"),
    ],
)
async def test_a_parameter_that_is_misspelt_is_not_passed_over(serve: Serve, path: str, known: str):
    async with team(working()) as app:
        reply = await (await serve(app)).http.get(path)
        assert _is_problem(reply.status_code, reply.headers["content-type"])
        name = path.partition("?")[2].partition("=")[0]
        assert reply.json()["detail"] == f"there is no parameter {name!r} here: {known}"


async def test_what_graphql_does_not_take_is_a_problem_like_any_other(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        for body in (b'[{"query":"{ agents { name } }"}]', b"[]", b"{", b'{"query":7}'):
            reply = await http.post("/graphql", content=body, headers=JSON)
            assert _is_problem(reply.status_code, reply.headers["content-type"]), (body, reply.text)
        reply = await http.put("/v1/runs")
        assert reply.json()["detail"] == "/v1/runs is asked by GET, POST, not by PUT"


def _is_problem(reply_status: int, kind: str) -> bool:
    return 400 <= reply_status < 500 and kind == "application/problem+json"


@pytest.mark.parametrize("wrong", WRONG)
async def test_bodies_that_are_none_are_refused(serve: Serve, wrong: str):
    async with team(working()) as app:
        http = (await serve(app)).http
        one = await http.post("/v1/runs", content=WRONG[wrong], headers=JSON)
        assert _is_problem(one.status_code, one.headers["content-type"]), one.text
        batch = await http.post("/v1/runs/batch", content=b'{"runs":[' + WRONG[wrong] + b"]}", headers=JSON)
        assert (batch.status_code == 200) == (wrong in WRONG_OF_ITS_OWN), batch.text
        assert _is_problem(batch.status_code, batch.headers["content-type"]) != (wrong in WRONG_OF_ITS_OWN)
        refused = batch.json()["items"][0] if wrong in WRONG_OF_ITS_OWN else batch.json()
        assert refused["code"], batch.text
        assert (await http.get("/v1/runs")).json()["items"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/runs/%00", "/v1/runs/%ff%fe", "/v1/runs/run_%00/events", "/v1/runs/..%2f..%2fetc",
        "/v1/runs/" + "a" * 5_000,
        "/v1/runs?after=%00", "/v1/runs?after=%ff", "/v1/runs?limit=1e3", "/v1/runs?limit=-1",
        "/v1/runs?limit=%EF%BC%91",
        "/v1/runs?limit=" + "9" * 5_000, "/v1/runs/run_x/events?after=99999999999999999999", "/v1/uploads/%00",
        "/v1/uploads?after=%00", "/v1/runs/run_x/files/%00", "/v1/runs/run_x/files/..%2f..%2fetc%2fpasswd",
    ],
)  # fmt: skip
async def test_addresses_that_are_none_are_refused(serve: Serve, path: str):
    async with team(working()) as app:
        reply = await (await serve(app)).http.get(path)
        assert _is_problem(reply.status_code, reply.headers["content-type"]), reply.text


@pytest.mark.parametrize("status", ["nonsense", "%00", "%ff", "running,nonsense"])
async def test_a_status_that_is_none_finds_nothing_or_is_refused(serve: Serve, status: str):
    async with team(working()) as app:
        reply = await (await serve(app)).http.get(f"/v1/runs?status={status}")
        assert reply.status_code in (200, 400), reply.text


@pytest.mark.parametrize("body", ["{", '{"text":"\\ud800"}', '{"text":7}', "[]", '{"text":""}'])
async def test_what_is_said_has_to_be_a_text(serve: Serve, body: str):
    async with team(working()) as app:
        http = (await serve(app)).http
        run = (await http.post("/v1/runs", json={"goal": "Do it."})).json()["run_id"]
        for path in ("say", "feedback", "fork", "cancel", "resume"):
            reply = await http.post(f"/v1/runs/{run}/{path}", content=body, headers=JSON)
            assert _is_problem(reply.status_code, reply.headers["content-type"]), (path, reply.status_code, reply.text)


async def test_keys_that_cannot_be_kept_are_refused(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        for key in (b"k" * 300, b"\xff\xfe", b"a b\x7f"):
            reply = await http.post("/v1/runs", json={"goal": "x"}, headers=[(b"idempotency-key", key)])
            assert reply.status_code < 500, reply.text


@pytest.mark.parametrize("name", [b"x-%d: ", b"x: ", b""], ids=["many", "one name", "in one piece"])
async def test_headers_without_end_are_cut_off(serve: Serve, name: bytes):
    async with team(working()) as app:
        served = await serve(app)
        ends = b"\r\n" if name else b""
        lines = b"".join((name % n if b"%" in name else name) + b"y" * 1_000 + ends for n in range(1_000))
        said = await _raw(served, b"GET /v1/runs HTTP/1.1\r\nhost: 127.0.0.1\r\nz: z" + lines + b"\r\n\r\n")
        assert said == b"" or said.split(b" ")[1] == b"431", said[:200]
        assert (await served.http.get("/healthz")).status_code == 200


async def test_headers_that_are_a_little_too_large_are_refused(serve: Serve):
    async with team(working()) as app:
        http = (await serve(app)).http
        reply = await http.get("/v1/runs", headers={"x": "y" * (MAX_HEAD_BYTES + 1)})
        assert (reply.status_code, reply.json()["code"]) == (431, "too_large")
        assert reply.headers["content-type"] == "application/problem+json"
        assert (await http.get("/v1/runs", headers={"x": "y" * (MAX_HEAD_BYTES // 2)})).status_code == 200


async def test_headers_that_trickle_are_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(head_cap, "HEAD_S", 0.1)
    async with team(working()) as app:
        served = await serve(app)
        for sent, status in ((b"", b""), (b"GET /v1/runs HTTP/1.1\r\nx: y", b"HTTP/1.1 408 Request Timeout")):
            assert (await _raw(served, sent, is_ended=False)).partition(b"\r\n")[0] == status
        # Between two requests of a connection too.
        first = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
        said = await _raw(served, first + b"GET /", is_ended=False)
        assert said.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 408" in said


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/runs HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST /v1/runs HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/runs HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: -1\r\n\r\n",
        b"GET /v1/runs\r\nx: y HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["two lengths", "length and pieces", "a negative length", "a line in the address", "TLS"],
)
async def test_what_is_no_request_is_refused(serve: Serve, head: bytes):
    async with team(working()) as app:
        served = await serve(app)
        said = await _raw(served, head)
        assert said == b"" or said.split(b" ")[1].startswith(b"4"), said[:200]
        assert (await served.http.get("/healthz")).status_code == 200


async def _raw(served: Served, sent: bytes, *, is_ended: bool = True) -> bytes:
    """What is answered to these bytes until the server ends the connection."""
    reader, writer = await asyncio.open_connection(*(urlsplit(served.url).hostname, urlsplit(served.url).port))
    said = b""
    try:
        writer.write(sent)
        await writer.drain()
        if is_ended:
            writer.write_eof()
        async with asyncio.timeout(10):
            said = await reader.read()
    except ConnectionError:
        pass
    finally:
        writer.close()
    return said


async def test_a_body_of_a_hundred_megabytes_is_refused_before_it_is_taken(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        for path in (b"/v1/runs", b"/v1/runs/batch", b"/graphql", b"/mcp", b"/a2a", b"/agui", b"/v1/uploads?name=a"):
            head = b"POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n" % path
            said = await _raw(served, head + b"content-length: 100000000\r\n\r\n", is_ended=False)
            assert said.split(b" ")[1] == b"413", (path, said[:300])
        assert (await served.http.get("/v1/runs")).json()["items"] == []
