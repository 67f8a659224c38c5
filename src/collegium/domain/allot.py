"""Limits, drawn downwards: each new attempt gets its part of what is left of the run's limits, by a decision."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collegium.domain import body as b
from collegium.domain.decision import Decision
from collegium.domain.run import RunState
from collegium.domain.usage import CAPS, Allotment, Limits, Usage


def caps(limits: Limits) -> Allotment:
    """The caps among ``limits`` that calls draw on."""
    return Allotment(**{k: getattr(limits, k) for k in CAPS})


def allot(state: RunState, decisions: Sequence[Decision]) -> tuple[Decision, ...]:
    """The decisions, each new attempt among them with its allotment.

    What open attempts hold is taken, the rest is shared evenly by all unsettled tasks; unused parts come back when an
    attempt closes, so that a late task may have more than an early one, and the sum never exceeds the limit.
    """
    whole, draw = caps(state.goal.limits), state.draw
    if not whole.is_capped and draw is None:
        return tuple(decisions)
    held = Allotment()
    for task in state.tasks.values():
        if task.is_open:
            held = held.plus(task.allotment)
    left = whole.left(whole.of(state.usage).plus(held))
    if draw is not None:
        drawn = draw.allotted.allotment
        left = left.least(drawn.left(drawn.of(state.usage - draw.before).plus(held)))
    waiting = sum(1 for t in state.tasks.values() if not t.is_settled and not t.is_open) or 1
    part = left.share(waiting)
    return tuple(
        msgspec.structs.replace(d, body=msgspec.structs.replace(d.body, allotment=part))
        if isinstance(d.body, b.TaskReady)
        else d
        for d in decisions
    )


def given_back(state: RunState) -> tuple[Decision, ...]:
    """The decision that ends the run's hold on its accounts, if it has one: what it took stays, the rest goes back."""
    draw = state.draw
    if draw is None:
        return ()
    usage: Usage = state.usage - draw.before
    return (Decision(body=b.RunReturned(draw=draw.allotted.draw, usage=usage)),)
