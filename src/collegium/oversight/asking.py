"""Which questions agents may put to colleagues: each is a task more, so there is an end to them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

import msgspec

from collegium.domain.plan import PLAN_TASK
from collegium.domain.run import RunState
from collegium.domain.task import TaskState

NOT_ASKED: Final = frozenset({"plan", "oversee"})
"""Capabilities that give no answer to a question."""


class AskPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What is refused. It is judged anew at every call, never kept with a run.

    Attributes:
        depth: So many questions may wait for each other: who answers may ask, who answers that may ask, and so on.
    """

    depth: int = 3

    def refusal(
        self,
        state: RunState,
        task: str,
        *,
        step: int,
        call: int,
        capability: str,
        question: str,
        there: Collection[str],
        already: int = 0,
    ) -> str | None:
        """Why ``task`` may not ask this, as the agent is told; None when it may.

        Args:
            state: The run.
            task: Who asks.
            step: The step whose call asks.
            call: That call.
            capability: What the colleague has to be able to do.
            question: What is asked.
            there: The capabilities that agents have.
            already: How many other questions of the step are asked together with this one.
        """
        offered = sorted(set(there) - NOT_ASKED)
        if capability not in offered:
            return f"no colleague can {capability!r}: ask for one of {', '.join(offered) or 'none'}"
        if not question.strip():
            return "the question is empty: say what you want to know, with all that is needed to answer it"
        above = tuple(_upwards(state, task))
        if len(above) > self.depth:
            return (
                f"too many questions would wait for each other, {self.depth:,} may (limits.ask_depth): go on without "
                "asking, with what you have"
            )
        if any(t.task.capability == capability and _is_same(t.task.instructions, question) for t in above):
            return (
                "this is the very question that waits for your answer, so that it would wait for itself: work on it "
                "yourself, or ask for a part of it"
            )
        most = state.goal.limits.tasks
        if already + sum(1 for name in state.tasks if name != PLAN_TASK and name not in state.replans) >= most:
            return f"the run has its {most:,} tasks, the most that it may (limits.run.tasks): go on without asking"
        return None


def _upwards(state: RunState, task: str) -> Iterator[TaskState]:
    """The task, the one that asked for it, the one that asked for that, up to a task of the plan."""
    found = state.tasks[task]
    yield found
    while found.asked is not None:
        found = state.tasks[found.asked.by]
        yield found


def _is_same(one: str, other: str) -> bool:
    return one.split() == other.split()
