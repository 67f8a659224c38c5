"""Webhooks as one principal may see and change them. Secrets are shown when they are made, and never again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from collegium.app import Collegium
from collegium.domain.principal import Principal
from collegium.domain.webhook import TYPES, Delivery, DeliveryStatus, Webhook
from collegium.runtime.webhooks import Webhooks
from collegium.server.access.deeds import noted
from collegium.server.access.page import Page, cursor, place
from collegium.server.access.reach import Reach

_SCOPE = "webhooks:write"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WebhookShown(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook. ``disabled`` says why it is told nothing any more; it is empty as long as it is."""

    id: str
    url: str
    types: tuple[str, ...]
    created_at: datetime
    created_by: str
    disabled: str
    failing_since: datetime | None


class WebhookSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook with the secret that signs its messages: it is shown this once."""

    webhook: WebhookShown
    secret: str


class DeliveryShown(msgspec.Struct, frozen=True, kw_only=True):
    """A message to a webhook: ``pending``, ``delivered``, or ``dead`` when it was given up."""

    id: str
    type: str
    status: DeliveryStatus
    attempts: int
    created_at: datetime
    next_at: datetime | None
    ended_at: datetime | None
    status_code: int | None
    detail: str
    body: str


class WebhookAccess:
    """The webhooks of the principal's tenant; those of others are not there (``NotFound``).

    They are told of all its runs, so that whoever is limited to projects has none.
    """

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._app = app
        self._principal = principal
        self._tenant = principal.tenant
        self._reach = Reach(app, principal)
        self._hooks = Webhooks(app.stores.records, now=app.now, ids=app.ids)

    async def create(self, url: str, types: Sequence[str]) -> WebhookSecret:
        """A new webhook, which is told of what happens from now on."""
        self._principal.require(_SCOPE)
        self._reach.all()
        hook = await self._hooks.add(url, types, tenant=self._tenant, principal=self._principal.id)
        await self._note("created", hook.id, url=_host(url))
        return _with_secret(hook)

    async def page(self, *, after: str | None = None, limit: int = 50) -> Page[WebhookShown]:
        """Webhooks, the oldest first."""
        self._principal.require(_SCOPE)
        self._reach.all()
        behind = place("webhooks", after)
        found = await self._hooks.all(
            tenant=self._tenant, after="" if behind is None else str(behind[0]), limit=limit + 1
        )
        items = [_shown(one) for one in found[:limit]]
        return Page(items=items, next=cursor("webhooks", items[-1].id) if len(found) > limit else None)

    async def show(self, hook: str) -> WebhookShown:
        """The webhook."""
        self._principal.require(_SCOPE)
        self._reach.known("webhook", hook)
        return _shown(await self._hooks.get(hook, tenant=self._tenant))

    async def rotate(self, hook: str) -> WebhookSecret:
        """Gives it a new secret; for a day, messages are signed with the one before too."""
        self._principal.require(_SCOPE)
        self._reach.known("webhook", hook)
        made = await self._hooks.rotate(hook, tenant=self._tenant)
        await self._note("rotated", hook)
        return _with_secret(made)

    async def enable(self, hook: str) -> WebhookShown:
        """Lets one go on that was disabled."""
        self._principal.require(_SCOPE)
        self._reach.known("webhook", hook)
        made = await self._hooks.enable(hook, tenant=self._tenant)
        await self._note("enabled", hook)
        return _shown(made)

    async def remove(self, hook: str) -> None:
        """Removes it, and the messages that wait for it."""
        self._principal.require(_SCOPE)
        self._reach.known("webhook", hook)
        await self._hooks.remove(hook, tenant=self._tenant)
        await self._note("removed", hook)

    async def test(self, hook: str) -> DeliveryShown:
        """Puts a message on its way that says nothing; ``deliveries`` tells what came of it."""
        self._principal.require(_SCOPE)
        self._reach.known("webhook", hook)
        return _delivery(await self._hooks.test(hook, tenant=self._tenant))

    async def deliveries(
        self, hook: str, *, status: DeliveryStatus | None = None, after: str | None = None, limit: int = 50
    ) -> Page[DeliveryShown]:
        """Messages to a webhook, the oldest first; ``dead`` are those that were given up."""
        self._principal.require(_SCOPE)
        self._reach.known("webhook", hook)
        await self._hooks.get(hook, tenant=self._tenant)
        behind = place("deliveries", after)
        found = await self._hooks.deliveries(
            hook,
            tenant=self._tenant,
            status=status,
            after="" if behind is None else str(behind[0]),
            limit=limit + 1,
        )
        items = [_delivery(one) for one in found[:limit]]
        return Page(items=items, next=cursor("deliveries", items[-1].id) if len(found) > limit else None)

    async def redeliver(self, hook: str, message: str) -> DeliveryShown:
        """Sends a message again, under the same id."""
        self._principal.require(_SCOPE)
        self._reach.known("webhook", hook)
        made = await self._hooks.redeliver(hook, message, tenant=self._tenant)
        await self._note("redelivered", hook, message=message)
        return _delivery(made)

    async def _note(self, done: str, hook: str, **details: str) -> None:
        await noted(self._app, self._principal, f"webhooks.{done}", hook, rule=_SCOPE, details=details)


def _shown(hook: Webhook) -> WebhookShown:
    return WebhookShown(
        id=hook.id,
        url=hook.url,
        types=hook.types or TYPES,
        created_at=hook.created_at,
        created_by=hook.created_by,
        disabled=hook.disabled,
        failing_since=hook.failing_since,
    )


def _with_secret(hook: Webhook) -> WebhookSecret:
    return WebhookSecret(webhook=_shown(hook), secret=hook.secrets[0].text)


def _delivery(one: Delivery) -> DeliveryShown:
    return DeliveryShown(
        id=one.id,
        type=one.type,
        status=one.status,
        attempts=one.attempts,
        created_at=one.created_at,
        next_at=_at(one.next_us) if one.status == "pending" else None,
        ended_at=_at(one.ended_us) if one.ended_us else None,
        status_code=one.status_code,
        detail=one.detail,
        body=one.body,
    )


def _at(moment_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=moment_us)


def _host(url: str) -> str:
    """Scheme and host: the rest of a URL may be a secret."""
    return "/".join(url.split("/", 3)[:3])
