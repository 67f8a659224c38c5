"""Health: how the attempts of each agent went in this process, over the last minutes."""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import Final, NamedTuple

import msgspec

from collegium.domain.agent import Agent
from collegium.domain.errors import (
    CollegiumError,
    ContextTooLong,
    InternalFault,
    MissingExtra,
    MissingKey,
    ModelError,
    ModelRateLimited,
    TimedOut,
    UnknownName,
)
from collegium.ports import Clock

WINDOW_S: Final = 600.0
KEPT: Final = 200
LAST: Final = 20
"""An agent is judged by so many of its last attempts."""
MIN_FAILURES: Final = 5
MAX_SHARE: Final = 0.5
FRESH_S: Final = 1.0
MAX_TEXT: Final = 200
MIN_RUNS: Final = 2
"""Failures of one run alone say more of the run than of the agent."""


class _Ended(NamedTuple):
    at_s: float
    seconds: float
    run: str
    is_failure: bool
    why: str


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent's attempts ended, over the window.

    ``seconds`` is the median and ``p95_s`` the 95th percentile of those that went well; 0 without any.
    """

    attempts: int = 0
    failures: int = 0
    seconds: float = 0.0
    p95_s: float = 0.0


class Health:
    """Windows of outcomes, by agent; nothing is read from any store."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ended: dict[str, deque[_Ended]] = {}
        self._figures: dict[str, tuple[float, Outcomes]] = {}

    def ended(self, agent: str, *, run: str, seconds: float, why: str | None = None) -> None:
        """An attempt ended after ``seconds``: well, or, with ``why``, by the agent's own fault."""
        line = self._ended.setdefault(agent, deque(maxlen=KEPT))
        line.append(_Ended(self._clock.monotonic(), seconds, run, why is not None, why or ""))

    def outcomes(self, agent: str) -> Outcomes:
        """The figures of the window, at most a second old."""
        if agent not in self._ended:
            return _NONE
        now_s = self._clock.monotonic()
        told_s, told = self._figures.get(agent, (float("-inf"), _NONE))
        if now_s - told_s > FRESH_S:
            told = self._outcomes(agent)
            self._figures[agent] = now_s, told
        return told

    def complaint(self, agent: str) -> str | None:
        """What is wrong with an agent that fails too often, in words; None for one that does not."""
        last = self._seen(agent)[-LAST:]
        failed = [e for e in last if e.is_failure]
        if len(failed) < MIN_FAILURES or len(failed) <= MAX_SHARE * len(last):
            return None
        if len({e.run for e in failed}) < MIN_RUNS:
            return None
        return f"{len(failed)} of its last {len(last)} attempts failed, the last one: {failed[-1].why}"

    def forget(self, agent: str) -> None:
        """Begins anew: what was is no longer held against it."""
        self._ended.pop(agent, None)
        self._figures.pop(agent, None)

    def _outcomes(self, agent: str) -> Outcomes:
        seen = self._seen(agent)
        took = sorted(e.seconds for e in seen if not e.is_failure)
        return Outcomes(
            attempts=len(seen),
            failures=sum(e.is_failure for e in seen),
            seconds=took[(len(took) - 1) // 2] if took else 0.0,
            p95_s=took[ceil(0.95 * len(took)) - 1] if took else 0.0,
        )

    def _seen(self, agent: str) -> list[_Ended]:
        line = self._ended.get(agent)
        if line is None:
            return []
        oldest_s = self._clock.monotonic() - WINDOW_S
        while line and line[0].at_s < oldest_s:
            line.popleft()
        return list(line)


def own_fault(error: CollegiumError, agent: Agent) -> str | None:
    """What an attempt's end says against its agent; None where it says nothing of it.

    A model that the run brought along is the run's, and so is the time that a plan allows: whoever names a bad one must
    not take an agent from everybody. Nor do limits, cancels, stops, questions to people, stores that are away and rates
    of providers count.
    """
    if isinstance(error, InternalFault) or (isinstance(error, TimedOut) and agent.timeout_s is not None):
        return _short(error)
    is_its_model = isinstance(error, ModelError | MissingKey | MissingExtra | UnknownName)
    if agent.model is None or not is_its_model or isinstance(error, ModelRateLimited | ContextTooLong):
        return None
    return _short(error)


def _short(error: CollegiumError) -> str:
    text = " ".join(f"{error.code}: {error.message}".split())
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


_NONE: Final = Outcomes()
