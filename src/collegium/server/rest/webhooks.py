"""``/v1/webhooks``: addresses that are told of events."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from collegium.domain.webhook import MAX_URL_CHARS, EventType
from collegium.server.access.page import MOST
from collegium.server.access.webhooks import DeliveryShown, WebhookSecret, WebhookShown
from collegium.server.caller import Caller
from collegium.server.rest.answer import answer, gives, gives_page
from collegium.server.rest.openapi import Lean

ROUTER: Final = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
Hook = Annotated[str, Path(min_length=1, max_length=100)]
Message = Annotated[str, Path(min_length=1, max_length=200)]
After = Annotated[str | None, Query(max_length=500, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=MOST)]


class NewWebhook(BaseModel):
    """An address, and what it is to be told of."""

    model_config = ConfigDict(extra="forbid")
    url: Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARS, examples=["https://example.org/hooks/collegium"])]
    types: Annotated[
        list[EventType], Field(max_length=20, description="Types of events; empty for all that there are.")
    ] = []


@ROUTER.post("", status_code=201, responses=gives(WebhookSecret, "Made.", status=201), response_class=Response)
async def create_webhook(wanted: NewWebhook, caller: Caller) -> Response:
    """Make a webhook. Its secret is in this answer and in no other."""
    made = await caller.webhooks.create(wanted.url, wanted.types)
    return answer(made, 201, {"location": f"/v1/webhooks/{made.webhook.id}"})


@ROUTER.get("", responses=gives_page(WebhookShown, "A page of webhooks."), response_class=Response)
async def list_webhooks(caller: Caller, after: After = None, limit: Limit = 50) -> Response:
    """List webhooks, the oldest first."""
    return answer(await caller.webhooks.page(after=after, limit=limit))


@ROUTER.get("/{hook}", responses=gives(WebhookShown, "The webhook."), response_class=Response)
async def show_webhook(hook: Hook, caller: Caller) -> Response:
    """Show a webhook."""
    return answer(await caller.webhooks.show(hook))


@ROUTER.delete("/{hook}", status_code=204, response_class=Response)
async def remove_webhook(hook: Hook, caller: Caller) -> Response:
    """Remove a webhook, and the messages that wait for it."""
    await caller.webhooks.remove(hook)
    return Response(status_code=204)


@ROUTER.post("/{hook}/rotate", responses=gives(WebhookSecret, "The new secret."), response_class=Response)
async def rotate_webhook(hook: Hook, caller: Caller) -> Response:
    """Give a webhook a new secret. For a day, messages are signed with the one before too."""
    return answer(await caller.webhooks.rotate(hook))


@ROUTER.post("/{hook}/enable", responses=gives(WebhookShown, "The webhook."), response_class=Response)
async def enable_webhook(hook: Hook, caller: Caller) -> Response:
    """Let a webhook go on that was disabled: what waits for it is sent."""
    return answer(await caller.webhooks.enable(hook))


@ROUTER.post(
    "/{hook}/test", status_code=202, responses=gives(DeliveryShown, "On its way.", status=202), response_class=Response
)
async def test_webhook(hook: Hook, caller: Caller) -> Response:
    """Send a message that says nothing; the list of deliveries tells what came of it."""
    return answer(await caller.webhooks.test(hook), 202)


@ROUTER.get("/{hook}/deliveries", responses=gives_page(DeliveryShown, "A page of messages."), response_class=Response)
async def list_deliveries(
    hook: Hook,
    caller: Caller,
    status: Literal["pending", "delivered", "dead"] | None = None,
    after: After = None,
    limit: Limit = 50,
) -> Response:
    """List the messages to a webhook, the oldest first; `dead` are those that were given up."""
    return answer(await caller.webhooks.deliveries(hook, status=status, after=after, limit=limit))


@ROUTER.post(
    "/{hook}/deliveries/{message}/redeliver",
    status_code=202,
    responses=gives(DeliveryShown, "On its way again.", status=202),
    response_class=Response,
)
async def redeliver(hook: Hook, message: Message, caller: Caller) -> Response:
    """Send a message again, under the same id."""
    return answer(await caller.webhooks.redeliver(hook, message), 202)


LEAN: Final[tuple[Lean, ...]] = ()
TYPES: Final = (WebhookShown, WebhookSecret, DeliveryShown)
