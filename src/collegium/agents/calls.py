"""The calls that an agent proposes: looked up on the ledger, intended where they write, made, and recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec

from collegium.agents.colleagues import Asks, Board, Question, message_sent
from collegium.agents.halts import ApprovalNeeded, Asked, TooEarly, UnknownOutcome
from collegium.agents.refusals import done_before, forestalled, refused
from collegium.domain import body as b
from collegium.domain.chat import ToolCall
from collegium.domain.conversation import Turn
from collegium.domain.errors import LimitReached, ToolError
from collegium.domain.tool import Effect, ToolDefinition, ToolResult
from collegium.domain.usage import Usage
from collegium.oversight.approvals import ApprovalPolicy
from collegium.oversight.limits import AttemptLimits
from collegium.ports import Clock, Receipt
from collegium.tools import ledger as books
from collegium.tools.builtin.team import is_ask, is_share
from collegium.tools.canonical import arguments_sha256, canonical_arguments, idempotency_key, next_key
from collegium.tools.context import ToolContext
from collegium.tools.outcome import OutcomeUnknown
from collegium.tools.toolbox import AdmittedCall, Toolbox

MAX_CALLS_PER_STEP = 16
SHORT_S = 1.0
"""A shorter wait is sat out, a longer one parks the task."""


class Recorder(Protocol):
    """Appends recording events in the name of the attempt."""

    @property
    def approvals(self) -> ApprovalPolicy:
        """What a person is asked about."""
        ...

    @property
    def lapsed_at(self) -> datetime | None:
        """When an attempt of the task was last found lost."""
        ...

    @property
    def asks(self) -> Asks:
        """The task's questions to colleagues."""
        ...

    @property
    def board(self) -> Board:
        """What colleagues share."""
        ...

    def record(self, *bodies: b.Body) -> Receipt:
        """Orders the events; the receipt's barrier is awaited only where it matters."""
        ...

    async def ledger(self) -> books.Ledger:
        """The calls of the whole run so far, as the journal has them."""
        ...

    def weighing(self, tool: str, arguments: str) -> AbstractAsyncContextManager[None]:
        """Inside it no other task of this process looks up the same call; ``arguments`` is their hash."""
        ...

    async def has_others(self) -> bool:
        """Whether other tasks of the run may be at work before this one ends."""
        ...

    async def admit(self, *, tool: str | None = None) -> None:
        """Returns when a model, or ``tool``, may be called; raises ``Fenced`` once the attempt was taken over."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """Inside it a write is under way, which an orderly end waits for."""
        ...


@dataclass(eq=False)
class _Making:
    """A call that is under way, and the task that waits for it."""

    tool: str
    caller: asyncio.Task[Any] | None
    is_ended: bool = False


class Calls:
    """Makes the calls of an attempt.

    Args:
        turns: The steps so far, earlier attempts' included; the last one is the one whose calls are made.
        context: Makes the context of a tool call from its idempotency key.
    """

    def __init__(
        self,
        turns: list[Turn],
        *,
        limits: AttemptLimits,
        recorder: Recorder,
        toolbox: Toolbox,
        context: Callable[[str | None], ToolContext],
        clock: Clock,
    ) -> None:
        self._turns = turns
        self._limits = limits
        self._recorder = recorder
        self._toolbox = toolbox
        self._context = context
        self._clock = clock
        self._judged: set[tuple[int, int, str]] = set()
        self._making: list[_Making] = []

    async def call(self, index: int, call: ToolCall, *, granted: Collection[str]) -> ToolResult:
        """Carries out call ``index`` of the last step, or gives the result an earlier attempt has stored.

        A call that changes the world is intended, durably, before it is made. Raises ``UnknownOutcome`` when nobody can
        know whether a write has happened, ``Asked`` when a colleague has been asked.
        """
        done = self._turns[-1].finished.get(index)
        if done is not None:
            return done.result
        started = self._clock.monotonic()
        key: str | None = None
        effect: Effect = "pure"
        is_sending = False
        try:
            self._limits.take_call(call.name)
            admitted = self._toolbox.admit(call, granted=granted)
            effect, is_sending = admitted.definition.effect, is_share(admitted.definition)
            if self._is_weighed(admitted.definition):
                result, key = await self._weighed(index, admitted, granted)
            elif is_ask(admitted.definition):
                result = await self._asked(index, admitted, granted)
            else:
                result = await self._made(admitted, None)
        except (ToolError, LimitReached) as error:
            result = ToolResult(text=error.message, is_ok=False)
            if (scope := error.fields.get("scope")) is not None:
                self._judge(index, "deny", f"the right {scope} is missing")
        except (ApprovalNeeded, Asked, TooEarly):
            self._limits.charge(Usage(tool_calls=-1))
            raise
        finished = b.ToolFinished(
            step=self._step,
            call=index,
            tool=call.name,
            effect=effect,
            call_id=call.id,
            result=result,
            key=key,
            seconds=round(self._clock.monotonic() - started, 4),
        )
        sent = await self._message(index, result) if is_sending else None
        # One append: a message is sent by a call that has ended, and by no call twice.
        receipt = self._recorder.record(*(() if sent is None else (sent,)), finished)
        self._turns[-1] = msgspec.structs.replace(turn := self._turns[-1], finished={**turn.finished, index: finished})
        if sent is not None:
            await receipt.durable()
            await self._recorder.board.publish(sent)
        return result

    async def _message(self, index: int, result: ToolResult) -> b.MessageSent | None:
        context = self._context(None)
        id_ = idempotency_key(context.run, context.task, step=self._step, call=index)
        return await message_sent(result, self._recorder.board, id_=id_, run=context.run, step=self._step, call=index)

    async def _asked(self, index: int, admitted: AdmittedCall, granted: Collection[str]) -> ToolResult:
        """A colleague's answer, once it is there. Until then: raises ``Asked``, or ``ToolError`` if it may not be."""
        asks, definition = self._recorder.asks, admitted.definition
        answer = asks.answer(self._step, index)
        if answer is not None:
            return answer
        await self._recorder.admit(tool=definition.name)
        calls = [(index, admitted)]
        if not self._is_weighed(definition):
            # All questions of the step at once: the colleagues work side by side.
            calls += [c for c in self._to_come(granted) if c[0] != index and is_ask(c[1].definition)]
        wanted = [Question(call=i, **a.bound) for i, a in calls if asks.answer(self._step, i) is None]
        return await asks.ask(self._step, wanted)

    def _is_weighed(self, tool: ToolDefinition) -> bool:
        """Whether its calls stand on the ledger: they write, or a person has to allow them."""
        return books.is_write(tool.effect) or self._recorder.approvals.rule(tool) is not None

    async def _weighed(
        self, index: int, admitted: AdmittedCall, granted: Collection[str]
    ) -> tuple[ToolResult, str | None]:
        """A call that is looked up on the ledger, judged, intended, and only then made.

        Gives the result, and the key unless the call was refused and so never intended.
        """
        outcome, key = await self._looked_up(index, admitted)
        while outcome is None:  # unless an answer comes meanwhile, after which there is nothing to ask
            if requests := await self._requests(granted):
                raise ApprovalNeeded(requests)
            outcome, key = await self._looked_up(index, admitted)
        if isinstance(outcome, b.ToolIntended):
            if is_ask(admitted.definition):
                return await self._asked(index, admitted, granted), key
            outcome = await self._called(admitted, outcome)
        return outcome, key

    async def _looked_up(
        self, index: int, admitted: AdmittedCall
    ) -> tuple[ToolResult | b.ToolIntended | None, str | None]:
        async with self._weighing(admitted):
            return await self._intended(index, admitted)

    def _weighing(self, admitted: AdmittedCall) -> AbstractAsyncContextManager[None]:
        return self._recorder.weighing(admitted.call.name, arguments_sha256(admitted.call.arguments))

    async def _intended(
        self, index: int, admitted: AdmittedCall
    ) -> tuple[ToolResult | b.ToolIntended | None, str | None]:
        """The call, durably intended, that may be made now, or its result where it may not; and its key.

        Nothing where a person has to be asked.
        """
        ledger = await self._recorder.ledger()
        intended, wanted = self._intent(index, admitted, ledger)
        rule = self._recorder.approvals.rule(admitted.definition)
        decision = books.decide(ledger, wanted, rule=rule)
        entry, answer = decision.entry, decision.answer
        if decision.admission == "known" and entry is not None and entry.result is not None:
            return entry.result, intended.key
        if decision.admission == "approval":
            return None, None
        if decision.admission == "refused" and answer is not None:
            self._judge(index, "deny", f"{answer.approval}: rejected by {answer.principal}")
            return refused(intended.tool, answer), None
        if decision.admission == "ask":
            raise UnknownOutcome(intended, "a person has not said yet what became of it", entry)
        if decision.admission == "settle" and entry is not None:
            outcome = await self._settled(admitted, intended, entry)
            if outcome is not None:
                return outcome, intended.key
            if intended.effect != "write":
                return intended, intended.key
            # Voided: the far side knows the old key as refused.
            intended = msgspec.structs.replace(intended, key=next_key(intended.key))
            await self._recorder.record(intended).durable()
            return intended, intended.key
        if answer is not None:
            self._judge(index, "allow", f"{answer.approval}: {answer.answer} by {answer.principal}")
        intended = msgspec.structs.replace(intended, approval=decision.approval)
        await self._recorder.record(intended).durable()
        return await self._first(intended, wanted), intended.key

    async def _first(self, intended: b.ToolIntended, wanted: books.Call) -> b.ToolIntended | ToolResult:
        """``intended``, unless another process has intended the same call first, while this one was being intended.

        Each looks once its own intent is durable, and the journal has an order: exactly one finds itself first.
        """
        if wanted.effect != "write" or intended.approval is not None or not await self._recorder.has_others():
            return intended
        first = books.intended_before(await self._recorder.ledger(), wanted)
        return intended if first is None else forestalled(intended.tool, first)

    async def _called(self, admitted: AdmittedCall, intended: b.ToolIntended) -> ToolResult:
        """The result of a call that is intended. Raises ``UnknownOutcome``."""
        try:
            return await self._made(admitted, intended.key)
        except OutcomeUnknown as error:
            raise UnknownOutcome(intended, error.message) from error
        except ToolError as error:  # the tool is stopped: it was intended, and it was not called
            return ToolResult(text=error.message, is_ok=False)

    async def _made(self, admitted: AdmittedCall, key: str | None) -> ToolResult:
        """The result of the call, made now. Raises ``ToolError`` when the tool is stopped before or meanwhile."""
        name, caller = admitted.call.name, asyncio.current_task()
        await self._recorder.admit(tool=name)
        self._making.append(making := _Making(name, caller))
        try:
            with self._recorder.writing() if key is not None else nullcontext():
                return await self._toolbox.run(admitted, self._context(key))
        except asyncio.CancelledError:
            if not making.is_ended or caller is None or caller.uncancel() > 0:
                raise
            told = f"{name} was stopped by a person while it was being called"
            raise OutcomeUnknown(told) if admitted.definition.effect == "write" else ToolError(told) from None
        finally:
            self._making.remove(making)

    def end(self, tool: str) -> None:
        """Ends the calls of ``tool`` that are under way; the agent is told, and a write's outcome is unknown."""
        for making in self._making:
            if making.tool == tool and not making.is_ended and making.caller is not None:
                making.is_ended = True
                making.caller.cancel()

    async def _settled(self, admitted: AdmittedCall, intended: b.ToolIntended, entry: books.Entry) -> ToolResult | None:
        """The result of a call that an earlier attempt left open; None where it may be made again, a write anew.

        Raises ``TooEarly``, or ``UnknownOutcome`` where only a person can say.
        """
        definition, lapsed_at = admitted.definition, self._recorder.lapsed_at
        if lapsed_at is not None and (entry.at is None or entry.at <= lapsed_at):
            judge_at = books.judge_at(lapsed_at, definition.timeout_s)
            wait_s = (judge_at - self._clock.now()).total_seconds()
            if wait_s > SHORT_S:
                raise TooEarly(definition.name, judge_at)
            if wait_s > 0:
                await self._clock.sleep(wait_s)
        if books.after_lapse(definition.effect) == "again":
            return None
        reconciled = await self._toolbox.reconcile(intended.tool, intended.key, self._context(intended.key))
        act = books.after_lapse(definition.effect, reconciled)
        if act == "finish" and reconciled.result is not None:
            return reconciled.result
        if act != "anew":
            why = "the attempt that called it ended before its result was stored"
            raise UnknownOutcome(intended, f"{why} ({reconciled.detail})" if reconciled.detail else why, entry)
        return None

    async def _requests(self, granted: Collection[str]) -> tuple[b.ApprovalRequested, ...]:
        """What a person is asked: about all calls of the step that need it, at once."""
        now, policy = self._clock.now(), self._recorder.approvals
        requests = []
        for index, admitted in self._to_come(granted):
            if not self._is_weighed(admitted.definition):
                continue
            rule = policy.rule(admitted.definition)
            async with self._weighing(admitted):
                ledger = await self._recorder.ledger()
                intended, wanted = self._intent(index, admitted, ledger)
                decision = books.decide(ledger, wanted, rule=rule)
                if decision.admission != "approval":
                    continue
                because = rule or done_before(decision.like[0])
                self._judge(index, "ask", because)
            request = b.ApprovalRequested(
                approval="",
                kind="tool",
                question=f"May task {wanted.task!r} call {intended.tool}? {because}",
                tool=intended.tool,
                tool_version=intended.tool_version,
                arguments_sha256=intended.arguments_sha256,
                key=intended.key,
                arguments=intended.arguments,
            )
            requests.append(policy.addressed(request, now))
        return tuple(requests)

    def _to_come(self, granted: Collection[str]) -> Iterator[tuple[int, AdmittedCall]]:
        """The calls of the step that are not finished, as far as they can be made at all."""
        turn = self._turns[-1]
        for index, call in enumerate(turn.proposed.reply.tool_calls[:MAX_CALLS_PER_STEP]):
            if index in turn.finished:
                continue
            try:
                admitted = self._toolbox.admit(call, granted=granted)
            except ToolError:
                continue
            yield index, admitted

    def _intent(self, index: int, admitted: AdmittedCall, ledger: books.Ledger) -> tuple[b.ToolIntended, books.Call]:
        """What is written before the call, and the call as the ledger knows it."""
        call, definition, context = admitted.call, admitted.definition, self._context(None)
        sha256 = arguments_sha256(call.arguments)
        intended = b.ToolIntended(
            step=self._step,
            call=index,
            key=ledger.key_of(context.task, self._step, index)
            or (ledger.shared_key(call.name, sha256) if definition.effect == "idempotent_write" else None)
            or idempotency_key(context.run, context.task, step=self._step, call=index),
            tool=call.name,
            tool_version=definition.version,
            effect=definition.effect,
            arguments=canonical_arguments(call.arguments),
            arguments_sha256=sha256,
        )
        wanted = books.Call(
            key=intended.key,
            task=context.task,
            step=self._step,
            tool=call.name,
            tool_version=definition.version,
            effect=definition.effect,
            arguments_sha256=intended.arguments_sha256,
        )
        return intended, wanted

    def _judge(self, index: int, decision: Literal["allow", "deny", "ask"], rule: str) -> None:
        """Records what policy says of a call; of calls that nothing is said about, nothing is kept."""
        if (self._step, index, decision) not in self._judged:
            self._judged.add((self._step, index, decision))
            self._recorder.record(b.StepJudged(step=self._step, call=index, decision=decision, rule=rule))

    @property
    def _step(self) -> int:
        return self._turns[-1].proposed.step
