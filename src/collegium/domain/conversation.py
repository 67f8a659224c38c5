"""The conversation of a task: one, with one step counter, across all its attempts."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from collegium.domain import body as b
from collegium.domain.chat import ChatMessage
from collegium.domain.event import Event
from collegium.domain.usage import Usage


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One step: a model call, its reply, and what came of the calls the reply proposed, by their index."""

    proposed: b.StepProposed
    intended: dict[int, b.ToolIntended] = {}
    finished: dict[int, b.ToolFinished] = {}

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """What the step adds to the conversation; tool results stand in the order of the calls."""
        return (
            *self.proposed.added,
            self.proposed.reply,
            *(tool_message(f) for _, f in sorted(self.finished.items())),
        )


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """What was said and done so far, folded from a task's recording events.

    An attempt that takes over goes through ``turns`` before it calls a model again: finished steps are never repeated.
    """

    turns: tuple[Turn, ...] = ()
    usage: dict[int, Usage] = {}
    """What each attempt took, as recorded."""
    reserved: dict[int, b.LimitReserved] = {}
    """Reservations by attempt; one without a settlement counts in full."""
    progress: dict[int, int] = {}
    """How many durable events each attempt left."""

    def spent(self, attempt: int) -> Usage:
        """What ``attempt`` has to be charged for when it ends without a word: its whole reservation, if it had one."""
        usage = self.usage.get(attempt, Usage())
        reserved = self.reserved.get(attempt)
        if reserved is None:
            return usage
        tokens, cost = reserved.allotment.tokens, reserved.allotment.cost_usd
        return msgspec.structs.replace(
            usage,
            input_tokens=usage.input_tokens + max(0, (tokens or 0) - usage.tokens),
            cost_usd=max(usage.cost_usd, cost or usage.cost_usd),
        )


def converse(events: Iterable[Event], task: str, before: Conversation | None = None) -> Conversation:
    """The conversation of ``task`` after ``events`` of its run."""
    talk = before or Conversation()
    for event in events:
        if event.task == task and not event.is_deciding:
            talk = _extend(talk, event)
    return talk


def tool_message(finished: b.ToolFinished) -> ChatMessage:
    """A tool's result as the conversation carries it."""
    return ChatMessage(role="tool", text=finished.result.text, call_id=finished.call_id, name=finished.tool)


def _extend(talk: Conversation, event: Event) -> Conversation:
    body, attempt = event.body, event.attempt or 0
    progress = {**talk.progress, attempt: talk.progress.get(attempt, 0) + 1}
    talk = msgspec.structs.replace(talk, progress=progress)
    match body:
        case b.StepProposed():
            turns = (*talk.turns, Turn(proposed=body))
            return msgspec.structs.replace(talk, turns=turns, usage=_add(talk.usage, attempt, body.usage))
        case b.ToolIntended():
            return _in_turn(talk, body.step, intended={body.call: body})
        case b.ToolFinished():
            talk = msgspec.structs.replace(talk, usage=_add(talk.usage, attempt, Usage(tool_calls=1)))
            return _in_turn(talk, body.step, finished={body.call: body})
        case b.LimitReserved():
            # The reservation is made as the attempt starts and is no progress of its own.
            return msgspec.structs.replace(
                talk,
                reserved={**talk.reserved, attempt: body},
                progress={**progress, attempt: progress[attempt] - 1},
            )
        case _:
            return talk


def _in_turn(
    talk: Conversation,
    step: int,
    *,
    intended: dict[int, b.ToolIntended] | None = None,
    finished: dict[int, b.ToolFinished] | None = None,
) -> Conversation:
    turns = tuple(
        msgspec.structs.replace(
            t, intended={**t.intended, **(intended or {})}, finished={**t.finished, **(finished or {})}
        )
        if t.proposed.step == step
        else t
        for t in talk.turns
    )
    return msgspec.structs.replace(talk, turns=turns)


def _add(usages: dict[int, Usage], attempt: int, usage: Usage) -> dict[int, Usage]:
    return {**usages, attempt: usages.get(attempt, Usage()) + usage}
