"""Webhooks: added, looked at, rotated, removed, and the messages on their way. What sends them is ``runtime.courier``.

Hooks of all tenants are kept together, so that one look finds whom an event concerns; messages are kept with their
tenant's records.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from collegium.domain.errors import Conflict, NotFound, WrongState
from collegium.domain.ids import Ids
from collegium.domain.record import Condition, Record
from collegium.domain.schedule import us_of
from collegium.domain.webhook import (
    TEST,
    Delivery,
    DeliveryStatus,
    Secret,
    Webhook,
    check_types,
    check_url,
    new_secret,
    rotated,
)
from collegium.ports import Records

KIND, TENANT, DELIVERY = "webhook", "~webhooks", "webhook_delivery"
"""Kind and tenant of the records of hooks, and the kind of those of messages."""
MOST: Final = 50
"""So many webhooks are the most a tenant has."""
PAGE: Final = 100
GRACE: Final = timedelta(hours=24)
"""So long the secret before signs beside the newest one."""
_SECRET_BYTES: Final = 32
_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)


class Webhooks:
    """The webhooks of all tenants.

    Args:
        records: Where they and their messages are kept.
        now: Tells the time of day.
        ids: Names them.
        entropy: Random bytes for their secrets.
    """

    def __init__(
        self,
        records: Records,
        *,
        now: Callable[[], datetime],
        ids: Ids,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._records = records
        self._now = now
        self._ids = ids
        self._entropy = entropy

    async def add(self, url: str, types: Sequence[str], *, tenant: str, principal: str) -> Webhook:
        """Keeps a webhook, durably; it is told of what happens from now on.

        Raises ``UsageError`` for a URL or a type that cannot be, ``WrongState`` for one webhook too many.
        """
        checked, wanted = check_url(url), check_types(types)
        if len(await self.all(tenant=tenant, limit=MOST)) >= MOST:
            raise WrongState(f"a tenant has at most {MOST} webhooks: remove one first")
        hook = Webhook(
            id=self._ids.new("whk"),
            tenant=tenant,
            url=checked,
            types=wanted,
            secrets=(Secret(text=new_secret(self._entropy(_SECRET_BYTES))),),
            created_at=self._now(),
            created_by=principal,
        )
        await self._records.put(_record(hook), expected=0)
        return hook

    async def get(self, hook: str, *, tenant: str) -> Webhook:
        """The webhook of that id. Raises ``NotFound``, also for another tenant's."""
        found = await self.find(hook)
        if found is None or found.tenant != tenant:
            raise NotFound(f"there is no webhook {hook[:100]}", webhook=hook[:100])
        return found

    async def find(self, hook: str) -> Webhook | None:
        """The webhook of that id, whosever it is, or None."""
        record = await self._records.get(KIND, TENANT, hook)
        return None if record is None else _read(record)

    async def all(self, *, tenant: str, after: str = "", limit: int = PAGE) -> tuple[Webhook, ...]:
        """The webhooks of ``tenant`` by id, which is the order they were added in, with ``id > after``."""
        mine = Condition(field="tenant", op="=", value=tenant)
        return tuple(map(_read, await self._records.find(KIND, TENANT, [mine], after=after, limit=limit)))

    async def each(self) -> AsyncIterator[Webhook]:
        """The webhooks of all tenants."""
        after = ""
        while page := await self._records.find(KIND, TENANT, after=after, limit=PAGE):
            for record in page:
                yield _read(record)
            after = page[-1].key
            if len(page) < PAGE:
                return

    async def rotate(self, hook: str, *, tenant: str) -> Webhook:
        """Gives it a new secret; the one before signs beside it for ``GRACE``. Raises ``NotFound``."""
        await self.get(hook, tenant=tenant)
        secret, now = new_secret(self._entropy(_SECRET_BYTES)), self._now()
        return await self.change(hook, lambda h: rotated(h, secret, now=now, grace=GRACE))

    async def enable(self, hook: str, *, tenant: str) -> Webhook:
        """Lets one go on that was disabled: what waits for it is sent. Raises ``NotFound``."""
        await self.get(hook, tenant=tenant)
        return await self.change(hook, lambda h: msgspec.structs.replace(h, disabled="", failing_since=None))

    async def remove(self, hook: str, *, tenant: str) -> None:
        """Removes it and the messages that wait for it. Raises ``NotFound``."""
        await self.get(hook, tenant=tenant)
        await self._records.delete(KIND, TENANT, hook)
        while page := await self.deliveries(hook, tenant=tenant, limit=PAGE):
            for one in page:
                await self._records.delete(DELIVERY, tenant, one.id)

    async def change(self, hook: str, change: Callable[[Webhook], Webhook]) -> Webhook:
        """Stores what ``change`` makes of it; asked again when somebody else was faster. Raises ``NotFound``."""
        while True:
            record = await self._records.get(KIND, TENANT, hook)
            if record is None:
                raise NotFound(f"there is no webhook {hook}", webhook=hook)
            before = _read(record)
            after = change(before)
            if after == before:
                return before
            try:
                await self._records.put(_record(after), expected=record.version)
            except Conflict:
                continue
            return after

    async def test(self, hook: str, *, tenant: str) -> Delivery:
        """Puts a message on its way that says nothing. Raises ``NotFound``."""
        found, now = await self.get(hook, tenant=tenant), self._now()
        said = {"type": TEST, "timestamp": now.isoformat(), "data": {"webhook": found.id}}
        made = delivery(found, self._ids.new("evt"), TEST, said, at=now)
        await self.keep(made)
        return made

    async def keep(self, made: Delivery) -> bool:
        """Puts a message on its way, durably; False where the same one is there already."""
        try:
            await self._records.put(_message(made), expected=0)
        except Conflict:
            return False
        return True

    async def deliveries(
        self,
        hook: str,
        *,
        tenant: str,
        status: DeliveryStatus | None = None,
        due: datetime | None = None,
        ended: datetime | None = None,
        after: str = "",
        limit: int = PAGE,
    ) -> tuple[Delivery, ...]:
        """Messages to a webhook, the oldest first: of a status, due at a moment, or ended before one."""
        conditions = [Condition(field="webhook", op="=", value=hook)]
        if status is not None:
            conditions.append(Condition(field="status", op="=", value=status))
        if due is not None:
            conditions.append(Condition(field="next_us", op="<=", value=us_of(due)))
        if ended is not None:
            conditions.append(Condition(field="ended_us", op=">", value=0))
            conditions.append(Condition(field="ended_us", op="<", value=us_of(ended)))
        found = await self._records.find(DELIVERY, tenant, conditions, after=after, limit=limit)
        return tuple(msgspec.convert(one.value, Delivery) for one in found)

    async def redeliver(self, hook: str, message: str, *, tenant: str) -> Delivery:
        """Sends a message again, with the same id and as many attempts as a new one. Raises ``NotFound``."""
        await self.get(hook, tenant=tenant)
        now = us_of(self._now())

        def again(one: Delivery) -> Delivery | None:
            if one.webhook != hook:
                return None
            return msgspec.structs.replace(one, status="pending", attempts=0, next_us=now, ended_us=0, detail="")

        made = await self.alter(tenant, message, again)
        if made is None:
            raise NotFound(f"there is no message {message[:100]} to {hook}", delivery=message[:100])
        return made

    async def alter(self, tenant: str, message: str, change: Callable[[Delivery], Delivery | None]) -> Delivery | None:
        """Stores what ``change`` makes of a message, and gives it; None where it is gone or ``change`` gives None."""
        while True:
            record = await self._records.get(DELIVERY, tenant, message)
            made = None if record is None else change(msgspec.convert(record.value, Delivery))
            if record is None or made is None:
                return None
            try:
                await self._records.put(_message(made), expected=record.version)
            except Conflict:
                continue
            return made

    async def forget(self, one: Delivery) -> None:
        """Removes a message that has ended."""
        await self._records.delete(DELIVERY, one.tenant, one.id)


def delivery(hook: Webhook, event: str, kind: str, said: dict[str, Any], *, at: datetime) -> Delivery:
    """The message to ``hook`` about the event of that id: always the same one, however often it is made."""
    return Delivery(
        id=f"msg_{event.removeprefix('evt_')}_{hook.id[-12:]}",
        tenant=hook.tenant,
        webhook=hook.id,
        type=kind,
        body=_ENCODER.encode(said).decode(),
        created_at=at,
        next_us=us_of(at),
    )


def _read(record: Record) -> Webhook:
    return msgspec.convert(record.value, Webhook)


def _record(hook: Webhook) -> Record:
    return Record(kind=KIND, tenant=TENANT, key=hook.id, value=msgspec.to_builtins(hook))


def _message(one: Delivery) -> Record:
    return Record(kind=DELIVERY, tenant=one.tenant, key=one.id, value=msgspec.to_builtins(one))
