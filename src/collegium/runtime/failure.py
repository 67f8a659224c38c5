"""What follows a failed attempt: the same again later, another agent or model at once, or nothing.

After that the run plans around the task (``domain/replan.py``), or ends with what there is and says what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from collegium.agents.overseer import Rejected
from collegium.domain.agent import Agent
from collegium.domain.errors import CollegiumError, LimitReached, ModelRateLimited, UsageError, is_retryable
from collegium.domain.task import TaskState

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 60.0
MAX_SAME = 2
"""So often the same agent tries before another one does, where there is another."""


def next_try(error: CollegiumError, task: TaskState, *, able: Sequence[Agent], has_other_model: bool) -> float | None:
    """Seconds until the task is tried again after ``error``, or None when it has failed for good.

    Args:
        error: What stopped the attempt.
        task: The task as it was while the attempt was open.
        able: All agents that have its capability.
        has_other_model: Whether a model is named for what the usual one fails at, and was not asked yet.
    """
    if task.failures + 1 >= task.task.max_attempts or isinstance(error, LimitReached | UsageError | Rejected):
        return None
    if error.retryable:
        delay_s: float = min(FIRST_BACKOFF_S * 2**task.failures, MAX_BACKOFF_S)
        wanted_s = error.retry_after_s if isinstance(error, ModelRateLimited) else None
        return max(delay_s, min(wanted_s or 0.0, MAX_BACKOFF_S))
    tried = {*task.tried, task.agent}
    has_other_agent = any(a.name not in tried for a in able)
    return 0.0 if has_other_agent or (has_other_model and is_models_fault(error.code)) else None


def avoided(task: TaskState) -> frozenset[str]:
    """Agents that are not given the task again while there are others: they failed for good, or too often."""
    often = {name for name in task.tried if task.tried.count(name) >= MAX_SAME}
    last = {task.tried[-1]} if task.tried and task.error and not is_retryable(task.error) else set()
    return frozenset(often | last)


def wants_other_model(task: TaskState) -> bool:
    """Whether the task's last failure was its model's, for good or for the second time."""
    if task.failures == 0 or task.error is None or not is_models_fault(task.error):
        return False
    return not is_retryable(task.error) or task.failures >= MAX_SAME


def is_models_fault(code: str) -> bool:
    """Whether an error with this code is one of a model call."""
    return code.startswith("model") or code in ("context_too_long", "answer_refused")
