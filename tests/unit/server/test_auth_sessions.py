"""The console's way in: sessions by key and by provider, what changes have to show, tickets for sockets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.requests import HTTPConnection

from collegium.domain.errors import NotAllowed, NotAuthenticated
from collegium.server.auth.doorkeeper import Doorkeeper, DoorPolicy, Secrets
from collegium.server.auth.login import Client, Login
from collegium.testing.clock import FakeClock
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve, Served
from tests.unit.server.identity import CLIENT, Identity, identity
from tests.unit.server.test_auth_keys import PEPPER, bearer, door, made
from tests.unit.server.test_auth_tokens import oidc_of
from tests.unit.stores.moved import working


class Console(NamedTuple):
    clock: FakeClock
    idp: Identity
    door: Doorkeeper
    served: Served

    @property
    def http(self) -> httpx.AsyncClient:
        return self.served.http

    def own(self, token: str | None = None) -> dict[str, str]:
        """Headers of a page of the server."""
        return {"Origin": self.served.url, **({} if token is None else {"X-CSRF-Token": token})}


@asynccontextmanager
async def console(serve: Serve, *, public_url: str | None = None, secret: str | None = None) -> AsyncIterator[Console]:
    clock = FakeClock()
    async with identity(clock) as idp, team(working()) as app:
        oidc = oidc_of(idp, clock)
        login = Login(oidc, Client(CLIENT, secret, ("openid",)), clock=clock, pepper=PEPPER, entropy=os.urandom)
        policy = DoorPolicy(tenant="default", may_be_open=True, public_url=public_url)
        keeper = Doorkeeper(
            lambda: app, policy, secrets=Secrets(PEPPER, os.urandom), clock=clock, oidc=oidc, login=login
        )
        yield Console(clock, idp, keeper, await serve(app, authenticator=keeper))


async def logged_in(found: Console, **more: Any) -> tuple[str, str, str]:
    """A key, its id, and the token of a session that was opened with it."""
    key, id_ = await made(found.door, **more)
    reply = await found.http.post("/auth/session", json={"key": key}, headers=found.own())
    assert reply.status_code == 201, reply.text
    token: str = reply.json()["csrf_token"]
    return key, id_, token


def cookies_of(reply: httpx.Response) -> dict[str, str]:
    """The attributes of the cookies that are set, by name."""
    found = (line.partition("=") for line in reply.headers.get_list("set-cookie"))
    return {name: rest.partition(";")[2] for name, _, rest in found}


async def test_a_login_by_key_leaves_a_cookie_that_no_script_reads(serve: Serve):
    async with console(serve) as found:
        key, _, token = await logged_in(found)
        reply = await found.http.get("/auth/session")
        shown = reply.json()
        assert (shown["principal"][:4], shown["tenant"], shown["csrf_token"]) == ("key:", "default", token)
        assert (await found.http.get("/v1/runs")).status_code == 200
        again = await found.http.post("/auth/session", json={"key": key}, headers=found.own())
        kept = cookies_of(again)
        assert "HttpOnly" in kept["collegium_session"]
        assert "SameSite=strict" in kept["collegium_session"]
        assert "Secure" not in kept["collegium_session"], "on http a secure cookie would not come back"
        assert "HttpOnly" not in kept["collegium_csrf"], "pages read it to show it"
        assert key not in again.text + str(again.headers)
        assert "28800" in kept["collegium_session"]


async def test_on_https_cookies_are_bound_to_the_host(serve: Serve):
    async with console(serve, public_url="https://console.example") as found:
        key, _ = await made(found.door)
        own = {"Origin": "https://console.example"}
        # The guard of loopback knows its own names only: a proxy on this machine is asked for its public name here.
        reply = await found.http.post("/auth/session", json={"key": key})
        kept = cookies_of(reply)
        assert set(kept) == {"__Host-collegium_session", "__Host-collegium_csrf"}
        assert all("Secure" in one and "Path=/" in one and "Domain" not in one for one in kept.values())
        text = reply.headers.get_list("set-cookie")[0].partition("=")[2].partition(";")[0]
        bare = {"Cookie": f"collegium_session={text}"}
        assert (await found.http.get("/v1/runs", headers=bare)).status_code == 401, "the name without its prefix"
        named = {"Cookie": f"__Host-collegium_session={text}"}
        assert (await found.http.get("/v1/runs", headers=named)).status_code == 200
        assert own["Origin"] == found.door.policy.public_url


async def test_a_change_with_a_cookie_has_to_come_from_a_page_of_this_server(serve: Serve):
    async with console(serve) as found:
        _, _, token = await logged_in(found)
        own = found.served.url
        refused: list[dict[str, str]] = [
            {},
            {"X-CSRF-Token": token},
            {"Origin": own},
            {"Origin": own, "X-CSRF-Token": token[:-1] + "0" if token[-1] != "0" else token[:-1] + "1"},
            {"Origin": own, "X-CSRF-Token": ""},
            {"Origin": own, "X-CSRF-Token": "é"},
            {"Origin": "null", "X-CSRF-Token": token},
            {"Origin": "http://evil.example", "X-CSRF-Token": token},
            {"Origin": f"{own}.evil.example", "X-CSRF-Token": token},
            {"Sec-Fetch-Site": "same-site", "X-CSRF-Token": token},
            {"Sec-Fetch-Site": "cross-site", "X-CSRF-Token": token},
        ]
        for headers in refused:
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            for method, path in (("POST", "/v1/runs"), ("POST", "/v1/tickets"), ("DELETE", "/v1/keys/aaaaaaaaaaaa")):
                reply = await found.http.request(method, path, json={"goal": "x"}, headers=raw)
                assert reply.status_code == 403, (headers, method, path, reply.text)
            reply = await found.http.post("/auth/logout", headers=raw)
            assert reply.status_code == 403, headers
        assert (await found.http.get("/v1/runs")).status_code == 200, "it was not logged out by any of them"
        for headers in (found.own(token), {"Sec-Fetch-Site": "same-origin", "X-CSRF-Token": token}):
            reply = await found.http.post("/v1/runs", json={"goal": "Do both."}, headers=headers)
            assert reply.status_code == 202, reply.text


async def test_a_logout_ends_the_session_at_once(serve: Serve):
    async with console(serve) as found:
        _, _, token = await logged_in(found)
        session = found.http.cookies["collegium_session"]
        principal = await found.door.by_session(session)
        assert await found.door.still_valid(principal)
        reply = await found.http.post("/auth/logout", headers=found.own(token))
        assert reply.status_code == 204
        assert "collegium_session" not in found.http.cookies
        old = {"Cookie": f"collegium_session={session}"}
        assert (await found.http.get("/v1/runs", headers=old)).status_code == 401
        assert not await found.door.still_valid(principal)
        assert (await found.http.post("/auth/logout")).status_code == 204, "twice is harmless"


async def test_a_session_ends_with_its_time_and_with_its_key(serve: Serve):
    async with console(serve) as found:
        _, id_, _ = await logged_in(found)
        await found.door.keys.revoke(id_, tenant=None)
        reply = await found.http.get("/v1/runs")
        assert (reply.status_code, "log in again" in reply.json()["detail"]) == (401, True)
        until = found.clock.now() + timedelta(hours=1)
        await logged_in(found, expires_at=until)
        assert (await found.http.get("/auth/session")).json()["expires_at"] == until.isoformat().replace("+00:00", "Z")
        await logged_in(found)
        await found.clock.advance(28_799)
        assert (await found.http.get("/v1/runs")).status_code == 200
        await found.clock.advance(1)
        assert (await found.http.get("/v1/runs")).status_code == 401


async def test_a_key_that_is_made_in_a_session_does_not_end_with_it(serve: Serve):
    async with console(serve) as found:
        _, _, token = await logged_in(found)
        reply = await found.http.post("/v1/keys", json={"roles": ["viewer"]}, headers=found.own(token))
        assert (reply.status_code, reply.json()["shown"]["expires_at"]) == (201, None)
        until = found.clock.now() + timedelta(days=400)
        _, _, token = await logged_in(found, expires_at=until)
        reply = await found.http.post("/v1/keys", json={"roles": ["viewer"]}, headers=found.own(token))
        assert reply.json()["shown"]["expires_at"] == until.isoformat().replace("+00:00", "Z")


async def test_the_store_holds_no_session_that_could_be_shown(serve: Serve):
    async with console(serve) as found:
        await logged_in(found)
        session = found.http.cookies["collegium_session"]
        records = await found.served.app.stores.records.find("session", "~slips")
        assert len(records) == 1
        assert session not in str(records)
        stolen = {"Cookie": f"collegium_session={records[0].key}"}
        async with httpx.AsyncClient(base_url=found.served.url, trust_env=False) as other:
            assert (await other.get("/v1/runs", headers=stolen)).status_code == 401


async def test_sessions_that_are_over_are_swept(serve: Serve):
    async with console(serve) as found:
        await logged_in(found)
        await found.clock.advance(28_801)
        await logged_in(found)
        assert len(await found.served.app.stores.records.find("session", "~slips")) == 1


async def test_a_page_of_another_site_logs_nobody_in(serve: Serve):
    async with console(serve) as found:
        key, _ = await made(found.door)
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            reply = await found.http.post("/auth/session", json={"key": key}, headers=headers)
            assert reply.status_code == 403
            assert "set-cookie" not in reply.headers
        for wrong in ("clg_live_aaaaaaaaaaaa_" + "a" * 52, "x", "a" * 201):
            reply = await found.http.post("/auth/session", json={"key": wrong})
            assert reply.status_code in (401, 422)
            assert wrong not in reply.text or len(wrong) == 1


async def begun(found: Console, next_path: str = "/runs?a=1&b=2") -> str:
    reply = await found.http.get("/auth/login", params={"next": next_path})
    assert reply.status_code == 303, reply.text
    return str(reply.headers["location"])


@pytest.mark.parametrize("secret", [None, "s3cret:of:ours"])
async def test_a_login_at_the_provider(serve: Serve, secret: str | None):
    async with console(serve, secret=secret) as found:
        await made(found.door)
        location = await begun(found)
        asked = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        assert location.startswith(f"{found.idp.issuer}/authorize?")
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        assert asked["redirect_uri"] == f"{found.served.url}/auth/callback"
        assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
        from_there = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        back = found.idp.approve(location)
        reply = await found.http.get("/auth/callback", params=back, headers=from_there)
        assert reply.status_code == 200, reply.text
        assert 'url=/runs?a=1&amp;b=2"' in reply.text
        assert reply.headers["content-security-policy"].startswith("default-src 'none'")
        assert "sandbox" not in reply.headers["content-security-policy"], "in one, no page goes on by itself"
        assert ("authorization" in found.idp.forms[0]) is True
        assert bool(found.idp.forms[0]["authorization"]) == (secret is not None)
        shown = (await found.http.get("/auth/session")).json()
        assert (shown["principal"], shown["tenant"], shown["kind"]) == ("user:ada", "acme", "user")
        assert "runs:write" in shown["scopes"]
        assert "collegium_login" not in found.http.cookies
        # The session is not the token: it goes on when that has expired, and ends with a logout.
        await found.clock.advance(3_600)
        assert (await found.http.get("/v1/runs")).status_code == 200
        reply = await found.http.get("/auth/callback", params=back)
        assert reply.status_code == 401, "a login is finished once"


async def test_logins_that_did_not_begin_here(serve: Serve):
    async with console(serve) as found:
        await made(found.door)
        location = await begun(found)
        back = found.idp.approve(location)
        for wrong in ({"state": "x"}, {"state": ""}, {"iss": "https://evil.example"}, {"state": "é" * 20}):
            reply = await found.http.get("/auth/callback", params={**back, **wrong})
            assert reply.status_code == 401, wrong
        async with httpx.AsyncClient(base_url=found.served.url, trust_env=False) as victim:
            reply = await victim.get("/auth/callback", params=back)
            assert reply.status_code == 401, "an attacker's login is not another browser's"
            for forged in ("x", ".", "a.b", "e30.e30", "é", "a" * 5_000):
                headers = [(b"cookie", f"collegium_login={forged}".encode("latin-1"))]
                reply = await victim.get("/auth/callback", params=back, headers=headers)
                assert reply.status_code == 401, forged
        assert found.idp.asked["token"] == 0
        reply = await found.http.get("/auth/callback", params={"state": back["state"], "error": "access_denied"})
        assert (reply.status_code, reply.json()["code"]) == (401, "not_authenticated")
        reply = await found.http.get("/auth/callback", params={**back, "code": "invented"})
        assert reply.status_code == 401
        await found.clock.advance(601)
        assert (await found.http.get("/auth/callback", params=back)).status_code == 401, "too long ago"


@pytest.mark.parametrize(
    "changes",
    [{"nonce": "another"}, {"nonce": None}, {"aud": "collegium-api"}, {"iss": "https://evil.example"}, {"exp": 1}],
)
async def test_an_id_token_that_is_not_for_this_login(serve: Serve, changes: dict[str, Any]):
    async with console(serve) as found:
        await made(found.door)
        found.idp.changes = changes
        reply = await found.http.get("/auth/callback", params=found.idp.approve(await begun(found)))
        assert reply.status_code == 401
        assert "collegium_session" not in found.http.cookies


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)",
        "/\t/evil.example", "/\r\nSet-Cookie: a=b", "evil.example", "/a b", "//[", "/" + "a" * 2_001, "/é",
        "http:/evil.example", "///evil.example", "/\x00", "data:text/html,x",
    ],
)  # fmt: skip
async def test_nobody_is_sent_elsewhere(serve: Serve, path: str):
    async with console(serve) as found:
        reply = await found.http.get("/auth/login", params={"next": path})
        assert (reply.status_code, reply.json()["code"]) == (400, "usage")


async def test_without_a_provider_there_is_no_login(serve: Serve):
    async with team(working()) as app:
        served = await serve(app, authenticator=door(app, FakeClock()))
        for path in ("/auth/login", "/auth/callback"):
            assert (await served.http.get(path)).status_code == 404


def connection(kind: str, *, query: str = "", **headers: str) -> HTTPConnection:
    """What a face hands to the doorkeeper: a socket, or an event stream."""
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "websocket" if kind == "socket" else "http", "method": "GET", "path": "/v1/live", "headers": given,
        "query_string": query.encode(), "scheme": "ws" if kind == "socket" else "http", "server": ("127.0.0.1", 1),
    }  # fmt: skip
    return HTTPConnection(scope)


async def ticket(found: Console, key: str) -> str:
    reply = await found.http.post("/v1/tickets", headers=bearer(key))
    assert reply.status_code == 201, reply.text
    made_: str = reply.json()["ticket"]
    return made_


async def test_a_ticket_opens_one_socket_within_half_a_minute(serve: Serve):
    async with console(serve) as found:
        key, id_ = await made(found.door, roles=("viewer",))
        one = await ticket(found, key)
        principal = await found.door.identify(connection("socket", query=f"ticket={one}"))
        assert (principal.id, principal.may("runs:write")) == (f"key:{id_}", False)
        with pytest.raises(NotAuthenticated):
            await found.door.identify(connection("socket", query=f"ticket={one}"))
        stream = connection("stream", query=f"ticket={await ticket(found, key)}", accept="text/event-stream")
        assert (await found.door.identify(stream)).id == f"key:{id_}"
        one = await ticket(found, key)
        with pytest.raises(NotAllowed, match="for sockets"):
            await found.door.identify(connection("request", query=f"ticket={one}"))
        await found.clock.advance(30)
        with pytest.raises(NotAuthenticated):
            await found.door.identify(connection("socket", query=f"ticket={one}"))
        for wrong in ("", "x", "é", "a" * 100_000):
            with pytest.raises(NotAuthenticated):
                await found.door.identify(connection("socket", query=f"ticket={wrong}"))
        assert await found.door.still_valid(principal)
        await found.door.keys.revoke(id_, tenant=None)
        assert not await found.door.still_valid(principal), "who came in by a ticket goes with the key"


async def test_of_many_who_show_a_ticket_one_comes_in(serve: Serve):
    async with console(serve) as found:
        key, _ = await made(found.door)
        one = await ticket(found, key)
        came = await asyncio.gather(
            *(found.door.identify(connection("socket", query=f"ticket={one}")) for _ in range(20)),
            return_exceptions=True,
        )
        assert sum(not isinstance(who, BaseException) for who in came) == 1
        one = await ticket(found, key)
        await found.door.keys.revoke((await found.door.keys.identify(key)).credential[4:], tenant=None)
        with pytest.raises(NotAuthenticated):
            await found.door.identify(connection("socket", query=f"ticket={one}"))


async def test_a_socket_with_a_cookie_has_to_come_from_a_page_of_this_server(serve: Serve):
    async with console(serve) as found:
        key, id_, _ = await logged_in(found)
        cookie = f"collegium_session={found.http.cookies['collegium_session']}"
        own = {"host": "127.0.0.1:8420", "cookie": cookie}
        principal = await found.door.identify(connection("socket", origin="http://127.0.0.1:8420", **own))
        assert principal.id == f"key:{id_}"
        for origin in ("http://evil.example", "null", "http://127.0.0.1:9999"):
            with pytest.raises(NotAllowed):
                await found.door.identify(connection("socket", origin=origin, **own))
        with pytest.raises(NotAllowed):
            await found.door.identify(connection("socket", **own))
        by_header = connection("socket", authorization=f"Bearer {key}", origin="http://evil.example")
        assert (await found.door.identify(by_header)).id == f"key:{id_}", "no browser sends this header by itself"
