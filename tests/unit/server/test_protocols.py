"""Protocols whose packages are not installed: the server starts, and says what it lacks."""

from __future__ import annotations

import sys

import pytest

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
