"""Questions on the bus: one message asks, one answers, and there is a time by which."""

from __future__ import annotations

from datetime import timedelta

from collegium.domain.chat import Json
from collegium.domain.errors import TimedOut
from collegium.domain.ids import Ids
from collegium.domain.message import Claim, Message
from collegium.ports import Bus, Clock


async def request(
    bus: Bus,
    topic: str,
    body: Json,
    *,
    tenant: str,
    timeout_s: float,
    clock: Clock,
    ids: Ids,
    priority: int = 2,
) -> Message:
    """The answer to ``body``, from whoever claims it from ``topic``.

    The question is not delivered any more once ``timeout_s`` is over, and the answer is not kept longer. Whoever
    answers may do so twice (claims are delivered at least once); the first answer is the one.

    Raises:
        TimedOut: nobody answered in time. The question may have been dealt with all the same.
        UsageError: the bus does not take the question.
        TopicFull: too many wait on the topic already.
        StoreError: the bus is away.
    """
    asked = ids.new("msg")
    deadline_s = clock.monotonic() + timeout_s
    question = Message(
        id=asked,
        topic=topic,
        tenant=tenant,
        body=body,
        priority=priority,
        reply_to=reply_topic(asked),
        expires_at=clock.now() + timedelta(seconds=timeout_s),
    )
    await bus.publish(question)
    while True:
        answers = await bus.read(reply_topic(asked), limit=1)
        if answers:
            return answers[0]
        left_s = deadline_s - clock.monotonic()
        if left_s <= 0:
            raise TimedOut(
                f"nobody answered on {topic} within {timeout_s:g} s: see whether somebody claims from it, or wait "
                "longer",
                topic=topic,
                question=asked,
                timeout_s=timeout_s,
            )
        await bus.wait((reply_topic(asked),), left_s)


async def answer(bus: Bus, claim: Claim, body: Json) -> None:
    """Answers the claimed question and settles it; one that asks for no answer is only settled.

    A crash in between leaves the question claimed: it is delivered again, and answered again under the same id.
    """
    question = claim.message
    if question.reply_to is not None:
        reply = Message(
            id=question.id,
            topic=question.reply_to,
            tenant=question.tenant,
            body=body,
            priority=question.priority,
            expires_at=question.expires_at,
        )
        await bus.publish(reply)
    await bus.settle(claim)


def reply_topic(message: str) -> str:
    """The topic on which the answer to a message is waited for."""
    return f"replies.{message}"
