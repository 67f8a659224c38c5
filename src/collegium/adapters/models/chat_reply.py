"""From what a Chat Completions server says to a ``ModelReply``: whole, or put together from chunks."""

from __future__ import annotations

from typing import Any

import msgspec

from collegium.adapters.models.chat_wire import CallPart, Completion, TokenUsage
from collegium.adapters.models.pricing import Pricing
from collegium.domain.chat import Finish, ModelReply, ToolCall
from collegium.domain.errors import ModelReplyError
from collegium.domain.usage import Usage

_FINISH: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "refusal",
}
_DECODE_ARGUMENTS = msgspec.json.Decoder(dict[str, Any]).decode


def whole_reply(completion: Completion, pricing: Pricing, *, where: str) -> ModelReply:
    """The reply in a whole ``completion``.

    Raises:
        ModelReplyError: no choice, nothing in it, or arguments that are no JSON object.
    """
    choice = completion.choices[0] if completion.choices else None
    said = choice.message if choice is not None else None
    if choice is None or said is None:
        raise ModelReplyError(f"{where} sent a reply without a message", url=where)
    return _reply(
        text=said.content or "",
        refusal=said.refusal or "",
        calls=said.tool_calls or [],
        finish=choice.finish_reason,
        usage=completion.usage,
        model=completion.model or "",
        pricing=pricing,
        where=where,
    )


class ReplyAssembler:
    """Chunks of a stream in, pieces of text out, the whole reply at the end."""

    def __init__(self, pricing: Pricing, *, where: str) -> None:
        self._pricing = pricing
        self._where = where
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, CallPart] = {}
        self._arguments: dict[int, list[str]] = {}
        self._usage: TokenUsage | None = None
        self._finish: str | None = None
        self._model = ""

    def feed(self, chunk: Completion) -> str:
        """The text that ``chunk`` adds, often empty."""
        self._usage = chunk.usage or self._usage
        self._model = self._model or chunk.model or ""
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self._finish = choice.finish_reason or self._finish
        said = choice.delta or choice.message
        if said is None:
            return ""
        for part in said.tool_calls or ():
            self._add_call(part)
        if said.refusal:
            self._refusal.append(said.refusal)
        if not said.content:
            return ""
        self._text.append(said.content)
        return said.content

    def reply(self) -> ModelReply:
        """The whole reply.

        Raises:
            ModelReplyError: the stream ended before the server said how the reply ends.
        """
        if self._finish is None:
            raise ModelReplyError(
                f"{self._where} broke off its reply after {sum(map(len, self._text)):,} characters", url=self._where
            )
        calls = []
        for index in sorted(self._calls):
            part = self._calls[index]
            if part.function.arguments is None:
                part.function.arguments = "".join(self._arguments[index])
            calls.append(part)
        return _reply(
            text="".join(self._text),
            refusal="".join(self._refusal),
            calls=calls,
            finish=self._finish,
            usage=self._usage,
            model=self._model,
            pricing=self._pricing,
            where=self._where,
        )

    def _add_call(self, part: CallPart) -> None:
        # Some servers leave out the index and send each call in one piece.
        index = part.index if part.index is not None else len(self._calls)
        known = self._calls.get(index)
        arguments = part.function.arguments
        if known is None:
            known = self._calls[index] = part
            self._arguments[index] = []
            part.function.arguments = None
        known.id = known.id or part.id
        known.function.name = known.function.name or part.function.name
        if isinstance(arguments, str):
            self._arguments[index].append(arguments)
        elif arguments is not None:
            known.function.arguments = arguments


def _reply(
    *,
    text: str,
    refusal: str,
    calls: list[CallPart],
    finish: str | None,
    usage: TokenUsage | None,
    model: str,
    pricing: Pricing,
    where: str,
) -> ModelReply:
    # A cut reply may end in the middle of a call: that call is not one.
    is_cut = finish == "length"
    tool_calls = tuple(c for i, part in enumerate(calls) if (c := _call(part, i, is_cut, where)) is not None)
    if refusal:
        how: Finish = "refusal"
    elif tool_calls and not is_cut:
        how = "tool_calls"  # several servers say `stop` here
    else:
        how = _FINISH.get(finish or "stop", "stop")
        how = "stop" if how == "tool_calls" else how
    if how == "stop" and not text:
        raise ModelReplyError(f"{where} sent a reply with neither text nor tool calls", url=where)
    spent, is_known = pricing.priced(_usage(usage))
    return ModelReply(
        text=text or refusal, tool_calls=tool_calls, finish=how, usage=spent, model=model, is_price_known=is_known
    )


def _call(part: CallPart, position: int, is_cut: bool, where: str) -> ToolCall | None:
    arguments = part.function.arguments
    if isinstance(arguments, str):
        try:
            arguments = _DECODE_ARGUMENTS(arguments.encode()) if arguments.strip() else {}
        except msgspec.DecodeError as error:
            if is_cut:
                return None
            raise ModelReplyError(
                f"{where} calls the tool {part.function.name!r} with arguments that are not a JSON object: "
                f"{str(part.function.arguments)[:200]!r}",
                url=where,
            ) from error
    name = part.function.name
    if not name:
        raise ModelReplyError(f"{where} calls a tool without saying which", url=where)
    return ToolCall(id=part.id or f"call_{position}", name=name, arguments=arguments or {})


def _usage(counted: TokenUsage | None) -> Usage:
    if counted is None:
        return Usage(model_calls=1)
    details = counted.prompt_tokens_details
    return Usage(
        input_tokens=counted.prompt_tokens,
        cached_input_tokens=(details.cached_tokens or 0) if details else 0,
        output_tokens=counted.completion_tokens,
        model_calls=1,
    )
