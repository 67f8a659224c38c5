"""The courier: tells webhooks what has happened, from the journal, at least once.

One process at a time does it, by a lease. What it has read of the journal and what it has still to send is stored
before it goes on, so that a restart loses nothing; where two overlap for a moment, a receiver may get a message twice,
under the same id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final, NamedTuple, Protocol

import msgspec

from collegium.domain.errors import Conflict, NotFound, StoreError
from collegium.domain.record import Record
from collegium.domain.schedule import us_of
from collegium.domain.webhook import Delivery, DeliveryStatus, Webhook, message, pause_s, signed, signing
from collegium.ports import Clock, Journal, Records
from collegium.runtime.webhooks import TENANT, Webhooks, delivery

SWEEP_S: Final = 1.0
LEASE_S: Final = 45.0
SEND_S: Final = 15.0
"""So long a receiver may take."""
DISABLE_AFTER: Final = timedelta(days=5)
KEPT: Final = timedelta(days=7)
"""So long messages are kept that have arrived; those that were given up four times as long."""
_PAGE: Final = 500
_MOST_PAGES: Final = 20
_AT_ONCE: Final = 8
"""So many messages to one hook are under way at once."""
_GONE: Final = 410
_log = logging.getLogger("collegium.webhooks")


class Reply(NamedTuple):
    """What came of an attempt: the status that was answered, or why none was.

    ``is_refused``: the address itself may not be reached, now or later.
    """

    status: int | None
    detail: str = ""
    is_refused: bool = False

    @property
    def has_arrived(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status is not None and 200 <= self.status < 300


class Sender(Protocol):
    """Sends a message to an address."""

    async def send(self, url: str, headers: dict[str, str], body: bytes) -> Reply:
        """What came of it within ``SEND_S``; never raises for what the other side does."""
        ...


class Courier:
    """Sends what is due, once a second, from ``start`` to ``end``, as long as no other process does.

    Args:
        name: Of this process, in the lease.
        random: A number from 0 to 1: retries of many messages should not come together.
    """

    def __init__(
        self,
        name: str,
        hooks: Webhooks,
        sender: Sender,
        *,
        journal: Journal,
        records: Records,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._name = name
        self._hooks = hooks
        self._sender = sender
        self._journal = journal
        self._records = records
        self._clock = clock
        self._random = random
        self._task: asyncio.Task[None] | None = None
        self._serving: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Begins to look; twice is harmless."""
        if self._task is None:
            self._task = asyncio.create_task(self._look())

    async def end(self) -> None:
        """Sends no more and lets another process go on at once. What was under way is sent again."""
        if self._task is not None:
            under_way = [self._task, *self._serving.values()]
            for one in under_way:
                one.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            self._task = None
            with suppress(StoreError, Conflict):
                await self._release()

    async def sweep(self) -> bool:
        """Reads on in the journal and begins to send what is due; False where another process has the lease.

        Each hook is served by itself: a slow receiver keeps nobody else waiting. Raises ``StoreError``: what
        is left comes with the next sweep.
        """
        if not await self._has_lease():
            return False
        hooks = [hook async for hook in self._hooks.each()]
        active = [hook for hook in hooks if not hook.disabled]
        if active:
            await self._gather(active)
        for hook in active:
            if hook.id not in self._serving:
                self._serving[hook.id] = asyncio.create_task(self._serve(hook))
        for hook in hooks:
            await self._clear(hook)
        return True

    async def settled(self) -> None:
        """Returns once nothing is being sent any more."""
        await asyncio.gather(*self._serving.values())

    async def _look(self) -> None:
        is_away = False
        while True:
            try:
                await self.sweep()
                is_away = False
            except (StoreError, Conflict) as error:
                if not is_away:
                    _log.warning("webhooks cannot be looked after, it is tried every %g s: %s", SWEEP_S, error)
                is_away = True
            except Exception:  # noqa: BLE001  the courier's edge: one message must not end all others
                _log.exception("webhooks: something failed in a way nobody foresaw")
            await self._clock.sleep(SWEEP_S)

    async def _has_lease(self) -> bool:
        """Takes or renews the lease; False where another process holds it."""
        record = await self._records.get("webhook_lease", TENANT, "lease")
        now = us_of(self._clock.now())
        if record is not None and record.value["holder"] != self._name and record.value["until_us"] > now:
            return False
        value = {"holder": self._name, "until_us": now + int(LEASE_S * 1_000_000)}
        made = Record(kind="webhook_lease", tenant=TENANT, key="lease", value=value)
        try:
            await self._records.put(made, expected=0 if record is None else record.version)
        except Conflict:
            return False
        return True

    async def _release(self) -> None:
        record = await self._records.get("webhook_lease", TENANT, "lease")
        if record is not None and record.value["holder"] == self._name:
            await self._records.delete("webhook_lease", TENANT, "lease", expected=record.version)

    async def _gather(self, hooks: list[Webhook]) -> None:
        """Puts messages on their way for what the journal has that was not read yet.

        The messages are stored before the place in the journal: what is read twice makes the same messages again.
        """
        for _ in range(_MOST_PAGES):
            record = await self._records.get("webhook_cursor", TENANT, "cursor")
            before = "" if record is None else str(record.value["cursor"])
            events, cursor = await self._journal.scan(before, _PAGE)
            for event in events:
                for hook in hooks:
                    if hook.wants(event):
                        at = self._clock.now()
                        await self._hooks.keep(delivery(hook, event.id, event.type, message(event), at=at))
            if cursor == before:
                return
            place = Record(kind="webhook_cursor", tenant=TENANT, key="cursor", value={"cursor": cursor})
            await self._records.put(place, expected=0 if record is None else record.version)

    async def _serve(self, hook: Webhook) -> None:
        """Sends what is due to ``hook``, a few at once, until nothing is."""
        try:
            while due := await self._hooks.deliveries(
                hook.id, tenant=hook.tenant, status="pending", due=self._clock.now(), limit=_AT_ONCE
            ):
                await asyncio.gather(*(self._deliver(hook, one) for one in due))
                current = await self._hooks.find(hook.id)
                if current is None or current.disabled:
                    return
                hook = current
        except StoreError as error:
            _log.warning("messages to %s wait for the store: %s", hook.id, error)
        except Exception:  # noqa: BLE001  the same, for one hook
            _log.exception("messages to %s: something failed in a way nobody foresaw", hook.id)
        finally:
            self._serving.pop(hook.id, None)

    async def _deliver(self, hook: Webhook, one: Delivery) -> None:
        """One attempt. That it is made is stored before, so that a receiver that ends us is not tried for ever."""
        taken = await self._hooks.alter(one.tenant, one.id, lambda now: self._begun(one, now))
        if taken is None:
            return
        body, at = one.body.encode(), self._clock.now()
        headers = {
            **signed(signing(hook, at), one.id, at, body),
            "content-type": "application/json",
            "user-agent": "collegium-webhooks/1",
        }
        reply = await self._sender.send(hook.url, headers, body)
        await self._hooks.alter(one.tenant, one.id, lambda now: self._ended(now, reply))
        with suppress(NotFound):
            await self._hooks.change(hook.id, lambda now: self._judged(now, reply))

    def _begun(self, seen: Delivery, now: Delivery) -> Delivery | None:
        """The message with one attempt more; None where somebody else was faster."""
        if now.status != "pending" or now.attempts != seen.attempts:
            return None
        wait_s = pause_s(now.attempts + 1, self._random()) or 0.0
        due = us_of(self._clock.now()) + int((wait_s + SEND_S) * 1_000_000)
        return msgspec.structs.replace(now, attempts=now.attempts + 1, next_us=due)

    def _ended(self, now: Delivery, reply: Reply) -> Delivery | None:
        if now.status != "pending":
            return None
        at = us_of(self._clock.now())
        told = msgspec.structs.replace(now, status_code=reply.status, detail=reply.detail[:500])
        if reply.has_arrived:
            return msgspec.structs.replace(told, status="delivered", ended_us=at)
        wait_s = None if reply.is_refused or reply.status == _GONE else pause_s(now.attempts, self._random())
        if wait_s is None:
            return msgspec.structs.replace(told, status="dead", ended_us=at)
        return msgspec.structs.replace(told, next_us=at + int(wait_s * 1_000_000))

    def _judged(self, hook: Webhook, reply: Reply) -> Webhook:
        """``hook`` after an attempt: disabled where it is gone, or where nothing has arrived for too long."""
        now = self._clock.now()
        if reply.has_arrived:
            return msgspec.structs.replace(hook, failing_since=None)
        since = hook.failing_since or now
        why = hook.disabled
        if reply.status == _GONE:
            why = "the receiver has answered that it is gone for good (410)"
        elif now - since >= DISABLE_AFTER:
            why = f"nothing has arrived since {since.isoformat(timespec='seconds')}"
        return msgspec.structs.replace(hook, failing_since=since, disabled=why)

    async def _clear(self, hook: Webhook) -> None:
        """Forgets messages that ended long ago."""
        now = self._clock.now()
        kept: tuple[tuple[DeliveryStatus, timedelta], ...] = (("delivered", KEPT), ("dead", 4 * KEPT))
        for status, age in kept:
            for one in await self._hooks.deliveries(hook.id, tenant=hook.tenant, status=status, ended=now - age):
                await self._hooks.forget(one)
