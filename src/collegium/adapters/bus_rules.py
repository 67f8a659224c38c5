"""What all buses agree on, whatever they keep their messages in."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from collegium.domain.errors import TopicFull, UsageError
from collegium.domain.message import Message, check_topic


class BusRules(NamedTuple):
    """How long a bus hides, ages and keeps messages, how much it takes, and how tenants share it.

    Attributes:
        hide_s: How long a claimed message stays hidden before it is delivered again.
        aging_s: A message gains one step of priority for every ``aging_s`` that it has waited.
        keep: How many messages of a topic are kept for readers. Of a topic that was ever claimed from, older ones go
            once they are settled; of any other topic they go. Dead letters are kept as many.
        keep_s: Age at which messages go that could go by their number, and dead letters.
        poll_s: How often waiters look for messages of other processes where those cannot wake them.
        look_s: How often they look all the same where they can.
        weights: Weight by tenant, above 0; 1 for everybody else. Twice the weight is twice the turns.
        max_deliveries: A message whose claims lapsed so often becomes a dead letter.
        max_bytes: Size of the largest body, as JSON.
        max_waiting: How many messages may wait on one topic.
    """

    hide_s: float = 60.0
    aging_s: float = 60.0
    keep: int = 10_000
    keep_s: float = 7 * 86_400.0
    poll_s: float = 0.05
    look_s: float = 1.0
    weights: Mapping[str, float] = MappingProxyType({})
    max_deliveries: int = 10
    max_bytes: int = 1_048_576
    max_waiting: int = 1_000_000

    def turn(self, tenant: str) -> float:
        """How far one claim moves a tenant on: the tenant that has moved least goes next."""
        return 1.0 / self.weights.get(tenant, 1.0)


DEFAULT_RULES: Final = BusRules()


def rank_of(message: Message, published_s: float, rules: BusRules) -> float:
    """The place of a message among those of its tenant: the smallest goes first.

    ``priority - waited / aging_s`` compares any two messages at any moment just as the constant
    ``published + priority * aging_s`` does, which an index can hold.
    """
    return published_s + message.priority * rules.aging_s


def encoded(message: Message, rules: BusRules) -> bytes:
    """The body as JSON. Raises ``UsageError`` for a message that no bus takes."""
    check_topic(message.topic)
    try:
        body = msgspec.json.encode(message.body)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(
            f"the body of message {message.id[:80]!r} cannot be written as JSON: {error}", topic=message.topic
        ) from error
    if len(body) > rules.max_bytes:
        raise UsageError(
            f"message {message.id[:80]!r} for {message.topic} has {len(body):,} bytes, and the bus takes "
            f"{rules.max_bytes:,} ([bus] max_bytes): store the content elsewhere and send where it is",
            topic=message.topic,
            size_bytes=len(body),
            cap_bytes=rules.max_bytes,
        )
    return body


def topic_full(topic: str, waiting: int, rules: BusRules) -> TopicFull:
    """The refusal of one message more."""
    return TopicFull(
        f"{waiting:,} messages wait on {topic}, and it takes {rules.max_waiting:,} ([bus] max_waiting): publish later, "
        "or start more consumers",
        topic=topic,
        waiting=waiting,
        cap=rules.max_waiting,
    )


def lapsed(lapses: int) -> str:
    """Why a message is a dead letter whose claims lapsed so often."""
    return f"it was claimed {lapses} times, and each time whoever had it fell silent"
