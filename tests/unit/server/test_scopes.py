"""The document says of every operation which credentials it takes and which scopes it needs; access says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from collegium.domain.principal import SCOPES, Principal
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.server.test_tenants import NAMES, Estate, ask, body, endpoints, estate
from tests.unit.stores.moved import working

HIDDEN = ("/auth/",)


async def needed(found: Estate, method: str, path: str, operation: dict[str, Any]) -> list[str]:
    """The scopes without which the operation is refused, in the order in which it asks for them."""
    scopes: list[str] = []
    while True:
        door = found.door
        vars(door)["identify"] = As(scopes).identify
        try:
            filled = NAMES.sub(lambda m: {**found.ids, "kind": "run"}.get(m[1], found.ids["run"]), path)
            reply = await ask(found, "x", method, filled, **body(found.document, operation))
        finally:
            del vars(door)["identify"]
        if reply.status_code != 403 or "scope=" not in reply.headers.get("www-authenticate", ""):
            return scopes
        scopes.append(reply.headers["www-authenticate"].partition('scope="')[2].rstrip('"'))


class As:
    """Everybody is a principal with these scopes."""

    def __init__(self, scopes: list[str]) -> None:
        self._principal = Principal(id="key:test", tenant="acme", scopes=frozenset(scopes), kind="key")

    async def identify(self, connection: object) -> Principal:
        return self._principal


async def test_every_operation_names_the_scopes_that_access_asks_for(serve: Serve, tmp_path: Path):
    async with estate(serve, tmp_path) as found:
        wrong = {}
        for method, path, operation in endpoints(found.document):
            if path.startswith(HIDDEN):
                continue
            asked = await needed(found, method, path, operation)
            said = operation.get("x-required-scope", "").split()
            assert set(said) <= SCOPES
            if asked != said:
                wrong[f"{method} {path}"] = " ".join(asked)
        assert wrong == {}


async def test_every_operation_names_what_it_takes(serve: Serve):
    async with team(working()) as app:
        document = (await (await serve(app)).http.get("/openapi.json")).json()
    schemes = document["components"]["securitySchemes"]
    assert {s["in"] for s in schemes.values() if s["type"] == "apiKey"} == {"cookie", "header", "query"}
    for method, path, operation in endpoints(document):
        taken = operation["security"]
        assert {name for one in taken for name in one} <= set(schemes)
        assert ("ticket" in str(taken)) == (path == "/v1/runs/{run}/events")
        if path.startswith("/v1"):
            assert ({"session": [], "csrf": []} in taken) == (method != "get")
    assert "Needs `host`" in document["paths"]["/v1/settings"]["get"]["description"]
