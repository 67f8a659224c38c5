"""Writes that tasks have begun and nobody will look into any more: a run says so before it ends."""

from __future__ import annotations

from collections.abc import Iterable

from collegium.domain import body as b
from collegium.domain.conversation import Conversation, converse
from collegium.domain.decision import Decision
from collegium.domain.run import RunState
from collegium.ports import Journal
from collegium.runtime.history import past
from collegium.runtime.questions import open_writes


async def left_open(journal: Journal, state: RunState) -> list[Decision]:
    """What is to be told of the idle tasks of a run that is over: no attempt will come that could look into it."""
    idle = [t for t in state.tasks.values() if t.status == "parked" or (t.status == "ready" and t.attempt > 1)]
    decisions: list[Decision] = []
    for task in (t.task.id for t in idle):
        decisions += told(state, task, open_writes(await conversation(journal, state.id, task)))
    return decisions


def told(state: RunState, task: str, writes: Iterable[b.ToolOutcomeUnknown]) -> list[Decision]:
    """``writes``, but for those that the run knows of already."""
    said = {a.request.key for a in state.approvals.values() if a.answer and a.answer.answer in ("done", "not-done")}
    return [Decision(body=w, task=task) for w in writes if w.key not in state.unknown and w.key not in said]


async def conversation(journal: Journal, run: str, task: str) -> Conversation:
    """Everything that ``task`` has done so far."""
    talk = Conversation()
    async for events in past(journal, run):
        talk = converse(events, task, talk)
    return talk
