"""A task's conversation while an attempt works on it: asks models, calls tools, records each step.

The agent's code runs from its beginning in every attempt. Whatever an earlier attempt has made durable is handed out
again
instead of being done again, so that the code arrives where the other one stopped without one repeated call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence

import msgspec

from collegium.agents import recall
from collegium.agents.calls import Calls, Recorder
from collegium.agents.compaction import Window
from collegium.agents.schema_tools import from_schema, to_schema
from collegium.domain import body as b
from collegium.domain.chat import ChatMessage, Json, ModelReply, ModelRequest, ToolCall, ToolSpec
from collegium.domain.conversation import Conversation, Turn
from collegium.domain.errors import ContextTooLong
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
        self._past = past.current
        self._left = past.turns[: past.begun]
        self._at = 0
        self._turns: list[Turn] = []
        self._model = model
        self._limits = limits
        self._recorder = recorder
        self._window = Window(model.profile, past.compacted)
        looking_back = recall.Recall(lambda: self._turns, lambda: self._window.result_bytes)
        self._clock = clock
        self._calls = Calls(
            self._turns,
            limits=limits,
            recorder=recorder,
            toolbox=toolbox.extended(looking_back),
            context=context,
            clock=clock,
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
    def left(self) -> tuple[Turn, ...]:
        """The steps of agents that failed at the task before this one began afresh."""
        return self._left

    @property
    def step(self) -> int:
        """Number of the task's last step, 0 before the first."""
        last = self._turns or self._left
        return last[-1].proposed.step if last else 0

    @property
    def is_catching_up(self) -> bool:
        """Whether the next step is one that an earlier attempt has made."""
        return self._at < len(self._past)

    @property
    def may_recall(self) -> bool:
        """Whether the last step was offered ``recall``, because it did not see all of the conversation."""
        return bool(self._turns) and recall.NAME in self._turns[-1].proposed.tools

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

        The model is shown the conversation as far as it fits (``Window``); with ``tools`` it is offered ``recall`` as
        soon as it no longer sees everything. Raises ``LimitReached`` before a call that would not fit, or the
        ``ModelError`` of the call.
        """
        if self._at < len(self._past):
            return self._again()
        wanted = ModelRequest(
            messages=added,
            tools=tuple(tools),
            output_schema=output_schema,
            max_output_tokens=min(max_output_tokens, self._model.profile.max_output_tokens),
            temperature=temperature,
        )
        step = self.step + 1
        started = self._clock.monotonic()
        request, sent, reply = await self._send(wanted, is_fresh=is_fresh)
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
            tools=tuple(t.name for t in request.tools),
            tools_sha256=_digest([request.tools, output_schema]) if tools or output_schema else "",
            seconds=round(self._clock.monotonic() - started, 4),
            is_fresh=is_fresh or not self._turns,
        )
        self._recorder.record(body)
        self._turns.append(Turn(proposed=body))
        self._past = ()
        self._at = 0
        return reply

    async def _send(self, wanted: ModelRequest, *, is_fresh: bool) -> tuple[ModelRequest, ModelRequest, ModelReply]:
        """The request with its conversation, the same as it was sent, and the reply.

        A request that the server refuses as too long is compacted harder and sent once more.
        """
        is_refused = False
        while True:
            request = wanted if is_fresh else self._continued(wanted)
            sent = self._limits.fit(self._translated(request), self._model.profile)
            try:
                reply = await self._complete(sent, is_choice=bool(wanted.tools), call_id=f"call_{self.step + 1}")
            except ContextTooLong as error:
                harder = None if is_refused or is_fresh else self._window.compact(wanted, is_refused=True)
                if harder is None:
                    raise _too_long(error, is_compacted=self._window.is_shortened) from error
                self._recorder.record(harder)
                is_refused = True
            else:
                return request, sent, reply

    def _continued(self, wanted: ModelRequest) -> ModelRequest:
        """``wanted`` behind the conversation so far; a compaction that this takes is recorded first."""
        self._window.take(self._turns)
        compacted = self._window.compact(wanted)
        if compacted is not None:
            self._recorder.record(compacted)
        before = self._window.messages
        tools = wanted.tools
        if tools and self._window.is_shortened and all(t.name != recall.NAME for t in tools):
            tools = (*tools, recall.DEFINITION.spec)
        return msgspec.structs.replace(
            wanted, messages=(*before, *wanted.messages), tools=tools, cached_prefix=len(before) or 1
        )

    async def call(self, index: int, call: ToolCall, *, granted: Collection[str]) -> ToolResult:
        """Carries out call ``index`` of the last step; see ``Calls.call``."""
        return await self._calls.call(index, call, granted=granted)

    def end_calls(self, tool: str) -> None:
        """Ends the calls of ``tool`` that are under way."""
        self._calls.end(tool)

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
        await self._recorder.admit()
        reservation = self._limits.reserve(sent, self._model.profile)
        usage: Usage | None = None
        try:
            reply = await self._model.complete(sent)
            usage = reply.usage
        except ContextTooLong:
            usage = Usage()  # refused before anything was read: nothing was spent
            raise
        finally:
            self._limits.settle(reservation, usage)
        if is_choice and self._model.profile.tool_mode != "native":
            return from_schema(reply, call_id=call_id)
        return reply


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


def _too_long(error: ContextTooLong, *, is_compacted: bool) -> ContextTooLong:
    """The refusal, and what was tried before it."""
    tried = (
        "older steps had been replaced by a summary already"
        if is_compacted
        else "there are no older steps that could be left out"
    )
    return ContextTooLong(f"{error.message} ({tried})", **error.fields)
