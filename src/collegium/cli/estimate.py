"""What a plan will cost, roughly: calls and tokens by the kind of agent, times the price of the model.

The figures are typical ones of a run over documents with the built-in prompts; real runs differ by a factor of
two either way. A limit (``--limit-usd``) is a promise, this is not. ``docs/reference/cli.md`` has the table.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from collegium.agents.roster import Roster
from collegium.domain.chat import ModelProfile
from collegium.domain.plan import Task
from collegium.domain.run import RunState


class Calls(NamedTuple):
    """What one task of a kind usually takes."""

    calls: int
    input_tokens: int
    output_tokens: int


NOTHING = Calls(0, 0, 0)
USUAL = {
    "researcher": Calls(2, 9_000, 700),
    "operator": Calls(4, 12_000, 1_200),
    "writer": Calls(2, 9_000, 900),
    "planner": Calls(1, 1_500, 500),
}
"""Two calls of a writer: the answer, and once more where sentences had no support."""


class TaskEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """The estimate of one task."""

    id: str
    model_calls: int
    input_tokens: int
    output_tokens: int


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """The estimate of a plan; ``cost_usd`` is None where the model's price is not known."""

    model: str
    tasks: tuple[TaskEstimate, ...]
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal | None


def estimate(state: RunState, roster: Roster, profile: ModelProfile) -> Estimate:
    """What the plan of ``state`` will take with the model of ``profile``."""
    tasks = tuple(_task(task, roster, profile) for task in (state.plan.tasks if state.plan else ()))
    input_tokens, output_tokens = sum(t.input_tokens for t in tasks), sum(t.output_tokens for t in tasks)
    cost = None
    if profile.price is not None:
        cost = profile.price.cost_usd(input_tokens=input_tokens, output_tokens=output_tokens)
    return Estimate(
        model=profile.name, tasks=tasks, input_tokens=input_tokens, output_tokens=output_tokens, cost_usd=cost
    )


def usual(kind: str, profile: ModelProfile) -> Calls:
    """What a task of an agent of ``kind`` usually takes with a model that can do what ``profile`` says."""
    if kind == "researcher" and (profile.tool_mode != "native" or not profile.can_plan):
        return NOTHING  # it searches without asking the model
    if kind == "writer" and not profile.can_write:
        return NOTHING  # the answer is taken from the sources word by word
    return USUAL.get(kind, NOTHING)


def _task(task: Task, roster: Roster, profile: ModelProfile) -> TaskEstimate:
    able = roster.able(task.capability)
    calls = usual(able[0].kind, profile) if able else NOTHING
    return TaskEstimate(
        id=task.id, model_calls=calls.calls, input_tokens=calls.input_tokens, output_tokens=calls.output_tokens
    )
