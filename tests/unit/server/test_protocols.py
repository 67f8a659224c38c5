"""Protocols are loaded when they are asked for; where a package is not installed, the server says what it lacks."""

from __future__ import annotations

import asyncio
import sys

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from collegium.server.protocols import Later
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.stores.moved import working


@pytest.mark.parametrize(
    ("package", "module", "asks"),
    [
        ("mcp", "collegium.server.mcp", [("POST", "/mcp")]),
        ("a2a", "collegium.server.a2a", [("POST", "/a2a"), ("GET", "/.well-known/agent-card.json")]),
        ("ag_ui", "collegium.server.agui", [("POST", "/agui")]),
    ],
)
async def test_a_server_without_a_package_says_which_extra_it_lacks(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, package: str, module: str, asks: list[tuple[str, str]]
):
    for name in list(sys.modules):
        if name == package or name.startswith((f"{package}.", f"{module}.")):
            monkeypatch.setitem(sys.modules, name, None)
            if name.startswith(module):
                monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    async with team(working()) as app:
        served = await serve(app)
        for method, path in asks:
            reply = await served.http.request(method, path)
            assert (reply.status_code, reply.json()["code"]) == (501, "missing_extra"), reply.text
            assert "collegium[protocols]" in reply.json()["detail"]
        assert (await served.http.get("/v1/runs")).status_code == 200


async def test_a_protocol_is_loaded_once_and_only_if_it_is_asked_for() -> None:
    made: list[str] = []

    async def hello(request: Request) -> Response:
        return Response(request.url.path)

    def make() -> list[BaseRoute]:
        made.append("x")
        return [Route("/x", hello), Route("/x/y", hello)]

    client = httpx.ASGITransport(Starlette(routes=[Later(make, "/x")]))
    async with httpx.AsyncClient(transport=client, base_url="http://here") as http:
        assert (await http.get("/xy")).status_code == 404
        assert not made
        paths = ["/x", "/x/y"] * 3
        assert [one.text for one in await asyncio.gather(*(http.get(path) for path in paths))] == paths
        assert (await http.get("/x/z")).status_code == 404
        assert (await http.post("/x")).status_code == 405
    assert made == ["x"]
