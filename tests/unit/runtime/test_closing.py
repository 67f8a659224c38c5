"""Closing a tenant: nothing of it goes on by itself or lets anybody in, and nobody else notices."""

from __future__ import annotations

import os

import pytest

from collegium.adapters.clock import SystemClock
from collegium.domain.errors import NotAuthenticated
from collegium.runtime.closing import Closed, close_tenant
from collegium.runtime.keys import Keys
from collegium.runtime.webhooks import Webhooks
from collegium.testing.harness import team
from tests.unit.stores.moved import working


async def test_everything_of_one_tenant_ends_and_nothing_of_others():
    async with team(working()) as app:
        keys = Keys(app.stores.records, clock=SystemClock(), pepper=b"p" * 32, entropy=os.urandom)
        hooks = Webhooks(app.stores.records, now=app.now, ids=app.ids)
        issued = {}
        for tenant in ("acme", "other"):
            issued[tenant] = await keys.create(tenant=tenant, roles=["viewer"], created_by="test")
            hook = await hooks.add("https://a.example/", ["run.finished"], tenant=tenant, principal="user:a")
            await hooks.test(hook.id, tenant=tenant)
            await app.schedules.add("@daily", "Do it.", tenant=tenant)
        closed = await close_tenant("acme", schedules=app.schedules, hooks=hooks, keys=keys)
        assert closed == Closed(keys=1, webhooks=1, schedules=1)
        closed = await close_tenant("acme", schedules=app.schedules, hooks=hooks, keys=keys)
        assert closed == Closed(keys=0, webhooks=0, schedules=0)
        with pytest.raises(NotAuthenticated, match="revoked"):
            await keys.identify(issued["acme"].text)
        assert (await keys.identify(issued["other"].text)).tenant == "other"
        assert [hook.tenant async for hook in hooks.each()] == ["other"]
        assert await app.stores.records.find("webhook_delivery", "acme") == ()
        assert len(await app.stores.records.find("webhook_delivery", "other")) == 1
        assert await app.schedules.all(tenant="acme") == ()
        assert len(await app.schedules.all(tenant="other")) == 1
