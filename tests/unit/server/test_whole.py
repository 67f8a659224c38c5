"""Answers that go out whole say what uvicorn would have said; what cannot go out whole goes uvicorn's way."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from collegium.server.listener import Listener, listen
from collegium.server.whole import MOST_LINES, Lines


async def _whole(request: Request) -> Response:
    return Response(b"whole", headers={"X-Number": request.query_params.get("n", "")})


async def _parts(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        yield b"in "
        yield b"parts"

    return StreamingResponse(parts(), headers={"content-length": "8"} if "told" in request.query_params else None)


async def _last(request: Request) -> Response:
    return Response(b"last", headers={"Connection": "close"})


async def _split(request: Request) -> Response:
    return Response(b"split", headers={"x-split": "a\r\nset-cookie: b"})


async def _none(request: Request) -> Response:
    return Response(status_code=204)


_ROUTES = [Route(f"/{f.__name__[1:]}", f) for f in (_whole, _parts, _last, _split, _none)]


async def _ask(lines: str) -> bytes:
    """Everything that comes back for ``lines`` over one connection until it ends."""
    listening = listen("127.0.0.1", 0)
    listener = Listener(Starlette(routes=_ROUTES), listening)
    listener.start()
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(*listening.getsockname()[:2])
            asked = [f"{line} HTTP/1.1\r\nhost: here\r\n" for line in lines.split(", ")]
            writer.write("\r\n".join(asked).encode() + b"connection: close\r\n\r\n")
            found = await reader.read()
            writer.close()
            return found
    finally:
        await listener.aclose()


@pytest.mark.parametrize(
    ("line", "end"),
    [
        ("GET /whole", b"\r\n\r\nwhole"),
        ("HEAD /whole", b"\r\n\r\n"),
        ("GET /parts", b"\r\n\r\n3\r\nin \r\n5\r\nparts\r\n0\r\n\r\n"),
        ("GET /parts?told=1", b"\r\n\r\nin parts"),
        ("GET /last", b"\r\n\r\nlast"),
        ("GET /none", b"\r\n\r\n"),
    ],
)
async def test_an_answer_is_the_same_first_and_last(line: str, end: bytes):
    head, _, last = (await _ask(f"{line}, {line}") if "last" not in line else await _ask(line)).rpartition(b"HTTP/1.1 ")
    assert last.endswith(end)
    assert b"connection: close" in last.lower(), "whoever wants the connection to end is told that it does"
    if head:
        assert head.endswith(end), "and the one before went out whole, or uvicorn's way"
        assert b"connection: close" not in head.lower()


async def test_requests_that_come_at_once_are_answered_in_order():
    said = await _ask(", ".join(f"GET /{'parts' if n % 3 == 0 else 'whole'}?n={n}" for n in range(9)))
    kinds = [b"whole" if b"whole" in one else b"parts" for one in said.split(b"HTTP/1.1 200 OK")[1:]]
    assert kinds == [b"parts", b"whole", b"whole"] * 3
    numbers = [int(one.split(b"\r\n")[0]) for one in said.split(b"x-number: ")[1:]]
    assert numbers == [1, 2, 4, 5, 7, 8]


async def test_a_value_with_an_end_of_line_in_it_is_no_header():
    said = await _ask("GET /split, GET /split")
    assert b"set-cookie" not in said
    assert said.startswith(b"HTTP/1.1 500 ")


def test_lines_that_are_kept_are_not_without_number():
    lines = Lines()
    for number in range(3 * MOST_LINES):
        head = lines.head([(b"X-Number", str(number).encode()), (b"content-length", b"5")])
        assert head == (b"x-number: %d\r\ncontent-length: 5\r\n" % number, 5)
    assert len(lines._heads) <= MOST_LINES
    assert len(lines._kept) <= MOST_LINES


async def test_what_is_left_of_a_request_goes_without_a_collection_of_garbage():
    gc.collect()
    gc.freeze()  # what there was before is not looked at
    gc.disable()
    try:
        await _ask(", ".join(["GET /whole"] * 30))
        left = [one for one in gc.get_objects() if isinstance(one, RequestResponseCycle)]
    finally:
        gc.enable()
        gc.unfreeze()
    assert len(left) <= 2, "of the last request, at most"
