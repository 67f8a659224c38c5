"""Questions that an attempt leaves to people: they are appended together with the park that waits for the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from collegium.agents.halts import ApprovalNeeded, TooEarly, UnknownOutcome
from collegium.agents.overseer import Escalated
from collegium.domain import body as b
from collegium.domain.asking import approval_id
from collegium.domain.conversation import Conversation
from collegium.domain.run import RunState
from collegium.domain.usage import Usage
from collegium.tools.ledger import Ledger

Stop = ApprovalNeeded | UnknownOutcome | TooEarly | Escalated
"""What stops an attempt without failing it: the task goes on when somebody has answered, or later."""


def asked(state: RunState, stop: Stop, *, usage: Usage, now: datetime, caller: str = "") -> tuple[b.Body, ...]:
    """What an attempt that was stopped leaves behind, given the state it is appended to.

    Args:
        state: Ids of questions are counted in it.
        stop: What stopped the attempt.
        usage: What the attempt took.
        now: When the call was made, where this attempt made it.
        caller: What is known of the worker whose call it was, as a sentence.
    """
    parked = b.TaskParked(reason="approval", error=stop.code, detail=stop.message, usage=usage)
    if isinstance(stop, TooEarly):
        return (msgspec.structs.replace(parked, reason="delay", wake_at=stop.at),)
    if isinstance(stop, UnknownOutcome):
        unknown = b.ToolOutcomeUnknown(key=stop.intended.key, tool=stop.intended.tool, detail=stop.message)
        requests = _numbered(state, [_outcome(stop, now, caller)])
        return (unknown, *requests, msgspec.structs.replace(parked, reason="outcome_unknown"))
    judged = (b.TaskJudged(judgement=stop.judgement),) if isinstance(stop, Escalated) else ()
    return (*judged, *_numbered(state, stop.requests), parked)


def verdicts(state: RunState, task: str) -> Mapping[str, b.ApprovalAnswered]:
    """What people said of answers of ``task``, by the hash of what they were asked about."""
    return {
        a.request.arguments_sha256: a.answer
        for a in state.approvals.values()
        if a.request.kind == "verdict" and a.task == task and a.answer is not None and a.request.arguments_sha256
    }


def ask_about(unknown: b.ToolOutcomeUnknown, approval: str) -> b.ApprovalRequested:
    """The question about a call of which no more is known than that its outcome is unknown."""
    return b.ApprovalRequested(
        approval=approval,
        kind="outcome",
        question=f"Has {unknown.tool} taken place? {unknown.detail}",
        tool=unknown.tool,
        key=unknown.key,
    )


def ended_writes(ledger: Ledger, tasks: Iterable[str]) -> tuple[tuple[str, b.ToolOutcomeUnknown], ...]:
    """Open writes of ``tasks`` that were ended half way and may have happened, as ``(task, body)``.

    Where nobody will look into them any more, nobody may learn of them only from the far side.
    """
    return tuple(
        (task, _ended(e.key, e.tool, e.step)) for task in tasks for e in ledger.open(task) if e.effect == "write"
    )


def open_writes(talk: Conversation) -> tuple[b.ToolOutcomeUnknown, ...]:
    """The same from the conversation of one task, where there is no ledger at hand."""
    return tuple(
        _ended(i.key, i.tool, i.step)
        for turn in talk.turns
        for call, i in turn.intended.items()
        if call not in turn.finished and i.effect == "write"
    )


def _ended(key: str, tool: str, step: int) -> b.ToolOutcomeUnknown:
    return b.ToolOutcomeUnknown(key=key, tool=tool, detail=f"its call in step {step} was ended from outside")


def _outcome(stop: UnknownOutcome, now: datetime, caller: str) -> b.ApprovalRequested:
    intended, entry = stop.intended, stop.entry
    at = (entry.at if entry is not None and entry.at is not None else now).isoformat(timespec="seconds")
    question = f"Has {intended.tool} taken place? It was called at {at}. {stop.message}. {caller}".strip()
    return b.ApprovalRequested(
        approval="",
        kind="outcome",
        question=question,
        tool=intended.tool,
        tool_version=intended.tool_version,
        arguments_sha256=intended.arguments_sha256,
        key=intended.key,
        arguments=intended.arguments,
    )


def _numbered(state: RunState, requests: Sequence[b.ApprovalRequested]) -> list[b.ApprovalRequested]:
    """The requests with the run's next ids."""
    return [msgspec.structs.replace(r, approval=approval_id(state, n)) for n, r in enumerate(requests, start=1)]
