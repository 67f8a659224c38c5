"""Closing a tenant: what of it would go on by itself, or lets somebody in, ends before its data keys are destroyed.

Its log stays, and so does what verifies; what is sealed is erased by the keys.
"""

from __future__ import annotations

from typing import Final

import msgspec

from collegium.runtime.keys import Keys
from collegium.runtime.schedules import Schedules
from collegium.runtime.webhooks import Webhooks

_PAGE: Final = 100


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """What was ended."""

    keys: int
    webhooks: int
    schedules: int


async def close_tenant(tenant: str, *, schedules: Schedules, hooks: Webhooks, keys: Keys) -> Closed:
    """Removes schedules and webhooks of ``tenant`` with the messages that wait for them, and revokes its keys.

    Again after a crash half way: the rest of them. Raises ``StoreError``.
    """
    ended, webhooks = 0, 0
    while found := await schedules.all(tenant=tenant):
        for schedule in found:
            await schedules.remove(schedule.id, tenant=tenant)
            ended += 1
    while page := await hooks.all(tenant=tenant):
        for hook in page:
            await hooks.remove(hook.id, tenant=tenant)
            webhooks += 1
    revoked, after = 0, ""
    while keyring := await keys.page(tenant, after=after, limit=_PAGE):
        for key in keyring:
            if key.revoked_at is None:
                await keys.revoke(key.id, tenant=tenant)
                revoked += 1
        after = keyring[-1].id
    return Closed(keys=revoked, webhooks=webhooks, schedules=ended)
