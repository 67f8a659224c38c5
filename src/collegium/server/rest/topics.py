"""``/v1/topics`` and ``/v1/dead-letters``: messages on the bus, and those that nobody could deal with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import Response

from collegium.domain.message import PRIORITIES
from collegium.server.access.page import MOST
from collegium.server.access.topics import DeadLetter, MessageShown, Published, Revived, TopicShown
from collegium.server.caller import Caller
from collegium.server.rest.answer import answer, gives, gives_page
from collegium.server.rest.openapi import Lean
from collegium.server.rest.query import moment_text

ROUTER: Final = APIRouter(prefix="/v1", tags=["topics"])
NAME: Final = r"^[A-Za-z0-9_~][A-Za-z0-9_.~:@-]{0,199}$"
Topic = Annotated[str, Path(min_length=1, max_length=200, pattern=NAME)]
Limit = Annotated[int, Query(ge=1, le=MOST)]
After = Annotated[str | None, Query(max_length=500, description="`next` of the page before.")]


class MessagePage(msgspec.Struct, frozen=True, kw_only=True):
    """Messages in order; ``next`` is the place to go on from, also where nothing more is there yet."""

    items: tuple[MessageShown, ...]
    next: str


class NewMessage(BaseModel):
    """A message that is to be published."""

    model_config = ConfigDict(extra="forbid")
    body: Annotated[dict[str, Any], Field(examples=[{"order": 17}])]
    id: Annotated[
        str | None,
        Field(
            max_length=100,
            pattern=r"^[A-Za-z0-9._:-]+$",
            description="As long as one of that id waits, it is published once.",
        ),
    ] = None
    priority: Literal["urgent", "high", "normal", "low"] = "normal"
    delay_s: Annotated[float, Field(strict=True, ge=0, le=31_536_000, allow_inf_nan=False)] = 0.0


class Revival(BaseModel):
    """Which dead letters are to be dealt with again."""

    model_config = ConfigDict(extra="forbid")
    topic: Annotated[str, Field(min_length=1, max_length=200, pattern=NAME)]
    seqs: Annotated[list[Annotated[int, Field(ge=1, le=2**53)]], Field(min_length=1, max_length=MOST)]


@ROUTER.get("/topics", responses=gives_page(TopicShown, "A page of topics."), response_class=Response)
async def list_topics(caller: Caller, after: After = None, limit: Limit = 50) -> Response:
    """List the topics of all tenants by name; needs `host`."""
    return answer(await caller.topics.page(after=after, limit=limit))


@ROUTER.get("/topics/{topic}/messages", responses=gives(MessagePage, "Messages."), response_class=Response)
async def read_messages(
    topic: Topic,
    caller: Caller,
    after: Annotated[int, Query(ge=0, le=2**53, description="`seq` of the last message that was read.")] = 0,
    since: Annotated[
        datetime | None,
        BeforeValidator(moment_text),
        Query(description="Published then or later; UTC where it has no zone."),
    ] = None,
    limit: Limit = 50,
) -> Response:
    """Read the messages of a topic in the order they were published, whether anybody has dealt with them or not."""
    moment = since.replace(tzinfo=UTC) if since is not None and since.tzinfo is None else since
    items, following = await caller.topics.read(topic, after=after, since=moment, limit=limit)
    return answer(MessagePage(items=items, next=str(following)))


@ROUTER.post(
    "/topics/{topic}/messages",
    status_code=201,
    responses=gives(Published, "Published, or waiting already.", status=201),
    response_class=Response,
)
async def publish_message(topic: Topic, wanted: NewMessage, caller: Caller) -> Response:
    """Publish a message on a topic of your own; topics of runs, agents and processes are not written to."""
    made = await caller.topics.publish(
        topic, wanted.body, id=wanted.id, priority=PRIORITIES[wanted.priority], delay_s=wanted.delay_s
    )
    return answer(made, 201)


@ROUTER.get("/dead-letters", responses=gives_page(DeadLetter, "A page of dead letters."), response_class=Response)
async def list_dead_letters(
    caller: Caller,
    topic: Annotated[str, Query(min_length=1, max_length=200, pattern=NAME)],
    after: After = None,
    limit: Limit = 50,
) -> Response:
    """List messages of a topic that a group could not deal with, and why. They are kept for some days."""
    return answer(await caller.topics.letters(topic, after=after, limit=limit))


@ROUTER.post("/dead-letters/revive", responses=gives(Revived, "Given back."), response_class=Response)
async def revive_dead_letters(wanted: Revival, caller: Caller) -> Response:
    """Give dead letters back to their groups, as if they were new."""
    return answer(await caller.topics.revive(wanted.topic, wanted.seqs))


LEAN: Final[tuple[Lean, ...]] = ()
TYPES: Final = (TopicShown, MessagePage, Published, DeadLetter, Revived)
