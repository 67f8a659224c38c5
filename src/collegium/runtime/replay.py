"""Replay: a recorded run is run again, and everything it asks of the world outside is answered from the journal.

No model is asked and no tool is called: there are none here. What people said is said again when the run has come as
far as it had come then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from collegium.domain import body as b
from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest, ToolCall
from collegium.domain.decision import Decision
from collegium.domain.errors import NotFound, ToolError, UnknownName
from collegium.domain.event import Event, encode_body
from collegium.domain.message import Claim, Message
from collegium.domain.run import RunState
from collegium.domain.tool import ToolDefinition, ToolResult
from collegium.oversight.approvals import ApprovalPolicy
from collegium.ports import Bus, Clock, Journal
from collegium.runtime.comparison import Comparison, compare
from collegium.runtime.gate import Gate, Held
from collegium.runtime.recording import Recording, request_sha256
from collegium.runtime.scheduler import Scheduler
from collegium.tools.context import ToolContext
from collegium.tools.definition import Tool
from collegium.tools.outcome import OutcomeUnknown, Reconciled
from collegium.tools.toolbox import AdmittedCall, Toolbox

LOOK_S: Final = 0.01
STALL_S: Final = 20.0
"""A replay that does nothing for so long waits for what will never come."""
_WORK: Final = (b.StepProposed, b.ToolFinished, b.TaskSettled, b.ApprovalRequested, b.RunFinished)
_ASKING: ContextVar[str] = ContextVar("asking")
"""The task on whose behalf this line of execution asks; set by the gate, immediately before the call."""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a replay.

    ``replies`` and ``results`` were handed out from the journal; ``model_calls`` and ``tool_calls`` were made.
    """

    run: str
    status: str
    comparison: Comparison
    is_answer_identical: bool
    replies: int
    results: int
    model_calls: int = 0
    tool_calls: int = 0
    miss: str | None = None

    @property
    def is_same(self) -> bool:
        """Whether the run went as it had gone."""
        return self.miss is None and self.is_answer_identical and not self.comparison.differences


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

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    async def admit(self, held: Held, *, tool: str | None = None) -> None:
        """Returns when the call may be answered."""
        task = held.fence.task
        self._progress.recording.enter(task, held.fence.attempt)
        await self._progress.until(lambda told: self._progress.recording.may_call(task, tool, told))
        _ASKING.set(task)

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

    async def publish(self, message: Message) -> bool:
        """See ``Bus``."""
        return await self._inner.publish(message)

    async def claim(self, topics: Sequence[str], group: str, limit: int = 1) -> tuple[Claim, ...]:
        """See ``Bus``; what may not begin yet comes back a little later."""
        due = []
        for claim in await self._inner.claim(topics, group, limit):
            if self._progress.recording.may_start(str(claim.message.body["task"]), self._progress.told):
                due.append(claim)
            else:
                await self._inner.settle(claim, requeue_after_s=LOOK_S)
        return tuple(due)

    async def settle(self, claim: Claim, *, requeue_after_s: float | None = None) -> None:
        """See ``Bus``."""
        await self._inner.settle(claim, requeue_after_s=requeue_after_s)

    async def read(self, topic: str, after: int = 0, limit: int = 1_000) -> tuple[Message, ...]:
        """See ``Bus``."""
        return await self._inner.read(topic, after, limit)

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

    def __init__(self, recording: Recording, definitions: Iterable[ToolDefinition], binds: Mapping[str, Tool]) -> None:
        """``binds`` are present tools that may check arguments; they are never run."""
        super().__init__(_Known(d, binds.get(d.name)) for d in definitions)
        self._recording = recording

    def extended(self, *tools: Tool) -> ReplayToolbox:
        """A toolbox with ``tools`` beside these, known by their definitions."""
        own = [t.definition for t in self._tools.values()]
        extended = ReplayToolbox(self._recording, own, {})
        extended._tools = {**{t.definition.name: _Known(t.definition, t) for t in tools}, **self._tools}
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
        """What the call gave."""
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
        was = next((r for r in self.requests if _same(r, request)), request)
        return msgspec.structs.replace(
            request, assignee=was.assignee, default=was.default, is_four_eyes=was.is_four_eyes, expires_at=None
        )


def recorded_policy(recording: Recording) -> RecordedPolicy:
    """The policy by which the recorded run has asked people."""
    requests = tuple(recording.requests())
    is_escalating = any(r.kind == "verdict" for r in requests)
    return RecordedPolicy(rules=recording.rules(), requests=requests, is_escalating=is_escalating)


class Driver:
    """Takes a replay to where the recording ends.

    Args:
        cancel: Ends the run as a user does, with reason and principal.
    """

    def __init__(
        self,
        progress: Progress,
        *,
        scheduler: Scheduler,
        journal: Journal,
        clock: ReplayClock,
        cancel: Callable[[b.RunCancelRequested], Any],
    ) -> None:
        self._progress = progress
        self._recording = progress.recording
        self._scheduler = scheduler
        self._journal = journal
        self._clock = clock
        self._cancel = cancel

    async def drive(self) -> Replayed:
        """Runs the recorded run again and compares. Raises ``ReplayMiss`` only inside the run, never from here."""
        first = self._recording.events[0]
        assert isinstance(first.body, b.RunSubmitted | b.RunForked)  # noqa: S101 - how every run begins
        await self._scheduler.submit(first.run, first.tenant, first.body)
        await self._scheduler.advance(first.run)
        for outside in self._recording.outside:
            if not await self._reached(outside.seq):
                break
            await self._deliver(outside.event)
            self._progress.tell()
        await self._reached(self._recording.events[-1].seq + 1)
        return await self._result(first.run)

    async def _deliver(self, event: Event) -> None:
        body = event.body
        if isinstance(body, b.RunCancelRequested):
            await self._cancel(body)
            return
        if isinstance(body, b.ApprovalAnswered):
            state = await self._scheduler.load(event.run, is_fresh=True)
            body = msgspec.structs.replace(body, approval=self._approval(state, body))
        decision = Decision(body=body, task=event.task)
        await self._scheduler.propose(event.run, lambda _: [decision])

    def _approval(self, state: RunState, answered: b.ApprovalAnswered) -> str:
        """The id that the question has here: tasks side by side may have asked in another order."""
        asked = next((r for r in self._recording.requests() if r.approval == answered.approval), None)
        for approval in state.open_approvals:
            if asked is not None and _same(approval.request, asked):
                return approval.id
        raise NotFound(f"the question {answered.approval} was not asked again", approval=answered.approval)

    async def _reached(self, seq: int) -> bool:
        """Whether the replay came to where the recording was just before ``seq``; False when it stands still."""
        wanted = _work(e for e in self._recording.events if e.seq < seq)
        run = self._recording.events[0].run
        before, stood_since = -1, self._clock.monotonic()
        while True:
            events = await self._journal.read(run, 0, 1_000_000)
            have = _work(events)
            if all(have.get(key, 0) >= n for key, n in wanted.items()):
                return True
            if self._recording.miss is not None or isinstance(events[-1].body, b.RunFinished):
                return False
            if len(events) != before:
                before, stood_since = len(events), self._clock.monotonic()
            elif self._clock.monotonic() - stood_since > STALL_S:
                return False
            await self._pass_time(run)
            await self._clock.sleep(LOOK_S)

    async def _pass_time(self, run: str) -> None:
        """Where nothing but time moves the run, time passes."""
        state = await self._scheduler.load(run, is_fresh=True)
        waits = [t.wake_at for t in state.tasks.values() if t.status == "parked" and t.wake_at is not None]
        is_idle = not any(t.is_open for t in state.tasks.values())
        if is_idle and waits:
            self._clock.reach(min(waits))
            await self._scheduler.advance(run)

    async def _result(self, run: str) -> Replayed:
        events = await self._journal.read(run, 0, 1_000_000)
        comparison = compare(self._recording.events, events)
        was, now = _end(self._recording.events), _end(events)
        miss = self._recording.miss
        return Replayed(
            run=run,
            status=(await self._scheduler.load(run, is_fresh=True)).status,
            comparison=comparison,
            is_answer_identical=was == now,
            replies=self._recording.replies,
            results=self._recording.results,
            miss=None if miss is None else miss.message,
        )


def _work(events: Iterable[Event]) -> dict[tuple[str | None, str], int]:
    """How often each task has done what only work brings about; that it was begun counts once, crashes aside."""
    counted: dict[tuple[str | None, str], int] = {}
    for event in events:
        body, key = event.body, (event.task, event.type)
        if isinstance(body, b.TaskStarted):
            counted[key] = 1
        elif isinstance(body, _WORK) or (
            isinstance(body, b.TaskParked) and body.reason in ("retry", "approval", "outcome_unknown")
        ):
            counted[key] = counted.get(key, 0) + 1
    return counted


def _end(events: Sequence[Event]) -> bytes | None:
    return next((encode_body(e.body) for e in reversed(events) if isinstance(e.body, b.RunFinished)), None)


def _same(one: b.ApprovalRequested, other: b.ApprovalRequested) -> bool:
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
