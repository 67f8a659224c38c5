"""Who comes in with a key, and when nobody need show one: real HTTP, real records, a clock of the test's own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest

from collegium.app import Collegium
from collegium.domain.principal import ADMIN, local
from collegium.ports import Clock
from collegium.server.auth.doorkeeper import Doorkeeper, DoorPolicy, Secrets
from collegium.server.auth.oidc import Oidc
from collegium.testing.clock import FakeClock
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.stores.moved import working

PEPPER = b"p" * 32


def door(
    app: Collegium, clock: Clock, *, may_be_open: bool = True, oidc: Oidc | None = None, pepper: bytes = PEPPER
) -> Doorkeeper:
    policy = DoorPolicy(tenant="default", may_be_open=may_be_open)
    return Doorkeeper(lambda: app, policy, secrets=Secrets(pepper, os.urandom), clock=clock, oidc=oidc)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def made(
    keys: Doorkeeper, *, roles: Sequence[str] = ("admin",), tenant: str = "default", **more: Any
) -> tuple[str, str]:
    """A key and its id."""
    issued = await keys.keys.create(tenant=tenant, roles=roles, created_by="test", **more)
    return issued.text, issued.key.id


async def code(http: httpx.AsyncClient, key: str | None = None, path: str = "/v1/runs") -> tuple[int, str]:
    reply = await http.get(path, headers={} if key is None else bearer(key))
    return reply.status_code, reply.json().get("code", "")


async def test_the_door_closes_with_the_first_key_and_stays_closed(serve: Serve):
    clock = FakeClock()
    async with team(working()) as app:
        here, elsewhere = door(app, clock), door(app, clock)
        served = await serve(app, authenticator=here)
        assert await code(served.http) == (200, "")
        assert await here.still_valid(local("default"))
        key, id_ = await made(elsewhere)  # another process: `collegium keys create`
        await clock.advance(1.1)
        reply = await served.http.get("/v1/runs")
        assert (reply.status_code, reply.json()["code"]) == (401, "not_authenticated")
        assert reply.headers["www-authenticate"] == 'Bearer realm="collegium"'
        assert not await here.still_valid(local("default")), "a stream that was opened before is closed"
        assert await code(served.http, key) == (200, "")
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
            assert (await served.http.get(path)).status_code == 200
        await elsewhere.keys.revoke(id_, tenant=None)
        await clock.advance(1.1)
        assert await code(served.http) == (401, "not_authenticated"), "revoking the last key does not open the door"


async def test_the_first_key_that_is_made_here_closes_it_at_once(serve: Serve):
    async with team(working()) as app:
        served = await serve(app, authenticator=door(app, FakeClock()))
        reply = await served.http.post("/v1/keys", json={"roles": ["admin"], "name": "ada"})
        assert reply.status_code == 201, reply.text
        assert await code(served.http) == (401, "not_authenticated")
        assert await code(served.http, reply.json()["key"]) == (200, "")
        assert reply.headers["cache-control"] == "no-store"


async def test_beyond_this_machine_it_is_never_open(serve: Serve):
    async with team(working()) as app:
        served = await serve(app, authenticator=door(app, FakeClock(), may_be_open=False))
        assert await code(served.http) == (401, "not_authenticated")


async def test_a_key_that_was_revoked_lets_nobody_in_a_second_later(serve: Serve):
    clock = FakeClock()
    async with team(working()) as app:
        here, elsewhere = door(app, clock), door(app, clock)
        served = await serve(app, authenticator=here)
        key, id_ = await made(here)
        assert await code(served.http, key) == (200, "")
        principal = await here.keys.identify(key)
        await elsewhere.keys.revoke(id_, tenant="default")
        await clock.advance(1.01)
        assert await code(served.http, key) == (401, "not_authenticated")
        assert not await here.still_valid(principal)
        key, id_ = await made(here)
        assert await code(served.http, key) == (200, "")
        await here.keys.revoke(id_, tenant="default")
        assert await code(served.http, key) == (401, "not_authenticated"), "at once where it was done"


async def test_a_busy_key_costs_no_look_at_the_store(serve: Serve):
    clock = FakeClock()
    async with team(working()) as app:
        here = door(app, clock)
        key, id_ = await made(here)
        await here.keys.identify(key)
        await app.stores.records.delete("api_key", "~keys", id_)
        await here.keys.identify(key)
        await clock.advance(1.01)
        with pytest.raises(Exception, match="not known"):
            await here.keys.identify(key)


async def test_keys_expire(serve: Serve):
    clock = FakeClock()
    async with team(working()) as app:
        here = door(app, clock)
        served = await serve(app, authenticator=here)
        key, _ = await made(here, expires_at=clock.now() + timedelta(hours=1))
        principal = await here.keys.identify(key)
        assert principal.expires_at == clock.now() + timedelta(hours=1)
        await clock.advance(3_599)
        assert await code(served.http, key) == (200, "")
        assert await here.still_valid(principal)
        await clock.advance(1)
        reply = await served.http.get("/v1/runs", headers=bearer(key))
        assert (reply.status_code, "has expired" in reply.json()["detail"]) == (401, True)
        assert 'error="invalid_token"' in reply.headers["www-authenticate"]
        assert not await here.still_valid(principal)


async def test_the_old_secret_holds_for_a_while(serve: Serve):
    clock = FakeClock()
    async with team(working()) as app:
        here = door(app, clock)
        served = await serve(app, authenticator=here)
        first, id_ = await made(here)
        reply = await served.http.post(f"/v1/keys/{id_}/rotate", json={"grace_s": 60}, headers=bearer(first))
        assert reply.status_code == 200, reply.text
        second = reply.json()["key"]
        assert {await code(served.http, key) for key in (first, second)} == {(200, "")}
        assert (await here.keys.identify(first)).expires_at == clock.now() + timedelta(seconds=60)
        await clock.advance(60)
        assert await code(served.http, first) == (401, "not_authenticated")
        assert await code(served.http, second) == (200, "")
        reply = await served.http.post(f"/v1/keys/{id_}/rotate", json={"grace_s": 0}, headers=bearer(second))
        assert await code(served.http, second) == (401, "not_authenticated")
        assert await code(served.http, reply.json()["key"]) == (200, "")


async def test_its_use_is_written_down_once_a_minute():
    clock = FakeClock()
    async with team(working()) as app:
        here = door(app, clock)
        key, id_ = await made(here)
        for _ in range(5):
            await here.keys.identify(key)
        first = clock.now()
        record = await app.stores.records.get("api_key", "~keys", id_)
        assert record is not None
        assert record.version == 2
        await clock.advance(59)
        await here.keys.identify(key)
        assert (await here.keys.get(id_, tenant=None)).last_used_at == first
        await clock.advance(1)
        await here.keys.identify(key)
        assert (await here.keys.get(id_, tenant=None)).last_used_at == clock.now()


async def test_a_use_that_is_noted_never_undoes_a_revocation():
    clock = FakeClock()
    async with team(working()) as app:
        here, elsewhere = door(app, clock), door(app, clock)
        key, id_ = await made(here)
        await here.keys.identify(key)
        await clock.advance(60)
        await here.keys.principal(id_)  # its look is fresh, and its use has to be noted with the next request
        await elsewhere.keys.revoke(id_, tenant=None)
        await here.keys.identify(key)
        assert (await here.keys.get(id_, tenant=None)).revoked_at is not None


async def test_nobody_gives_away_what_they_have_not(serve: Serve):
    clock = FakeClock()
    async with team(working()) as app:
        here = door(app, clock)
        served = await serve(app, authenticator=here)
        until = clock.now() + timedelta(days=1)
        clerk, _ = await made(here, roles=("viewer",), scopes=("keys:write",), expires_at=until)
        _, admin_id = await made(here)
        _, host_id = await made(here, roles=(), scopes=("host",))

        async def post(path: str, key: str, **body: Any) -> tuple[int, dict[str, Any]]:
            reply = await served.http.post(path, json=body, headers=bearer(key))
            return reply.status_code, reply.json()

        for wanted in ({"roles": ["admin"]}, {"scopes": ["runs:write"]}, {"scopes": ["host"]}):
            status, body = await post("/v1/keys", clerk, **wanted)
            assert (status, body["code"]) == (403, "not_allowed"), wanted
        for id_ in (admin_id, host_id):
            status, body = await post(f"/v1/keys/{id_}/rotate", clerk, grace_s=0)
            assert (status, body["code"]) == (403, "not_allowed"), "the new secret of a key is all that it may"
        status, body = await post("/v1/keys", clerk, roles=["viewer"], tenant="acme")
        assert (status, body["code"]) == (403, "not_allowed")
        status, body = await post("/v1/keys", clerk, roles=["viewer"], expires_s=2 * 86_400)
        assert (status, body["code"]) == (403, "not_allowed")
        status, body = await post("/v1/keys", clerk, roles=["viewer"])
        assert status == 201
        assert body["shown"]["expires_at"] == until.isoformat().replace("+00:00", "Z"), "it does not outlive its maker"
        viewer, _ = await made(here, roles=("viewer",))
        reply = await served.http.post("/v1/keys", json={"roles": ["viewer"]}, headers=bearer(viewer))
        assert reply.status_code == 403
        assert 'error="insufficient_scope", scope="keys:write"' in reply.headers["www-authenticate"]
        host, _ = await made(here, roles=("admin",), scopes=("host",))
        status, body = await post("/v1/keys", host, roles=["admin"], tenant="acme")
        assert (status, body["shown"]["tenant"]) == (201, "acme")
        listed = await served.http.get("/v1/keys?tenant=acme", headers=bearer(host))
        assert [k["key_id"] for k in listed.json()["items"]] == [body["shown"]["key_id"]]
        refused = await served.http.get("/v1/keys?tenant=acme", headers=bearer(clerk))
        assert refused.status_code == 403


async def test_keys_are_listed_page_by_page_without_anything_secret(serve: Serve):
    async with team(working()) as app:
        here = door(app, FakeClock())
        served = await serve(app, authenticator=here)
        made_ = [await made(here, name=f"key {n}") for n in range(5)]
        await made(here, tenant="acme")
        found: list[str] = []
        after = ""
        while True:
            reply = await served.http.get(f"/v1/keys?limit=2{after}", headers=bearer(made_[0][0]))
            found += [k["key_id"] for k in reply.json()["items"]]
            for text, _ in made_:
                assert text.rpartition("_")[2] not in reply.text
            assert "digest" not in reply.text
            if reply.json()["next"] is None:
                break
            after = f"&after={reply.json()['next']}"
        assert found == sorted(id_ for _, id_ in made_)
        shown = await served.http.get(f"/v1/keys/{found[0]}", headers=bearer(made_[0][0]))
        assert (shown.json()["status"], set(ADMIN) >= set(shown.json()["scopes"])) == ("holds", True)


async def test_a_copy_of_the_store_is_no_key(serve: Serve):
    """Whoever has the records and not the pepper can make no key of them."""
    async with team(working()) as app:
        key, id_ = await made(door(app, FakeClock()))
        record = await app.stores.records.get("api_key", "~keys", id_)
        assert record is not None
        assert key.rpartition("_")[2] not in str(record.value)
        other = door(app, FakeClock(), pepper=b"q" * 32)
        served = await serve(app, authenticator=other)
        assert await code(served.http, key) == (401, "not_authenticated")
        assert await code(served.http, f"clg_live_{id_}_{record.value['digest'][:52]}") == (401, "not_authenticated")


@asynccontextmanager
async def guarded(serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with team(working()) as app:
        here = door(app, FakeClock())
        await made(here)
        yield (await serve(app, authenticator=here)).http


@pytest.mark.parametrize(
    "shown",
    [
        "Bearer", "Basic YTpi", "Bearer clg_", "Bearer clg_live_aaaaaaaaaaaa_" + "a" * 52,
        "bearer clg_live_../../etc_" + "a" * 52, "Bearer caf\xe9", "Bearer a.b.c", "Digest x",
        "clg_live_aaaaaaaaaaaa_" + "a" * 52, "Bearer eyJhbGciOiJub25lIn0.e30.",
        "Bearer clg_live_aaaaaaaaaaaa_" + "a" * 52 + ", Bearer b",
    ],
    ids=range(11),
)  # fmt: skip
async def test_what_is_no_credential(serve: Serve, shown: str, caplog: pytest.LogCaptureFixture):
    async with guarded(serve) as http:
        reply = await http.get("/v1/runs", headers=[(b"authorization", shown.encode("latin-1"))])
        assert reply.status_code == 401
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.headers["www-authenticate"].startswith("Bearer ")
        given = shown.rpartition(" ")[2]
        assert len(given) < 8 or given not in reply.text + caplog.text


@pytest.mark.parametrize("shown", ["Bearer " + "x" * 100_000, "Bearer clg_live_" + "a" * 100_000], ids=range(2))
async def test_what_is_too_long_for_a_credential(serve: Serve, shown: str, caplog: pytest.LogCaptureFixture):
    async with guarded(serve) as http:
        reply = await http.get("/v1/runs", headers={"authorization": shown})
        assert reply.status_code == 431
        assert reply.headers["content-type"] == "application/problem+json"
        assert shown[-1_000:] not in reply.text + caplog.text


@pytest.mark.parametrize(("shown", "status"), [(b"Bearer ", 401), (b"Bearer \x00", 400)], ids=range(2))
async def test_what_no_client_would_send_is_no_credential_either(serve: Serve, shown: bytes, status: int):
    async with guarded(serve) as http, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
        writer.write(
            b"GET /v1/runs HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: " + shown + b"\r\n\r\n"
        )
        assert (await reader.read()).startswith(b"HTTP/1.1 %d " % status)
        writer.close()


async def test_a_credential_is_never_passed_over_for_another(serve: Serve):
    async with team(working()) as app:
        here = door(app, FakeClock())
        served = await serve(app, authenticator=here)
        assert await code(served.http, "wrong") == (401, "not_authenticated"), "though the door is open"
        key, _ = await made(here)
        twice = [("Authorization", f"Bearer {key}"), ("Authorization", "Bearer wrong")]
        assert (await served.http.get("/v1/runs", headers=twice)).status_code == 401
