"""What a recorded run has asked colleagues, as a replay looks it up: when, and what was refused."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterable

from collegium.domain import body as b
from collegium.domain.event import Event
from collegium.domain.run import RunState
from collegium.oversight.asking import AskPolicy
from collegium.tools.builtin.team import ASK

_ENDLESS = 2**62
Place = tuple[str | None, int, int]
"""Task, step, call."""


class RecordedAsks:
    """The questions of a run.

    Attributes:
        refused: Why questions were refused, as the agents were told.
    """

    def __init__(self, events: Iterable[Event], *, shared: Iterable[Event] = ()) -> None:
        """``events`` are the run's own, ``shared`` those of its parents in a fork."""
        asked: set[Place] = {_place(e) for e in shared if isinstance(e.body, b.TaskAsked)}
        denied: set[Place] = set()
        ended: dict[Place, Event] = {}
        parked: list[Event] = []
        for event in events:
            match event.body:
                case b.TaskAsked():
                    asked.add(_place(event))
                case b.StepJudged(decision="deny"):
                    denied.add(_place(event))  # a person did: that is looked up elsewhere
                case b.ToolFinished(tool=tool, effect="read") if tool == ASK:
                    ended[_place(event)] = event
                case b.TaskParked(reason="ask"):
                    parked.append(event)
        refusals = {place: e for place, e in ended.items() if place not in asked | denied}
        self.refused = {p: e.body.result.text for p, e in refusals.items() if isinstance(e.body, b.ToolFinished)}
        self._points: dict[str | None, deque[int]] = defaultdict(deque)
        for event in sorted((*parked, *refusals.values()), key=lambda e: e.seq):
            self._points[event.task].append(event.seq)

    def next_seq(self, task: str) -> int:
        """Where the recording has the next question of ``task``, or its refusal; far away when it has none."""
        points = self._points[task]
        return points[0] if points else _ENDLESS

    def take(self, task: str) -> None:
        """The next question of ``task`` is asked now."""
        if self._points[task]:
            self._points[task].popleft()


def _place(event: Event) -> Place:
    body = event.body
    assert isinstance(body, b.TaskAsked | b.StepJudged | b.ToolFinished)  # noqa: S101 - who calls has looked
    return event.task, body.step, body.call


class RecordedAskPolicy(AskPolicy, frozen=True, kw_only=True):
    """Refuses what was refused in the recorded run, with the same words, and nothing else."""

    refused: dict[Place, str]

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
        """What the agent was told then."""
        return self.refused.get((task, step, call))
