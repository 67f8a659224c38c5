"""A task's conversation while an attempt works on it: asks models, calls tools, records each step.

The agent's code runs from its beginning in every attempt. Whatever an earlier attempt has made durable is handed out
again
instead of being done again, so that the code arrives where the other one stopped without one repeated call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence

import msgspec

from collegium.agents.calls import Calls, Recorder
from collegium.agents.schema_tools import from_schema, to_schema
from collegium.domain import body as b
from collegium.domain.chat import ChatMessage, Json, ModelReply, ModelRequest, ToolCall, ToolSpec
from collegium.domain.conversation import Conversation, Turn
from collegium.domain.tool import ToolResult
from collegium.domain.usage import Usage
from collegium.oversight.limits import AttemptLimits
from collegium.ports import Clock, Model
from collegium.tools.context import ToolContext
from collegium.tools.toolbox import Toolbox


class Talk:
    """One attempt's hold on the conversation of its task.

    Args:
        past: What earlier attempts left.
        context: Makes the context of a tool call from its idempotency key.
    """

    def __init__(
        self,
        past: Conversation,
        *,
        model: Model,
        limits: AttemptLimits,
        recorder: Recorder,
        toolbox: Toolbox,
        context: Callable[[str | None], ToolContext],
        clock: Clock,
    ) -> None:
        self._past = past.turns
        self._at = 0
        self._turns: list[Turn] = []
        self._model = model
        self._limits = limits
        self._recorder = recorder
        self._clock = clock
        self._calls = Calls(
            self._turns, limits=limits, recorder=recorder, toolbox=toolbox, context=context, clock=clock
        )

    @property
    def model(self) -> Model:
        """The model that is asked."""
        return self._model

    @property
    def limits(self) -> AttemptLimits:
        """What the attempt may still spend."""
        return self._limits

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The steps so far, earlier attempts' included."""
        return tuple(self._turns)

    @property
    def step(self) -> int:
        """Number of the last step, 0 before the first."""
        return self._turns[-1].proposed.step if self._turns else 0

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """The messages of the current conversation: from the last fresh start on."""
        fresh = max((i for i, t in enumerate(self._turns) if t.proposed.is_fresh), default=0)
        return tuple(m for t in self._turns[fresh:] for m in t.messages)

    async def ask(
        self,
        *added: ChatMessage,
        tools: Sequence[ToolSpec] = (),
        output_schema: Json | None = None,
        max_output_tokens: int = 1024,
        temperature: float = 0.0,
        is_fresh: bool = False,
    ) -> ModelReply:
        """One step: adds messages, calls the model, records the reply.

        Raises ``LimitReached`` before a call that would not fit, or the ``ModelError`` of the call.
        """
        if self._at < len(self._past):
            return self._again()
        if is_fresh:
            before: tuple[ChatMessage, ...] = ()
        else:
            before = self.messages
        request = ModelRequest(
            messages=(*before, *added),
            tools=tuple(tools),
            output_schema=output_schema,
            max_output_tokens=min(max_output_tokens, self._model.profile.max_output_tokens),
            temperature=temperature,
            cached_prefix=len(before) or 1,
        )
        step = self.step + 1
        started = self._clock.monotonic()
        sent = self._limits.fit(self._translated(request), self._model.profile)
        reply = await self._complete(sent, is_choice=bool(tools), call_id=f"call_{step}")
        body = b.StepProposed(
            step=step,
            added=added,
            reply=reply.message,
            finish=reply.finish,
            model=reply.model or self._model.profile.name,
            usage=reply.usage,
            request_sha256=_digest(msgspec.structs.replace(sent, cached_prefix=0)),
            max_output_tokens=sent.max_output_tokens,
            temperature=temperature,
            tools=tuple(t.name for t in tools),
            tools_sha256=_digest([tools, output_schema]) if tools or output_schema else "",
            seconds=round(self._clock.monotonic() - started, 4),
            is_fresh=is_fresh or not self._turns,
        )
        self._recorder.record(body)
        self._turns.append(Turn(proposed=body))
        self._past = ()
        self._at = 0
        return reply

    async def call(self, index: int, call: ToolCall, *, granted: Collection[str]) -> ToolResult:
        """Carries out call ``index`` of the last step; see ``Calls.call``."""
        return await self._calls.call(index, call, granted=granted)

    async def act(self, call: ToolCall, *, granted: Collection[str]) -> ToolResult:
        """A call that the agent's own code decides on, as a step of its own: no model is asked."""
        if self._at < len(self._past):
            self._again()
        else:
            body = b.StepProposed(
                step=self.step + 1,
                added=(),
                reply=ChatMessage(role="assistant", tool_calls=(call,)),
                finish="tool_calls",
                model="",
                usage=Usage(),
                request_sha256="",
                is_fresh=not self._turns,
            )
            self._recorder.record(body)
            self._turns.append(Turn(proposed=body))
        return await self.call(0, self._turns[-1].proposed.reply.tool_calls[0], granted=granted)

    def _again(self) -> ModelReply:
        """The next step of an earlier attempt, with its finished tool results, as if it were made now."""
        turn = self._past[self._at]
        self._at += 1
        self._turns.append(turn)
        proposed = turn.proposed
        return ModelReply(
            text=proposed.reply.text,
            tool_calls=proposed.reply.tool_calls,
            finish=proposed.finish,
            usage=proposed.usage,
            model=proposed.model,
        )

    def _translated(self, request: ModelRequest) -> ModelRequest:
        return request if self._model.profile.tool_mode == "native" else to_schema(request)

    async def _complete(self, sent: ModelRequest, *, is_choice: bool, call_id: str) -> ModelReply:
        reservation = self._limits.reserve(sent, self._model.profile)
        usage: Usage | None = None
        try:
            reply = await self._model.complete(sent)
            usage = reply.usage
        finally:
            self._limits.settle(reservation, usage)
        if is_choice and self._model.profile.tool_mode != "native":
            return from_schema(reply, call_id=call_id)
        return reply


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()
