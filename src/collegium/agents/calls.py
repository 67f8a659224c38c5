"""The calls that an agent proposes: looked up on the ledger, intended where they write, made, and recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

import msgspec

from collegium.domain import body as b
from collegium.domain.chat import ToolCall
from collegium.domain.conversation import Turn
from collegium.domain.errors import CollegiumError, ToolError
from collegium.domain.tool import Effect, ToolResult
from collegium.domain.usage import Usage
from collegium.oversight.limits import AttemptLimits
from collegium.ports import Clock, Receipt
from collegium.tools import ledger as books
from collegium.tools.canonical import arguments_sha256, canonical_arguments, idempotency_key
from collegium.tools.context import ToolContext
from collegium.tools.outcome import OutcomeUnknown, error_result
from collegium.tools.toolbox import AdmittedCall, Toolbox


class Recorder(Protocol):
    """Appends recording events in the name of the attempt."""

    def record(self, *bodies: b.Body) -> Receipt:
        """Orders the events; the receipt's barrier is awaited only where it matters."""
        ...

    async def ledger(self) -> books.Ledger:
        """The calls of the whole run so far, as the journal has them."""
        ...


class UnknownOutcome(CollegiumError):
    """A write was begun and nobody knows whether it happened; a person has to say."""

    code = "outcome_unknown"

    def __init__(self, intended: b.ToolIntended, why: str) -> None:
        super().__init__(f"{intended.tool} was called and {why}: it may or may not have happened")
        self.intended = intended


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

    async def call(self, index: int, call: ToolCall, *, granted: Collection[str]) -> ToolResult:
        """Carries out call ``index`` of the last step, or gives the result an earlier attempt has stored.

        A call that changes the world is intended, durably, before it is made. Raises ``UnknownOutcome`` when nobody can
        know whether a write has happened.
        """
        done = self._turns[-1].finished.get(index)
        if done is not None:
            return done.result
        started = self._clock.monotonic()
        key: str | None = None
        effect: Effect = "pure"
        try:
            admitted = self._toolbox.admit(call, granted=granted)
        except ToolError as error:
            result = error_result(error, tool=call.name)
        else:
            effect = admitted.definition.effect
            if books.is_write(effect):
                key = idempotency_key(self._context(None).run, self._context(None).task, step=self._step, call=index)
                result, key = await self._write(index, admitted, key)
            else:
                result = await self._toolbox.run(admitted, self._context(None))
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
        self._recorder.record(finished)
        self._limits.charge(Usage(tool_calls=1))
        turn = self._turns[-1]
        self._turns[-1] = msgspec.structs.replace(turn, finished={**turn.finished, index: finished})
        return result

    async def _write(self, index: int, admitted: AdmittedCall, key: str) -> tuple[ToolResult, str | None]:
        """A call that changes the world: looked up on the ledger, intended, and only then made.

        Gives the result, and the key unless the call was refused and so never intended.
        """
        call, definition = admitted.call, admitted.definition
        arguments = canonical_arguments(call.arguments)
        intended = b.ToolIntended(
            step=self._step,
            call=index,
            key=key,
            tool=call.name,
            tool_version=definition.version,
            effect=definition.effect,
            arguments=arguments,
            arguments_sha256=arguments_sha256(call.arguments),
        )
        context = self._context(key)
        wanted = books.Call(
            key=key,
            task=context.task,
            step=self._step,
            tool=call.name,
            effect=definition.effect,
            arguments_sha256=intended.arguments_sha256,
        )
        decision = books.decide(await self._recorder.ledger(), wanted)
        if decision.admission == "approval":
            return ToolResult(text=_done_before(decision.like[0]), is_ok=False), None
        if decision.admission == "known" and decision.entry is not None and decision.entry.result is not None:
            return decision.entry.result, key
        if decision.admission == "ask":
            raise UnknownOutcome(intended, "a person has not said yet what became of it")
        if decision.admission == "settle" and books.after_lapse(definition.effect) != "again":
            reconciled = await self._toolbox.reconcile(call.name, key, context)
            act = books.after_lapse(definition.effect, reconciled)
            if act == "finish" and reconciled.result is not None:
                return reconciled.result, key
            if act != "again":
                raise UnknownOutcome(intended, "the attempt that called it ended before its result was stored")
        if decision.admission == "call":
            await self._recorder.record(intended).durable()
        try:
            return await self._toolbox.run(admitted, context), key
        except OutcomeUnknown as error:
            raise UnknownOutcome(intended, error.message) from error

    @property
    def _step(self) -> int:
        return self._turns[-1].proposed.step


def _done_before(entry: books.Entry) -> str:
    outcome = entry.result.text if entry.result is not None else "without a known result"
    return (
        f"{entry.tool} was already called with exactly these arguments in step {entry.step} of task {entry.task}: "
        f"{outcome} "
        "It is not called again without a person's approval."
    )
