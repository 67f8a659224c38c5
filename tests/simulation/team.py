"""Programs whose tasks ask and tell each other things, and what must hold of that."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any, Final

import msgspec

from collegium.domain import body as b
from collegium.domain.event import Event
from collegium.domain.plan import Plan, Task
from collegium.domain.run import RunState
from tests.simulation.program import TEAM, TOOLS, Calls, Program

MOST_DEEP: Final = 5
"""Deeper than agents may ask, so that some are refused."""


class Colleagues:
    """What a run's tasks have asked and told each other, counted apart from the code under test."""

    def __init__(self) -> None:
        self._places: Counter[tuple[str, str | None, int, int]] = Counter()
        self._read: set[tuple[str | None, str]] = set()
        self._sent: set[str] = set()

    def broken_by(self, event: Event, state: RunState | None) -> str | None:
        """How ``event`` contradicts what came before; None where it does not. ``state`` is that before it."""
        match event.body:
            case b.TaskAsked(step=step, call=call):
                return self._once("asks", event, step, call)
            case b.MessageSent(step=step, call=call, message=message):
                self._sent.add(message)
                return self._once("sends", event, step, call)
            case b.ToolFinished(tool="inbox", result=result) if result.is_ok:
                return self._reads(event, [str(m["id"]) for m in (result.data or {})["messages"]])
            case b.TaskReady() if state is not None:
                return _goes_on_early(event, state)
            case b.ToolFinished(tool="ask", step=step, call=call, result=result) if state is not None and result.data:
                return _is_made_up(event, state, (step, call), result.data)
        return None

    def _once(self, what: str, event: Event, step: int, call: int) -> str | None:
        self._places[what, event.task, step, call] += 1
        return f"{event.task} {what} {step}.{call} twice" if self._places[what, event.task, step, call] > 1 else None

    def _reads(self, event: Event, messages: list[str]) -> str | None:
        for message in messages:
            if (event.task, message) in self._read or message not in self._sent:
                return f"{event.task} reads {message}, which it has read already or nobody has sent"
            self._read.add((event.task, message))
        return None


def _goes_on_early(event: Event, state: RunState) -> str | None:
    task = state.tasks.get(event.task or "")
    if task is None or task.park != "ask":
        return None
    open_ = [t.task.id for t in state.asked_by(task.task.id) if not t.is_settled]
    return f"{event.task} goes on before {open_}" if open_ else None


def _is_made_up(event: Event, state: RunState, place: tuple[int, int], data: dict[str, Any]) -> str | None:
    made = [t for t in state.asked_by(event.task or "") if t.asked and (t.asked.step, t.asked.call) == place]
    told = (data["task"], data["status"])
    return (
        None if told in [(t.task.id, t.status) for t in made] else f"{event.task} is told {told}, not what came of it"
    )


def with_team(rng: Random, plan: Plan) -> Plan:
    """``plan``, whose tasks with tools now and then ask colleagues, share something and read what others shared."""
    return Plan(tasks=tuple(_talking(rng, t) if t.capability == "operate" else t for t in plan.tasks))


def team_plan(mark: str) -> Plan:
    """Two tasks that do everything there is to do with colleagues."""
    deep = Program(mark=f"{mark}/t0/q0/q0", steps=((("put", f"{mark}/deep"),),))
    one = Program(mark=f"{mark}/t0/q0", steps=((("inbox", ""), ("ask", deep.text())),))
    two = Program(mark=f"{mark}/t0/q1", steps=((("share", f"{mark}/two"),),), failures=1)
    first = ((("share", f"{mark}/one"), ("ask", one.text()), ("ask", two.text())), (("inbox", ""), ("inbox", "")))
    second = ((("inbox", ""), ("pay", f"{mark}/pay")),)
    programs = (Program(mark=f"{mark}/t0", steps=first), Program(mark=f"{mark}/t1", steps=second))
    return Plan(tasks=tuple(_task(p, Task(id=p.mark[-2:], title=p.mark, capability="operate")) for p in programs))


def _talking(rng: Random, task: Task) -> Task:
    program = msgspec.json.decode(task.instructions, type=Program)
    return _task(_spiced(rng, program, MOST_DEEP), task)


def _task(program: Program, task: Task) -> Task:
    return msgspec.structs.replace(task, instructions=program.text(), tools=(*TOOLS, *TEAM))


def _spiced(rng: Random, program: Program, depth: int) -> Program:
    """``program`` with further calls in its steps, or a step more."""
    steps = [list(step) for step in program.steps] or [[]]
    for number, step in enumerate(steps):
        for position in range(rng.choice((0, 1, 1, 2))):
            step.insert(rng.randint(0, len(step)), _call(rng, f"{program.mark}/q{number}.{position}", depth))
    kept: tuple[Calls, ...] = tuple(tuple(step) for step in steps if step)
    return msgspec.structs.replace(program, steps=kept)


def _call(rng: Random, mark: str, depth: int) -> tuple[str, str]:
    name = rng.choice(("ask", "ask", "share", "inbox")) if depth else "share"
    if name != "ask":
        return name, mark if name == "share" else ""
    names = ("look", "put", "pay", "mail")
    steps = ((rng.choice(names), f"{mark}/0"),) if rng.random() < 0.5 else ()
    asked = Program(mark=mark, steps=(steps,) if steps else (), failures=rng.choice((0, 0, 0, 0, 1, 9)))
    deeper = rng.random() < 0.6
    return name, (_spiced(rng, asked, depth - 1) if deeper else asked).text()
