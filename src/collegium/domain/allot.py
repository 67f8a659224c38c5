"""Limits, drawn downwards: each new attempt gets its part of what is left of the run's limits, by a decision."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from collegium.domain import body as b
from collegium.domain.decision import Decision
from collegium.domain.run import RunState
from collegium.domain.usage import CAPS, Allotment, Limits, Usage

LEAST = Allotment(cost_usd=Decimal("0.0001"), tokens=2_048, input_tokens=1_536, output_tokens=512, tool_calls=1)
"""With less than this of a cap a task can hardly make one call: it waits while others may give something back."""


def caps(limits: Limits) -> Allotment:
    """The caps among ``limits`` that calls draw on."""
    return Allotment(**{k: getattr(limits, k) for k in CAPS})


def allot(state: RunState, decisions: Sequence[Decision]) -> tuple[Decision, ...]:
    """The decisions, each new attempt among them with its allotment; one that has to wait for its part is left out.

    What open attempts hold is taken, the rest is shared evenly by all unsettled tasks; unused parts come back when an
    attempt closes, so that a late task may have more than an early one, and the sum never exceeds the limit. Where an
    even part would be too small to begin with, the first ones get ``LEAST`` and the others wait for what comes back.
    Once nothing can come back, whoever is next goes ahead with what there is.
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
    kept: list[Decision] = []
    place, rest = 0, left
    for decision in decisions:
        if not isinstance(decision.body, b.TaskReady):
            kept.append(decision)
        elif (part := _part(left.share(waiting, place), rest, held)) is not None:
            place, rest, held = place + 1, rest.left(part), held.plus(part)
            kept.append(msgspec.structs.replace(decision, body=msgspec.structs.replace(decision.body, allotment=part)))
    return tuple(kept)


def _part(even: Allotment, rest: Allotment, held: Allotment) -> Allotment | None:
    """What the next attempt gets of ``rest``; None while it gets less than it needs and ``held`` may come back."""
    parts: dict[str, Any] = {}
    for cap in CAPS:
        there = getattr(rest, cap)
        if there is None:
            continue
        wanted = max(getattr(even, cap), getattr(LEAST, cap))
        if there < wanted and (getattr(held, cap) or 0) > 0:
            return None
        parts[cap] = min(there, wanted)
    return Allotment(**parts)


def given_back(state: RunState) -> tuple[Decision, ...]:
    """The decision that ends the run's hold on its accounts, if it has one: what it took stays, the rest goes back."""
    draw = state.draw
    if draw is None:
        return ()
    usage: Usage = state.usage - draw.before
    return (Decision(body=b.RunReturned(draw=draw.allotted.draw, usage=usage)),)
