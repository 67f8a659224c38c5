"""What is told while it happens."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import strawberry
from strawberry.scalars import JSON

from collegium.domain.errors import UsageError
from collegium.server.graphql.context import Info
from collegium.server.graphql.installation import Change
from collegium.server.graphql.types import Event, Id, plain

MOST_TOPICS = 20


@strawberry.type
class Subscription:
    """What the caller may look on at."""

    @strawberry.subscription
    async def events(self, info: Info, run: Id, after: int = 0) -> AsyncGenerator[Event, None]:
        """Events of a run with ``seq > after``, each once, until it has ended."""
        if after < 0:
            raise UsageError(f"after={after} does not do: it is the number of an event, or 0")
        async with aclosing(info.context.caller.live.follow(run, after=after)) as told:
            async for event in told:
                yield cast("Event", event)

    @strawberry.subscription
    async def changes(self, info: Info, topics: list[str]) -> AsyncGenerator[Change, None]:
        """Changes of ``runs``, ``approvals``, ``workers`` and topics; of each thing the latest."""
        if not 1 <= len(topics) <= MOST_TOPICS:
            raise UsageError(f"1 to {MOST_TOPICS} topics at once")
        async with aclosing(info.context.caller.live.changes(*topics)) as told:
            async for one in told:
                value = cast("JSON", plain(one.value))
                yield Change(topic=one.topic, key=one.key, is_resync=one.is_resync, value=value)
