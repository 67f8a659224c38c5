"""Programs: what each task of a simulated run does, written into its instructions, and the model that follows them.

The model's reply depends on the conversation alone. So a call that is repeated after a crash gets the same answer, and
what a run has to give is known beforehand.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Final

import msgspec

from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest, ToolCall, upper_bound_tokens
from collegium.domain.errors import ModelReplyError, ModelUnavailable
from collegium.domain.plan import Plan, Task
from collegium.domain.usage import Usage
from tests.simulation.outside import Ask, here

TOOLS: Final = ("note", "look", "put", "pay", "mail")
TEAM: Final = ("ask", "share", "inbox")
Calls = tuple[tuple[str, str], ...]
"""The calls of one step: ``(tool, item)``. The item of ``ask`` is the program of the colleague, as text."""
_MARK: Final = '{"mark":'


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What a task does: in each step some calls ``(tool, item)``, then it answers.

    ``mark`` names run and task; ``poison`` kills every process that asks the model for it.
    """

    mark: str
    steps: tuple[tuple[tuple[str, str], ...], ...] = ()
    poison: bool = False
    failures: int = 0

    def text(self) -> str:
        """As it stands in the instructions: one line."""
        return msgspec.json.encode(self).decode()


class GoalProgram(msgspec.Struct, frozen=True, kw_only=True):
    """What the planner of a run answers; stands in the goal's text."""

    mark: str
    plan: Plan


def plan_of(programs: Sequence[tuple[Program, tuple[str, ...], str]]) -> Plan:
    """A plan of ``(program, depends on, capability)``; the task's id is the end of the program's mark."""
    return Plan(
        tasks=tuple(
            Task(
                id=program.mark.rpartition("/")[2],
                title=f"Task {program.mark}",
                capability=capability,
                instructions=program.text(),
                depends_on=depends_on,
                save_as="out/answer.md" if capability == "write" else None,
                tools=("write_file",) if capability == "write" else TOOLS,
            )
            for program, depends_on, capability in programs
        )
    )


def random_plan(rng: Random, run: str) -> Plan:
    """A few tasks that wait for each other, most of them with tools."""
    programs: list[tuple[Program, tuple[str, ...], str]] = []
    for number in range(rng.randint(1, 4)):
        before = tuple(f"t{i}" for i in range(number) if rng.random() < 0.5)
        mark = f"{run}/t{number}"
        capability = "write" if number and rng.random() < 0.2 else "operate"
        steps = () if capability == "write" else _random_steps(rng, mark)
        failures = rng.choice((0, 0, 0, 1))
        programs.append((Program(mark=mark, steps=steps, failures=failures), before, capability))
    return plan_of(programs)


def _random_steps(rng: Random, mark: str) -> tuple[tuple[tuple[str, str], ...], ...]:
    names = (*TOOLS, "pay", "mail")
    return tuple(
        tuple((rng.choice(names), f"{mark}/{step}.{call}") for call in range(rng.randint(1, 3)))
        for step in range(rng.choice((0, 1, 2, 2, 3)))
    )


def asked(request: ModelRequest) -> tuple[str, int, Program | GoalProgram]:
    """Mark, step number and program of a request. Raises ``ModelReplyError`` where there is none in it."""
    step = 1 + sum(1 for m in request.messages if m.role == "assistant")
    for message in request.messages:
        at = message.text.find(_MARK)
        if message.role == "user" and at >= 0:
            line = message.text[at:].partition("\n")[0]
            program: Program | GoalProgram
            if request.output_schema is not None:
                program = msgspec.json.decode(line, type=GoalProgram)
            else:
                program = msgspec.json.decode(line, type=Program)
            return program.mark, step, program
    raise ModelReplyError("the conversation has no program")


class SimulatedModel:
    """Implements ``ports.Model``: follows the program it finds in the conversation."""

    profile = ModelProfile(
        name="simulated:one",
        provider="simulated",
        tool_mode="native",
        can_plan=True,
        can_write=True,
        context_tokens=128_000,
        max_output_tokens=256,
    )

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The next step of the program."""
        outside = here()
        machine, faults = outside.machine, outside.machine.faults
        await machine.reach("model.complete:before")
        mark, step, program = asked(request)
        usage = _usage(request, mark)
        outside.outside.on_ask(Ask(machine, mark, step, usage))
        if isinstance(program, Program):
            if program.poison:
                machine.kill()
                machine.check()
            if outside.outside.fails(mark, program.failures):
                raise ModelUnavailable("the simulated model is away for a moment")
        if faults.strikes("model"):
            raise ModelUnavailable("the simulated model is away")
        reply = _reply(request, program, step, usage)
        await machine.reach("model.complete:after")
        return reply

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """The whole reply at once."""
        yield await self.complete(request)

    async def aclose(self) -> None:
        """Nothing to close."""


def _usage(request: ModelRequest, mark: str) -> Usage:
    seed = hashlib.sha256(f"{mark}{len(request.messages)}".encode()).digest()
    spent = upper_bound_tokens(request)
    return Usage(
        input_tokens=spent - seed[0] % 50, output_tokens=1 + seed[1] % request.max_output_tokens, model_calls=1
    )


def _reply(request: ModelRequest, program: Program | GoalProgram, step: int, usage: Usage) -> ModelReply:
    if isinstance(program, GoalProgram):
        tasks = [
            {"id": t.id, "title": t.title, "capability": t.capability, "instructions": t.instructions}
            | {"depends_on": list(t.depends_on)}
            for t in program.plan.tasks
        ]
        return ModelReply(text=msgspec.json.encode({"tasks": tasks}).decode(), usage=usage, model="simulated:one")
    if request.tools and step <= len(program.steps):
        calls = tuple(
            ToolCall(id=f"c{step}_{i}", name=name, arguments=_arguments(name, item))
            for i, (name, item) in enumerate(program.steps[step - 1])
        )
        return ModelReply(tool_calls=calls, finish="tool_calls", usage=usage, model="simulated:one")
    return ModelReply(text=f"Task {program.mark} is done.", usage=usage, model="simulated:one")


def _arguments(name: str, item: str) -> dict[str, str]:
    match name:
        case "ask":
            return {"capability": "operate", "question": item}
        case "share":
            return {"finding": item}
        case "inbox":
            return {}
        case _:
            return {"item": item}
