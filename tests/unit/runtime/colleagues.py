"""A team whose agents ask and tell each other things, as their tasks' instructions say."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence

from collegium.app import Collegium
from collegium.domain import body as b
from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest, ToolCall
from collegium.domain.event import Event
from collegium.domain.plan import Plan, Task
from collegium.domain.report import RunReport
from collegium.domain.usage import Usage
from collegium.testing.scripted import SCRIPTED_PROFILE

TEAM = ("ask", "share", "inbox")
Reply = str | tuple[ToolCall, ...] | Exception
Parts = Mapping[str, Sequence[Reply]]


class Roles:
    """A model that knows its part by what its task is: ``parts`` gives, for each instructions, a reply for each step.

    A step that is repeated gets the same reply again, so that what is asked after a crash is as before.
    """

    def __init__(self, parts: Parts, *, tokens: int = 10) -> None:
        self._parts = parts
        self._tokens = tokens
        self.asked: Counter[tuple[str, int]] = Counter()
        self.shown: dict[tuple[str, int], ModelRequest] = {}
        self._begun: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.held: dict[str, asyncio.Event] = {}
        """Instructions whose task waits at its first step until the event is set."""

    @property
    def profile(self) -> ModelProfile:
        return SCRIPTED_PROFILE

    async def complete(self, request: ModelRequest) -> ModelReply:
        opening = next(m.text for m in request.messages if m.role == "user")
        part = next(p for p in self._parts if opening.startswith(p))
        step = sum(m.role == "assistant" for m in request.messages)
        self.asked[part, step] += 1
        self.shown[part, step] = request
        self._begun[part].set()
        if part in self.held and not step:
            await self.held[part].wait()
        usage = Usage(input_tokens=self._tokens, output_tokens=1, model_calls=1)
        reply = self._parts[part][step]
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, str):
            return ModelReply(text=reply, usage=usage, model="roles")
        return ModelReply(tool_calls=reply, finish="tool_calls", usage=usage, model="roles")

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        yield await self.complete(request)

    async def aclose(self) -> None:
        """Nothing to close."""

    async def begun(self, part: str) -> None:
        """Returns when the model was asked for the first step of ``part``."""
        async with asyncio.timeout(10):
            await self._begun[part].wait()

    def told(self, part: str, step: int) -> list[str]:
        """The results that the model was shown of the step before ``step``."""
        messages = self.shown[part, step].messages
        last = max(i for i, m in enumerate(messages) if m.role == "assistant")
        return [m.text for m in messages[last + 1 :] if m.role == "tool"]


def ask(question: str, capability: str = "operate") -> ToolCall:
    """A question to a colleague."""
    return ToolCall(id=f"c_{question}", name="ask", arguments={"capability": capability, "question": question})


def share(finding: str, to: str | None = None) -> ToolCall:
    """Something for colleagues."""
    arguments = {"finding": finding} | ({} if to is None else {"to": to})
    return ToolCall(id=f"c_{finding}", name="share", arguments=arguments)


def inbox(name: str = "inbox") -> ToolCall:
    """A look at what colleagues have shared."""
    return ToolCall(id=f"c_{name}", name="inbox", arguments={})


def task(name: str, *needs: str, **options: object) -> Task:
    """A task whose instructions are ``Do <name>.``."""
    fields = {"capability": "operate", **options}
    return Task(id=name, title=name, instructions=f"Do {name}.", depends_on=needs, **fields)  # type: ignore[arg-type]


def plan(*tasks: Task) -> Plan:
    """A plan of ``tasks``."""
    return Plan(tasks=tasks)


async def done(app: Collegium, run: str) -> RunReport:
    """The report of a run that has ended, or waits for a person."""
    return await asyncio.wait_for(app.result(run), 20)


async def events_of(app: Collegium, run: str) -> list[Event]:
    """All events of a run."""
    return [e async for e in app.events(run)]


def named(events: Sequence[Event], type_: str) -> list[Event]:
    """The events of one type."""
    return [e for e in events if e.type == type_]


def results(events: Sequence[Event], tool: str) -> list[b.ToolFinished]:
    """What the calls of ``tool`` gave, in order."""
    return [e.body for e in events if isinstance(e.body, b.ToolFinished) and e.body.tool == tool]
