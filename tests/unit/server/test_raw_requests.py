"""Bytes that no library of a client would send: refused or taken, never a fault of ours, and never two readings."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlsplit

from collegium.testing.harness import team
from tests.unit.server.conftest import Serve, Served
from tests.unit.stores.moved import working

HOST = b"host: 127.0.0.1\r\n"
JSON = b"content-type: application/json\r\n"
GOAL = b'{"goal": "Do it."}'
NEXT = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
ODD = {
    "the same header twice": b"GET /v1/runs HTTP/1.1\r\n" + HOST + b"accept: a\r\naccept: b\r\n\r\n",
    "two hosts": b"GET /v1/runs HTTP/1.1\r\n" + HOST + b"host: other.example\r\n\r\n",
    "two authorizations": b"GET /v1/runs HTTP/1.1\r\n" + HOST + b"authorization: Bearer a\r\n" * 2 + b"\r\n",
    "an empty authorization": b"GET /v1/runs HTTP/1.1\r\n" + HOST + b"authorization:\r\n\r\n",
    "bytes in a header": b"GET /v1/runs HTTP/1.1\r\n" + HOST + b"authorization: Bearer \xff\xfe\r\n\r\n",
    "bytes in every header we read": b"GET /v1/runs HTTP/1.1\r\n" + HOST + b"".join(
        name + b": \xff\xfe\xc3\x28\r\n"
        for name in (b"accept", b"cookie", b"origin", b"traceparent", b"last-event-id", b"if-match", b"if-none-match",
                     b"content-type", b"x-forwarded-for", b"idempotency-key", b"accept-encoding", b"tracestate")
    ) + b"\r\n",
    "NUL in a header": b"GET /v1/runs HTTP/1.1\r\n" + HOST + b"x: a\0b\r\n\r\n",
    "a space before the colon": b"GET /v1/runs HTTP/1.1\r\n" + HOST + b"x : y\r\n\r\n",
    "a folded header": b"GET /v1/runs HTTP/1.1\r\n" + HOST + b"x: y\r\n z\r\n\r\n",
    "a header without a name": b"GET /v1/runs HTTP/1.1\r\n" + HOST + b": y\r\n\r\n",
    "a header without a colon": b"GET /v1/runs HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n",
    "a bare line feed": b"GET /v1/runs HTTP/1.1\nhost: 127.0.0.1\n\n",
    "bytes in the path": b"GET /v1/runs/\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
    "NUL in the path": b"GET /v1/runs/\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a broken escape": b"GET /v1/runs/%f HTTP/1.1\r\n" + HOST + b"\r\n",
    "an escaped broken text": b"GET /v1/runs/%c3%28 HTTP/1.1\r\n" + HOST + b"\r\n",
    "bytes in the query": b"GET /v1/runs?after=\xff\xfe%ff HTTP/1.1\r\n" + HOST + b"\r\n",
    "a long path": b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "dots": b"GET /v1/../../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n",
    "an absolute address": b"GET http://other.example/v1/runs HTTP/1.1\r\n" + HOST + b"\r\n",
    "an address that is none": b"GET http://[::1/v1/runs HTTP/1.1\r\n" + HOST + b"\r\n",
    "a star": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "a proxy": b"CONNECT other.example:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method that is none": b"FROBNICATE /v1/runs HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method of WebDAV": b"PROPFIND /v1/runs HTTP/1.1\r\n" + HOST + b"\r\n",
    "TRACE": b"TRACE /v1/runs HTTP/1.1\r\n" + HOST + b"\r\n",
    "an old version without a host": b"GET /v1/runs HTTP/1.0\r\n\r\n",
    "no host": b"GET /v1/runs HTTP/1.1\r\n\r\n",
    "a version that is none": b"GET /v1/runs HTTP/9.9\r\n" + HOST + b"\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2 over HTTP": b"GET /v1/runs HTTP/1.1\r\n" + HOST + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n",
    "a socket without its key": b"GET /v1/ws HTTP/1.1\r\n" + HOST
    + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "a socket of another version": b"GET /v1/ws HTTP/1.1\r\n" + HOST
    + b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\nsec-websocket-version: 99\r\n\r\n",
    "no length": b"POST /v1/runs HTTP/1.1\r\n" + HOST + JSON + b"\r\n",
    "a length that is none": b"POST /v1/runs HTTP/1.1\r\n" + HOST + JSON + b"content-length: ten\r\n\r\n" + GOAL,
    "a length with a sign": b"POST /v1/runs HTTP/1.1\r\n" + HOST + JSON + b"content-length: +18\r\n\r\n" + GOAL,
    "a length beyond all": b"POST /v1/runs HTTP/1.1\r\n" + HOST + JSON + b"content-length: " + b"9" * 40 + b"\r\n\r\n",
    "a coding that is none": b"POST /v1/runs HTTP/1.1\r\n" + HOST + JSON
    + b"transfer-encoding: nonsense\r\n\r\n" + GOAL,
    "pieces of no size": b"POST /v1/runs HTTP/1.1\r\n" + HOST + JSON + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "a piece beyond all": b"POST /v1/runs HTTP/1.1\r\n" + HOST + JSON + b"transfer-encoding: chunked\r\n\r\n"
    + b"f" * 20 + b"\r\n",
    "a compressed body that is none": b"POST /v1/runs HTTP/1.1\r\n" + HOST + JSON
    + b"content-encoding: gzip\r\ncontent-length: 18\r\n\r\n" + GOAL,
}  # fmt: skip
REFUSED = {
    "two hosts": 400, "no host": 421, "an old version without a host": 421, "a length that is none": 400,
    "a length beyond all": 400, "a piece beyond all": 400, "a bare line feed": 400, "a space before the colon": 400,
    "NUL in a header": 400, "NUL in the path": 400, "a method of WebDAV": 405, "TRACE": 405, "a long path": 404,
}  # fmt: skip
"""Those of which the status says something."""
SMUGGLED = {
    "length, then pieces": b"content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "pieces, then length": b"transfer-encoding: chunked\r\ncontent-length: 6\r\n\r\n0\r\n\r\n",
    "two codings": b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "a coding with a tab": b"transfer-encoding:\tchunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "a coding with a vertical tab": b"transfer-encoding: \x0bchunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "a coding with a space before the colon": b"transfer-encoding : chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"content-length: 0\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "two lengths in one": b"content-length: 0, 5\r\n\r\n0\r\n\r\n",
}


async def test_what_is_odd_is_answered_and_no_fault(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        for name, sent in ODD.items():
            said = await exchanged(served, sent)
            (found,) = statuses(said)
            assert found < 500, (name, said[:1_000])
            assert name not in REFUSED or found == REFUSED[name], (name, said[:1_000])
            assert len(said) < 5_000, f"{name}: what is refused is not said at length"
        assert (await served.http.get("/healthz")).status_code == 200


async def test_no_request_hides_in_another(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        head = b"POST /v1/runs HTTP/1.1\r\n" + HOST + JSON
        for name, ends in SMUGGLED.items():
            said = await exchanged(served, head + ends + NEXT)
            assert statuses(said) == [400], (name, said[:1_000])
        assert (await served.http.get("/v1/runs")).json()["items"] == []


async def test_a_body_that_is_shorter_than_it_said_submits_nothing(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        head = b"POST /v1/runs HTTP/1.1\r\n" + HOST + JSON + b"content-length: 999\r\n\r\n"
        _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(served.url).port)
        writer.write(head + GOAL)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert (await served.http.get("/v1/runs")).json()["items"] == []


async def test_a_body_that_is_longer_than_it_said_is_no_second_request(serve: Serve):
    async with team(working()) as app:
        served = await serve(app)
        head = b"POST /v1/runs HTTP/1.1\r\n" + HOST + JSON + b"content-length: 18\r\n\r\n"
        assert statuses(await exchanged(served, head + GOAL + b"and more that is none\r\n\r\n"))[-1:] == [400]
        assert len((await served.http.get("/v1/runs")).json()["items"]) <= 1


def statuses(said: bytes) -> list[int]:
    """Of all answers."""
    return [int(one) for one in re.findall(rb"(?:^|\n|\}|\])HTTP/1\.[01] (\d{3})", said)]


async def exchanged(served: Served, sent: bytes) -> bytes:
    """What is answered until the server ends the connection, which it has to."""
    where = urlsplit(served.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    said = b""
    try:
        writer.write(sent)
        await writer.drain()
        async with asyncio.timeout(10):
            while part := await reader.read(65_536):
                said += part
                if is_whole(said):
                    writer.write_eof()  # nothing more comes; what is still to be said is waited for
    except ConnectionError:
        pass
    finally:
        writer.close()
    return said


def is_whole(said: bytes) -> bool:
    """Whether there is an answer to its end."""
    head, ended, body = said.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(ended) and (length is None or len(body) >= int(length[1]))
