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
    compacted: b.ContextCompacted | None = None
    """The last compaction: it holds for the conversation in which its ``upto_step`` comes after the first step."""
    begun: int = 0
    """How many of ``turns`` are another agent's or model's, with which nobody goes on."""

    @property
    def current(self) -> tuple[Turn, ...]:
        """The steps with which an attempt goes on."""
        return self.turns[self.begun :]

    def spent(self, attempt: int) -> Usage:
        """What ``attempt`` has to be charged for when it ends without a word: its whole reservation, if it had one."""
        usage = self.usage.get(attempt, Usage())
        reserved = self.reserved.get(attempt)
        if reserved is None:
            return usage
        held = reserved.allotment
        output = max(usage.output_tokens, held.output_tokens or 0)
        given = max(usage.input_tokens, held.input_tokens or 0)
        return msgspec.structs.replace(
            usage,
            input_tokens=max(given, (held.tokens or 0) - output),
            output_tokens=output,
            cost_usd=max(usage.cost_usd, held.cost_usd or usage.cost_usd),
            tool_calls=max(usage.tool_calls, held.tool_calls or 0),
        )


def converse(events: Iterable[Event], task: str, before: Conversation | None = None) -> Conversation:
    """The conversation of ``task`` after ``events`` of its run; takes time for the events, not for the steps before."""
    folding = _Folding(before or Conversation())
    for event in events:
        if event.task == task:
            folding.add(event)
        elif isinstance(event.body, b.RunForked):
            folding.fork()
    return folding.conversation()


def tool_message(finished: b.ToolFinished) -> ChatMessage:
    """A tool's result as the conversation carries it."""
    return ChatMessage(role="tool", text=finished.result.text, call_id=finished.call_id, name=finished.tool)


class _Folding:
    """A conversation while events are folded into it: a list of steps that is changed in place, not copied for each."""

    def __init__(self, before: Conversation) -> None:
        self._turns = list(before.turns)
        self._at = {turn.proposed.step: index for index, turn in enumerate(self._turns)}
        self._usage = dict(before.usage)
        self._reserved = dict(before.reserved)
        self._progress = dict(before.progress)
        self._compacted = before.compacted
        self._begun = before.begun

    def fork(self) -> None:
        """What was said stays; attempts are counted anew, and what the parent's took is the parent's."""
        self._usage.clear()
        self._reserved.clear()
        self._progress.clear()

    def add(self, event: Event) -> None:
        body, attempt = event.body, event.attempt or 0
        if event.is_deciding:
            if isinstance(body, b.TaskStarted) and body.is_fresh:
                self._begun = len(self._turns)
            return
        self._progress[attempt] = self._progress.get(attempt, 0) + 1
        match body:
            case b.StepProposed():
                self._at[body.step] = len(self._turns)
                self._turns.append(Turn(proposed=body))
                self._charge(attempt, body.usage)
            case b.ToolIntended() if (turn := self._turn(body.step)) is not None:
                self._replace(msgspec.structs.replace(turn, intended={**turn.intended, body.call: body}))
            case b.ToolFinished():
                self._charge(attempt, Usage(tool_calls=1))
                if (turn := self._turn(body.step)) is not None:
                    self._replace(msgspec.structs.replace(turn, finished={**turn.finished, body.call: body}))
            case b.LimitReserved():
                # The reservation is made as the attempt starts and is no progress of its own.
                self._reserved[attempt] = body
                self._progress[attempt] -= 1
            case b.ContextCompacted():
                self._compacted = body

    def conversation(self) -> Conversation:
        return Conversation(
            turns=tuple(self._turns),
            usage=self._usage,
            reserved=self._reserved,
            progress=self._progress,
            compacted=self._compacted,
            begun=self._begun,
        )

    def _turn(self, step: int) -> Turn | None:
        index = self._at.get(step)
        return None if index is None else self._turns[index]

    def _replace(self, turn: Turn) -> None:
        self._turns[self._at[turn.proposed.step]] = turn

    def _charge(self, attempt: int, usage: Usage) -> None:
        self._usage[attempt] = self._usage.get(attempt, Usage()) + usage
