"""What stands in for the world in a replay: models, tools, people, the bus and the clock, as the recording has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from collegium.domain import body as b
from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest, ToolCall
from collegium.domain.errors import ToolError, UnknownName
from collegium.domain.message import Claim, Letter, Message
from collegium.domain.tool import ToolDefinition, ToolResult
from collegium.oversight.approvals import ApprovalPolicy
from collegium.ports import Bus, Clock
from collegium.runtime.gate import Gate, Held
from collegium.runtime.recording import Recording, request_sha256
from collegium.runtime.rivals import Rivals, Write
from collegium.tools.builtin.team import ASK
from collegium.tools.canonical import arguments_sha256
from collegium.tools.context import ToolContext
from collegium.tools.definition import Tool
from collegium.tools.outcome import OutcomeUnknown, Reconciled
from collegium.tools.toolbox import AdmittedCall, Toolbox

LOOK_S: Final = 0.01
_ASKING: ContextVar[str] = ContextVar("asking")
"""The task on whose behalf this line of execution asks; set by the gate, immediately before the call."""


class Progress:
    """How much of what came from outside is there already; calls that knew of more wait."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.told = 0
        self._changed = asyncio.Event()

    def tell(self) -> None:
        """The next thing from outside is there."""
        self.told += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, is_due: Callable[[int], bool]) -> None:
        """Returns when ``is_due(told)``."""
        while not is_due(self.told):
            await self._changed.wait()


class ReplayGate(Gate):
    """Lets a call through when everything is there that was there when it was recorded."""

    def __init__(self, progress: Progress, rivals: Rivals) -> None:
        self._progress = progress
        self._rivals = rivals

    @asynccontextmanager
    async def weighing(self, held: Held, tool: str, arguments: str) -> AsyncIterator[None]:
        """Entered when what stood on the ledger then stands on it."""
        await self._rivals.turn(held.fence.task, Write(tool, arguments))
        yield

    async def admit(self, held: Held, *, tool: str | None = None) -> None:
        """Returns when the call may be answered."""
        task = held.fence.task
        recording = self._progress.recording
        recording.enter(task, held.fence.attempt)
        if tool == ASK:
            await self._progress.until(lambda told: recording.may_ask(task, told))
            recording.asks.take(task)
        else:
            await self._progress.until(lambda told: recording.may_call(task, tool, told))
        _ASKING.set(task)

    def gaps(self) -> int:
        """Nobody stands still."""
        return 0

    async def heard(self, held: Held, said: Callable[[], Awaitable[tuple[str, ...]]]) -> tuple[str, ...]:
        """What the agent had heard by then, once all of it is there; what came later is not heard earlier."""
        task, recording = held.fence.task, self._progress.recording
        recording.enter(task, held.fence.attempt)
        await self._progress.until(lambda told: recording.may_listen(task, told))
        return recording.heard(task, await said())

    def recorded(self, task: str, attempt: int) -> str | None:
        """The agent that it had: nobody's health and load are looked at again."""
        return self._progress.recording.agent(task, attempt)

    async def go_on(self, held: Held) -> None:
        """Returns at once: what was stopped then stands in the recording."""

    async def is_silent(self, worker: str) -> bool:
        """Nobody is asked: the only worker is this one."""
        return False


class ReplayBus:
    """``inner``, from which tasks are claimed only when everything is there that was there when they began."""

    def __init__(self, inner: Bus, progress: Progress) -> None:
        self._inner = inner
        self._progress = progress

    async def publish(self, *messages: Message, delay_s: float = 0.0) -> int:
        """See ``Bus``."""
        return await self._inner.publish(*messages, delay_s=delay_s)

    async def claim(self, topics: Sequence[str], group: str, limit: int = 1) -> tuple[Claim, ...]:
        """See ``Bus``; what may not begin yet comes back a little later."""
        due = []
        for claim in await self._inner.claim(topics, group, limit):
            task, attempt = str(claim.message.body["task"]), int(claim.message.body["attempt"])
            if self._progress.recording.may_start(task, attempt, self._progress.told):
                due.append(claim)
            else:
                await self._inner.settle(claim, requeue_after_s=LOOK_S)
        return tuple(due)

    async def settle(self, claim: Claim, *, requeue_after_s: float | None = None, dead: str | None = None) -> None:
        """See ``Bus``."""
        await self._inner.settle(claim, requeue_after_s=requeue_after_s, dead=dead)

    async def read(
        self, topic: str, after: int = 0, limit: int = 1_000, *, since: datetime | None = None
    ) -> tuple[Message, ...]:
        """See ``Bus``."""
        return await self._inner.read(topic, after, limit, since=since)

    async def letters(self, topic: str, after: int = 0, limit: int = 100) -> tuple[Letter, ...]:
        """See ``Bus``."""
        return await self._inner.letters(topic, after, limit)

    async def revive(self, letter: Letter) -> bool:
        """See ``Bus``."""
        return await self._inner.revive(letter)

    async def topics(self, after: str = "", limit: int = 1_000) -> tuple[str, ...]:
        """See ``Bus``."""
        return await self._inner.topics(after, limit)

    async def depth(self, topics: Sequence[str]) -> int:
        """See ``Bus``."""
        return await self._inner.depth(topics)

    async def wait(self, topics: Sequence[str], timeout_s: float) -> bool:
        """See ``Bus``."""
        return await self._inner.wait(topics, min(timeout_s, LOOK_S * 5))


class ReplayClock:
    """Time that is not waited for: sleeps are short, and what is due later is reached by a jump."""

    def __init__(self, inner: Clock) -> None:
        self._inner = inner
        self._ahead = timedelta()

    def now(self) -> datetime:
        """The time of day, as far as it was brought forward."""
        return self._inner.now() + self._ahead

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment."""
        return self._inner.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Returns soon."""
        await self._inner.sleep(min(seconds, LOOK_S))

    def reach(self, moment: datetime) -> None:
        """Brings time forward to ``moment``."""
        self._ahead += max(timedelta(), moment - self.now())


class ReplayModels:
    """``Models`` that answer from the recording."""

    def __init__(self, recording: Recording, profiles: Mapping[str, ModelProfile]) -> None:
        self._recording = recording
        self._profiles = profiles

    async def open(self, name: str) -> ReplayModel:
        """The model of that name. Raises ``UnknownName`` when it is not known what it could do."""
        if name not in self._profiles:
            raise UnknownName(
                f"it is not recorded what the model {name!r} can do: the run was made before that was kept", name=name
            )
        return ReplayModel(self._recording, self._profiles[name])

    async def aclose(self) -> None:
        """Nothing to close."""


class ReplayModel:
    """A ``Model`` that answers from the recording; needs no key and no network."""

    def __init__(self, recording: Recording, profile: ModelProfile) -> None:
        self._recording = recording
        self._profile = profile

    @property
    def profile(self) -> ModelProfile:
        """What the recorded model could do."""
        return self._profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The recorded reply to the task's next request, or the error it ended with."""
        reply, is_choice = self._recording.reply(_ASKING.get(), request, request_sha256(request))
        return _as_choice(reply) if is_choice and self._profile.tool_mode != "native" else reply

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """The recorded reply in one piece."""
        yield await self.complete(request)

    async def aclose(self) -> None:
        """Nothing to close."""


class ReplayToolbox(Toolbox):
    """Tools that are known by their definitions alone: what a call gives is what it gave."""

    def __init__(
        self,
        recording: Recording,
        rivals: Rivals,
        definitions: Iterable[ToolDefinition],
        binds: Mapping[str, Tool],
    ) -> None:
        """``binds`` are present tools that may check arguments; they are never run."""
        super().__init__(_Known(d, binds.get(d.name)) for d in definitions)
        self._recording = recording
        self._rivals = rivals

    def extended(self, *tools: Tool) -> ReplayToolbox:
        """A toolbox with ``tools`` beside these, known by their definitions."""
        own = [t.definition for t in self._tools.values()]
        extended = ReplayToolbox(self._recording, self._rivals, own, {})
        extended._tools = {**{t.definition.name: _Known(t.definition, t) for t in tools}, **self._tools}
        extended._denied = self._denied
        return extended

    def admit(self, call: ToolCall, *, granted: Collection[str]) -> AdmittedCall:
        """As ever; a call that was refused then is refused with the same words."""
        admitted = super().admit(call, granted=granted)
        if admitted.definition.effect != "pure":
            because = self._recording.refusal(_ASKING.get(""), call.name, call.arguments)
            if because is not None:
                raise ToolError(because, tool=call.name)
        return admitted

    async def run(self, admitted: AdmittedCall, context: ToolContext) -> ToolResult:
        """What the call gave, not before what had happened then."""
        await self._rivals.turn(context.task, Write(admitted.call.name, arguments_sha256(admitted.call.arguments)))
        event = self._recording.result(context.task, admitted.call.name, admitted.call.arguments, context.key)
        if isinstance(event.body, b.ToolOutcomeUnknown):
            raise OutcomeUnknown(_why(event.body), tool=admitted.call.name)
        assert isinstance(event.body, b.ToolFinished)  # noqa: S101 - nothing else is kept of a call
        return event.body.result

    async def reconcile(self, name: str, key: str, context: ToolContext) -> Reconciled:
        """Nobody is asked."""
        return Reconciled(state="unknown", detail="this is a replay")


class _Known:
    """A ``Tool`` that is known and never called."""

    def __init__(self, definition: ToolDefinition, checks: Tool | None) -> None:
        self.definition = definition
        self._checks = checks

    def bind(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments, checked where the tool is at hand."""
        return arguments if self._checks is None else self._checks.bind(arguments)

    async def run(self, bound: dict[str, Any], context: ToolContext) -> ToolResult:
        """Raises ``ToolError``: a replay calls nothing."""
        raise ToolError(f"{self.definition.name} is not called in a replay", tool=self.definition.name)

    async def reconcile(self, key: str, context: ToolContext) -> Reconciled:
        """Nobody is asked."""
        return Reconciled(state="unknown", detail="this is a replay")


class RecordedPolicy(ApprovalPolicy, frozen=True, kw_only=True):
    """Asks where the recorded run has asked. ``rules`` say why, by tool."""

    rules: dict[str, str] = msgspec.field(default_factory=dict)
    requests: tuple[b.ApprovalRequested, ...] = ()

    def rule(self, tool: ToolDefinition) -> str | None:
        """Why calls of ``tool`` were asked about."""
        return self.rules.get(tool.name)

    def addressed(self, request: b.ApprovalRequested, now: datetime) -> b.ApprovalRequested:
        """``request`` with what was said then of who may answer; it waits for the recorded answer."""
        was = next((r for r in self.requests if same_question(r, request)), request)
        return msgspec.structs.replace(
            request, assignee=was.assignee, default=was.default, is_four_eyes=was.is_four_eyes, expires_at=None
        )


def recorded_policy(recording: Recording) -> RecordedPolicy:
    """The policy by which the recorded run has asked people."""
    requests = tuple(recording.requests())
    is_escalating = any(r.kind == "verdict" for r in requests)
    return RecordedPolicy(rules=recording.rules(), requests=requests, is_escalating=is_escalating)


def same_question(one: b.ApprovalRequested, other: b.ApprovalRequested) -> bool:
    """Whether both ask about the same call, plan or answer."""
    return (one.kind, one.key, one.arguments_sha256) == (other.kind, other.key, other.arguments_sha256)


def _why(unknown: b.ToolOutcomeUnknown) -> str:
    """The reason within the sentence that ``UnknownOutcome`` has made of it."""
    text = unknown.detail.removeprefix(f"{unknown.tool} was called and ")
    return text.removesuffix(": it may or may not have happened")


def _as_choice(reply: ModelReply) -> ModelReply:
    """The reply as a model wrote it that has no tool calls of its own; the inverse of ``from_schema``."""
    if not reply.tool_calls:
        return msgspec.structs.replace(reply, text=msgspec.json.encode({"answer": reply.text}).decode())
    call = reply.tool_calls[0]
    text = msgspec.json.encode({"tool": call.name, "arguments": call.arguments}).decode()
    return msgspec.structs.replace(reply, text=text, tool_calls=(), finish="stop")
