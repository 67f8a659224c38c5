"""The world outside the team: the far side of its tools, and what really happened there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from collegium.domain.errors import ToolError
from collegium.domain.tool import ToolResult
from collegium.domain.usage import Usage
from collegium.tools.canonical import first_key
from collegium.tools.context import ToolContext
from collegium.tools.definition import Tool, tool
from collegium.tools.outcome import Reconciled
from tests.simulation.loop import OWNER
from tests.simulation.machine import Machine

TIMEOUT_S: Final = 6.0
LOST: Final = "lost"
"""An item that ends so: the answer never comes."""
DIES_BEFORE: Final = "before"
DIES_AFTER: Final = "after"
"""An item that ends so: the process that writes it for the first time dies before, or after, it has happened."""


class Call(NamedTuple):
    """A call of a tool that began: by whom, for what."""

    machine: Machine
    tool: str
    run: str
    task: str
    item: str


class Ask(NamedTuple):
    """A call of the model that was sent: by whom, for which step of which task, and what it takes."""

    machine: Machine
    mark: str
    step: int
    usage: Usage


class Outside:
    """Counts what really happened, as nobody inside can.

    Attributes:
        effects: ``(tool, key)`` -> how often it took effect.
        items: ``(tool, key)`` -> the item it was done for.
        voided: Keys that the far side refuses from now on.
        on_call: Told of every call that begins.
        on_ask: Told of every model call that is sent.
        on_effect: Told of ``(tool, key)`` after each effect.
    """

    def __init__(self) -> None:
        self.effects: Counter[tuple[str, str]] = Counter()
        self.items: dict[tuple[str, str], str] = {}
        self.voided: set[str] = set()
        self.failed: Counter[str] = Counter()
        self.called: Counter[str] = Counter()
        self.on_call: Callable[[Call], None] = lambda _: None
        self.on_ask: Callable[[Ask], None] = lambda _: None
        self.on_effect: Callable[[str, str], None] = lambda _, __: None

    def apply(self, name: str, key: str, item: str) -> bool:
        """Lets the effect happen; False when the far side refuses the key."""
        if key in self.voided:
            return False
        if name == "put" and self.effects[name, key]:
            return True  # it knows the key: done already
        self.effects[name, key] += 1
        self.items[name, key] = item
        self.on_effect(name, key)
        return True

    def times(self, name: str, key: str) -> int:
        """How often the call of ``key`` took effect, under all the keys that it was made anew with."""
        call = first_key(key)
        return sum(n for (tool, other), n in self.effects.items() if tool == name and first_key(other) == call)

    def has_done(self, name: str, key: str) -> bool:
        """What the far side says when it is asked after a key."""
        return self.effects[name, key] > 0

    def is_first(self, item: str) -> bool:
        """Whether ``item`` is called for the first time."""
        self.called[item] += 1
        return self.called[item] == 1

    def fails(self, mark: str, times: int) -> bool:
        """Whether the model has yet to fail for ``mark``, which it does ``times`` times."""
        self.failed[mark] += 1
        return self.failed[mark] <= times


class HostOutside:
    """The far side as one process reaches it."""

    def __init__(self, outside: Outside, machine: Machine) -> None:
        self.outside = outside
        self.machine = machine

    async def look(self, name: str, context: ToolContext, item: str) -> str:
        """A call that changes nothing."""
        await self.machine.reach("tool.run:before")
        self.outside.on_call(Call(self.machine, name, context.run, context.task, item))
        await self.machine.reach("tool.run:after")
        return f"{name} {item}: ok"

    async def write(self, name: str, context: ToolContext, item: str) -> str:
        """A call that changes the world: once sent it happens, whatever becomes of the sender."""
        machine, faults, loop = self.machine, self.machine.faults, self.machine.loop
        await machine.reach("tool.run:before")
        is_first = self.outside.is_first(item)
        if item.endswith(DIES_BEFORE) and is_first:
            machine.kill()
            machine.check()
        self.outside.on_call(Call(machine, name, context.run, context.task, item))
        arrival_s = 2 * TIMEOUT_S * machine.rng.random() ** 2 if faults.strikes("tool") else 0.0
        answer = await asyncio.shield(loop.start(None, self._arrive(name, context.key or "", item, arrival_s)))
        if item.endswith(DIES_AFTER) and is_first:
            machine.kill()
        machine.check()
        if item.endswith(LOST) or faults.strikes("lost"):
            raise ConnectionResetError("the answer was lost")
        await machine.reach("tool.run:after")
        if not answer:
            raise ToolError(f"{name} refuses {item}: its key was voided")
        return f"{name} {item}: done"

    async def reconcile(self, name: str, key: str, item: str = "") -> Reconciled:
        """What became of a key: done, or voided from now on."""
        await self.machine.reach("tool.reconcile:before")
        if self.outside.has_done(name, key):
            answer = Reconciled(state="done", result=ToolResult(text=f"{name} {self.outside.items[name, key]}: done"))
        elif self.machine.faults.strikes("lost"):
            answer = Reconciled(state="unknown", detail="not seen yet")
        else:
            self.outside.voided.add(key)
            answer = Reconciled(state="voided")
        await self.machine.reach("tool.reconcile:after")
        return answer

    async def _arrive(self, name: str, key: str, item: str, after_s: float) -> bool:
        if after_s:
            await asyncio.sleep(after_s)
        return self.outside.apply(name, key, item)


class Process(Machine):
    """A machine that can reach the world outside. ``worker`` is the id of the worker that runs on it."""

    outside: HostOutside
    worker: str = ""


def here() -> HostOutside:
    """The far side as the process reaches it that runs this code."""
    owner = OWNER.get()
    if not isinstance(owner, Process):
        raise TypeError("the tools of a simulation are called by its processes only")
    return owner.outside


async def _ask(key: str, context: ToolContext) -> Reconciled:
    return await here().reconcile("pay", key)


@tool(effect="pure", capabilities=["operate"], timeout_s=TIMEOUT_S)
async def note(item: str, context: ToolContext) -> str:
    """Think of an item.

    Args:
        item: Which.
        context: The call's.
    """
    return await here().look("note", context, item)


@tool(effect="read", capabilities=["operate"], timeout_s=TIMEOUT_S)
async def look(item: str, context: ToolContext) -> str:
    """Look at an item.

    Args:
        item: Which.
        context: The call's.
    """
    return await here().look("look", context, item)


@tool(effect="idempotent_write", capabilities=["operate"], timeout_s=TIMEOUT_S)
async def put(item: str, context: ToolContext) -> str:
    """Put an item; the far side knows its key.

    Args:
        item: Which.
        context: The call's.
    """
    return await here().write("put", context, item)


@tool(effect="write", capabilities=["operate"], timeout_s=TIMEOUT_S, reconcile=_ask)
async def pay(item: str, context: ToolContext) -> str:
    """Pay for an item; the far side can be asked.

    Args:
        item: Which.
        context: The call's.
    """
    return await here().write("pay", context, item)


@tool(effect="write", capabilities=["operate"], timeout_s=TIMEOUT_S)
async def mail(item: str, context: ToolContext) -> str:
    """Send an item; nobody can be asked afterwards.

    Args:
        item: Which.
        context: The call's.
    """
    return await here().write("mail", context, item)


TOOLS: Final[tuple[Tool, ...]] = (note, look, put, pay, mail)
