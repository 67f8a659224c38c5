"""The administrative log over HTTP: who may read it, what enters it by itself, and what a storm costs."""

from __future__ import annotations

import pytest
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from collegium.domain.deed import INSTALLATION, Deed
from collegium.domain.errors import NotAuthenticated, StoreUnavailable
from collegium.domain.principal import ROLES, SCOPES, Principal, local
from collegium.runtime.admin_log import AdminLog
from collegium.server.access.deeds import Origin, log_of, noted
from collegium.server.access.page import cursor
from collegium.server.audit import MOST_LINES, WINDOW_S, Kind, RefusalLog
from collegium.server.caller import OpenDoor, ThisHub
from collegium.server.gate import Doors, Gate
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.drafts import eventually
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.stores.moved import working


class Door:
    """Knows callers by a name in the header ``who``."""

    def __init__(self) -> None:
        self.known = {
            "admin": local("default"),
            "viewer": Principal(id="key:v", tenant="default", scopes=ROLES["viewer"], kind="key", credential="v"),
            "auditor": Principal(id="user:a", tenant="default", scopes=frozenset({"audit:read"}), kind="user"),
            "eve": Principal(id="user:eve", tenant="eve", scopes=SCOPES - {"host"}, kind="user"),
        }

    async def identify(self, connection: HTTPConnection) -> Principal:
        principal = self.known.get(connection.headers.get("who", ""))
        if principal is None:
            raise NotAuthenticated("who are you?")
        return principal


async def test_the_log_is_read_in_pages_by_those_who_may_and_shows_no_other_tenants(serve: Serve) -> None:
    async with team(working()) as app:
        served, door = await serve(app, authenticator=Door()), Door()
        for n in range(7):
            await noted(app, door.known["admin"], "stops.put", f"tool:{n}", rule="stops:write", reason="why")
        await noted(app, door.known["eve"], "keys.created", "key:hers")
        seen, after = [], ""
        while True:
            url = f"/v1/audit?limit=3&action=stops.*{after}"
            page = (await served.http.get(url, headers={"who": "auditor"})).json()
            seen += page["items"]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert [one["object"] for one in seen] == [f"tool:{n}" for n in reversed(range(7))]
        assert {one["actor"] for one in seen} == {"local"}
        hers = (await served.http.get("/v1/audit", headers={"who": "eve"})).json()["items"]
        assert [one["object"] for one in hers] == ["key:hers"]
        # Her cursor leads nowhere in another's log, nor another's in hers.
        stolen = (await served.http.get(f"/v1/audit?{after[1:]}", headers={"who": "eve"})).json()
        assert {one["object"] for one in stolen["items"]} <= {"key:hers"}
        for who, path, status in (
            ("viewer", "/v1/audit", 403),
            ("viewer", "/v1/audit/verify", 403),
            ("eve", "/v1/audit?installation=true", 403),
            ("admin", "/v1/audit?after=nonsense", 400),
            ("admin", f"/v1/audit?after={cursor('audit')}", 400),
            ("admin", f"/v1/audit?after={cursor('audit', 'log_default_202611', 'x')}", 400),
            ("admin", f"/v1/audit?after={cursor('audit', 'log_default_202611', -7)}", 200),
            ("admin", f"/v1/audit?after={cursor('audit', 'zzz', 2**62)}", 200),
            ("admin", "/v1/audit?limit=0", 422),
            ("admin", "/v1/audit?since=yesterday", 422),
            ("nobody", "/v1/audit", 401),
        ):
            assert (await served.http.get(path, headers={"who": who})).status_code == status, path
        report = (await served.http.get("/v1/audit/verify", headers={"who": "auditor"})).json()
        assert (report["ok"], report["damaged"], report["logs"]) == (True, [], 1)


async def test_refusals_are_written_with_who_and_where_and_many_alike_are_one_line(serve: Serve) -> None:
    async with team(working()) as app:
        served = await serve(app, authenticator=Door())
        trace = "0af7651916cd43dd8448eb211c80319c"
        headers = {"who": "viewer", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        for _ in range(50):
            assert (await served.http.get("/v1/audit", headers=headers)).status_code == 403
            assert (await served.http.get("/v1/runs")).status_code == 401

        async def is_written() -> bool:
            pages = [(await log_of(app).page(t)).deeds for t in ("default", INSTALLATION)]
            return all(pages)

        await eventually(is_written)
        (one,) = (await log_of(app).page("default")).deeds
        assert (one.actor, one.action, one.object) == ("key:v", "requests.refused", "GET /v1/audit")
        assert (one.decision, one.rule, one.credential) == ("refused", "not_allowed", "v")
        assert (one.address, one.trace) == ("127.0.0.1", trace)
        (two,) = (await log_of(app).page(INSTALLATION)).deeds
        assert (two.actor, two.object, two.rule) == ("", "GET", "not_authenticated")


async def test_a_storm_of_refusals_costs_a_bounded_number_of_lines_and_loses_no_number() -> None:
    clock = FakeClock()
    async with team(working(), clock=clock) as app:
        refusals = RefusalLog(lambda: app)
        windows, each = 3, 20_000
        for _ in range(windows):
            for n in range(each):
                refusals.note(Kind("acme", "key:1", f"10.0.{n % 40}.{n % 251}", 403, f"GET /v1/x{n % 999}"), Origin())
            await clock.advance(WINDOW_S)
            refusals.look()
        await refusals.aclose()
        deeds = [deed for tenant in ("acme", INSTALLATION) async for deed in log_of(app).lines(tenant)]
        assert len(deeds) <= windows * (2 * MOST_LINES + 1)
        assert sum(deed.count for deed in deeds) == windows * each


async def test_what_is_refused_before_the_stores_answer_is_written_once_they_do() -> None:
    async with team(working()) as app:
        there = [None, app]
        refusals = RefusalLog(lambda: there[0])
        refusals.note(Kind("acme", "key:1", "::1", 403, "GET /"), Origin())
        there.pop(0)
        await refusals.aclose()
        assert len((await log_of(app).page("acme")).deeds) == 1


async def test_a_change_is_not_answered_before_its_line_is_durable(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with team(working()) as app:
        served = await serve(app, authenticator=Door())
        run = await app.submit("Do both.", principal="user:ada")
        await run.result()
        url, who = f"/v1/runs/{run.id}/cancel", {"who": "admin"}
        assert (await served.http.post(url, json={"reason": "enough"}, headers=who)).status_code < 300
        (deed,) = (await log_of(app).page("default")).deeds
        assert (deed.action, deed.object, deed.reason, deed.rule) == ("runs.cancelled", run.id, "enough", "runs:write")
        assert (deed.actor, deed.address, len(deed.trace)) == ("local", "127.0.0.1", 32)

        async def away(*given: object) -> tuple[Deed, ...]:
            raise StoreUnavailable("the store is away")

        monkeypatch.setattr(AdminLog, "note", away)
        assert (await served.http.post(url, json={"reason": "enough"}, headers=who)).status_code == 503


async def test_a_socket_that_is_closed_for_want_of_rights_is_written_too() -> None:
    async with team(working()) as app:

        async def closing(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"]["principal"] = Door().known["viewer"]
            await send({"type": "websocket.close", "code": 1008})

        async def nothing(message: object = None) -> dict[str, object]:
            return {}

        refusals = RefusalLog(lambda: app)
        scope = {"type": "websocket", "path": "/v1/ws", "headers": [], "client": ("::1", 1), "state": {}}
        scope |= {"query_string": b"", "server": ("h", 1), "scheme": "ws"}
        doors = Doors(lambda: app, ThisHub(lambda: app), OpenDoor("default"), refusals, None, 1_000, {})
        await Gate(closing, broken=lambda *_: Response(status_code=500), doors=doors)(scope, nothing, nothing)  # type: ignore[arg-type]
        await refusals.aclose()
        (deed,) = (await log_of(app).page("default")).deeds
        assert (deed.actor, deed.object, deed.address) == ("key:v", "WEBSOCKET /v1/ws", "::1")
