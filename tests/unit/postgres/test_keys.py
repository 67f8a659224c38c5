"""Keys, sessions and tickets in PostgreSQL: shared by all processes, and out of sight for a tenant's own SQL."""

from __future__ import annotations

import asyncio
import os
from urllib.parse import quote, urlsplit

import psycopg
import pytest

from collegium.adapters.postgres.store import open_store
from collegium.domain.errors import NotAuthenticated
from collegium.domain.principal import Principal
from collegium.runtime.keys import Keys
from collegium.server.auth.slips import Slips
from collegium.testing.clock import FakeClock
from collegium.wiring.migrate import roles_script

PEPPER = b"p" * 32


async def test_processes_share_keys_and_a_tenants_sql_sees_none_of_them(postgres_url: str):
    clock = FakeClock()
    one, other = await open_store(postgres_url), await open_store(postgres_url)
    try:
        here, there = (Keys(s.records, clock=clock, pepper=PEPPER, entropy=os.urandom) for s in (one, other))
        made = await here.create(tenant="acme", roles=["admin"], created_by="test")
        assert await there.any()
        principal = await there.identify(made.text)
        assert (principal.tenant, principal.may("admin")) == ("acme", True)
        assert [k.id for k in await there.page("acme")] == [made.key.id]
        assert await there.page("other") == ()
        tickets = [Slips(s.records, "ticket", clock=clock, pepper=PEPPER, entropy=os.urandom) for s in (one, other)]
        slip = await tickets[0].make(principal, 30.0)
        takes = await asyncio.gather(*(tickets[n % 2].take(slip.text) for n in range(10)))
        assert [s.principal for s in takes if s is not None] == [principal], "one of all processes"
        await tickets[0].make(Principal(id="x", tenant="acme", scopes=frozenset(), kind="user"), 30.0)
        await here.revoke(made.key.id, tenant="acme")
        await clock.advance(1.01)
        with pytest.raises(NotAuthenticated, match="revoked"):
            await there.identify(made.text)
    finally:
        await one.aclose()
        await other.aclose()
    parts = urlsplit(postgres_url)
    name = f"collegium_tenant_{parts.path[1:]}_keys"
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(roles_script().encode())
        owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x' IN ROLE collegium_tenant".encode())
        count = owner.execute("SELECT count(*) FROM records WHERE kind IN ('api_key', 'ticket')").fetchone()
        assert count == (2,)
    url = parts._replace(netloc=f"{name}:x@{parts.hostname}:{parts.port}").geturl()
    with psycopg.connect(f"{url}?options={quote('-c collegium.tenant=acme')}", autocommit=True) as tenant:
        count = tenant.execute("SELECT count(*) FROM records WHERE kind IN ('api_key', 'ticket')").fetchone()
        assert count == (0,)
