"""What ready tasks of a run wait for, where nobody takes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from collegium.cli.text import count, one_line

if TYPE_CHECKING:
    from collegium.app import Collegium
    from collegium.domain.run import RunState
    from collegium.domain.task import TaskState
    from collegium.domain.worker import WorkerCard

PATIENCE_S = 2.0
"""A task that was ready for less is on its way to a worker."""


async def waiting_for(app: Collegium, state: RunState, now: datetime) -> list[dict[str, Any]]:
    """What tasks of the run wait for: ``task``, ``capability``, ``waits_for``; empty where all goes its way.

    A run whose tasks are worked on by a process that shows no card (``collegium run``) waits for nobody.
    """
    waiting = [t for t in state.tasks.values() if t.status == "ready" and _waited_s(t, now) >= PATIENCE_S]
    if not waiting or not app.fleet.is_seen:
        return []
    cards = await app.fleet.workers()
    known = {card.worker for card in cards}
    if any(t.status == "running" and t.worker not in known for t in state.tasks.values()):
        return []
    found = []
    for task in waiting:
        why = _why(task.task.capability, cards)
        if why:
            found.append({"task": task.task.id, "capability": task.task.capability, "waits_for": why})
    return found


def lines(waiting: Sequence[dict[str, Any]]) -> list[str]:
    """The same for people."""
    return [one_line(f"task {one['task']} waits for {one['waits_for']}") for one in waiting]


def _why(capability: str, cards: Sequence[WorkerCard]) -> str:
    from collegium.runtime.fleet import takers

    ready = [card for card in cards if card.state == "ready"]
    if not ready:
        return f"a worker that takes {capability}: there is none; `collegium serve` or `collegium worker` starts one"
    able = takers(cards, capability)
    if not able:
        taken = sorted({c for card in ready for c in card.capabilities})
        return f"a worker that takes {capability}: the {count(len(ready), 'worker')} here take {', '.join(taken)}"
    agents = [a for card in able for a in card.agents if capability in a.capabilities]
    if agents and all(a.condition in ("draining", "quarantined") for a in agents):
        held = sorted({f"{a.name} is {a.condition}" for a in agents})
        return f"an agent that takes {capability}: {', '.join(held)}; `collegium agents resume NAME` lets one go on"
    if all(card.load >= card.concurrency for card in able):
        return f"room: the {count(len(able), 'worker')} that take {capability} have all they can work on"
    return ""


def _waited_s(task: TaskState, now: datetime) -> float:
    moments = [moment for moment in (task.ready_at, task.wake_at) if moment is not None]
    return (now - max(moments)).total_seconds() if moments else 0.0
