"""``ModelRequest`` and ``ModelReply`` in the words of pydantic-ai, both ways."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic_ai import messages as pai
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.tools import ToolDefinition

from collegium.adapters.models.pricing import Pricing
from collegium.adapters.models.rich_vendor import AnyVendorModel
from collegium.domain.chat import ChatMessage, Finish, ModelReply, ModelRequest, ToolCall
from collegium.domain.errors import ModelReplyError
from collegium.domain.usage import Usage

_ANSWER = "answer"
_FINISH: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "refusal",
    "tool_call": "tool_calls",
}
_DECODE_ARGUMENTS = msgspec.json.Decoder(dict[str, Any]).decode


def as_history(request: ModelRequest, *, marks_prefix: bool) -> list[pai.ModelMessage]:
    """The conversation; what is not said by the model is gathered between its replies."""
    history: list[pai.ModelMessage] = []
    parts: list[pai.ModelRequestPart] = []
    names = {call.id: call.name for message in request.messages for call in message.tool_calls}
    for position, message in enumerate(request.messages, start=1):
        if message.role == "assistant":
            if parts:
                history.append(pai.ModelRequest(parts=parts))
                parts = []
            history.append(_said(message))
        else:
            ends_prefix = marks_prefix and position == request.cached_prefix
            parts.append(_told(message, names, ends_prefix=ends_prefix))
    if parts:
        history.append(pai.ModelRequest(parts=parts))
    return history


def as_parameters(request: ModelRequest, model: AnyVendorModel) -> ModelRequestParameters:
    """The tools, and the output schema: the vendor's own way where the model has one, else as a tool to be called."""
    tools = [
        ToolDefinition(name=t.name, description=t.description, parameters_json_schema=t.parameters)
        for t in request.tools
    ]
    if request.output_schema is None:
        return ModelRequestParameters(function_tools=tools)
    if model.profile.get("supports_json_schema_output"):
        answer = OutputObjectDefinition(json_schema=request.output_schema, name=_ANSWER)
        return ModelRequestParameters(function_tools=tools, output_mode="native", output_object=answer)
    return ModelRequestParameters(
        function_tools=tools,
        output_mode="tool",
        output_tools=[
            ToolDefinition(
                name=_ANSWER,
                description="Gives the final answer.",
                parameters_json_schema=request.output_schema,
                kind="output",
            )
        ],
        allow_text_output=False,
    )


def as_reply(response: object, request: ModelRequest, pricing: Pricing, *, where: str) -> ModelReply:
    """The reply in ``response``.

    Raises:
        ModelReplyError: nothing in it, or arguments that are no JSON object.
    """
    assert isinstance(response, pai.ModelResponse)  # noqa: S101 - narrows the type; pydantic-ai gives nothing else
    text = "".join(part.content for part in response.parts if isinstance(part, pai.TextPart))
    is_cut = response.finish_reason == "length"
    calls = []
    for part in response.parts:
        if not isinstance(part, pai.ToolCallPart):
            continue
        call = _call(part, is_cut=is_cut, where=where)
        if call is not None and call.name == _ANSWER and request.output_schema is not None:
            text = msgspec.json.encode(call.arguments).decode()
        elif call is not None:
            calls.append(call)
    finish = _finish(response, has_calls=bool(calls))
    refusal = (response.provider_details or {}).get("refusal") if finish == "refusal" else None
    if finish == "stop" and not text:
        raise ModelReplyError(f"{where} sent a reply with neither text nor tool calls", model=where)
    spent, is_known = _spent(response, pricing)
    return ModelReply(
        text=text or str(refusal or ""),
        tool_calls=tuple(calls),
        finish=finish,
        usage=spent,
        model=response.model_name or "",
        is_price_known=is_known,
    )


def _told(message: ChatMessage, names: dict[str, str], *, ends_prefix: bool) -> pai.ModelRequestPart:
    if message.role == "system":
        return pai.SystemPromptPart(content=message.text)
    if message.role == "tool":
        call_id = message.call_id or ""
        name = message.name or names.get(call_id, "")
        return pai.ToolReturnPart(tool_name=name, content=message.text, tool_call_id=call_id)
    if ends_prefix:
        return pai.UserPromptPart(content=[message.text, pai.CachePoint()])
    return pai.UserPromptPart(content=message.text)


def _said(message: ChatMessage) -> pai.ModelResponse:
    parts: list[pai.ModelResponsePart] = [pai.TextPart(content=message.text)] if message.text else []
    parts += [
        pai.ToolCallPart(tool_name=call.name, args=call.arguments, tool_call_id=call.id) for call in message.tool_calls
    ]
    return pai.ModelResponse(parts=parts)


def _call(part: pai.ToolCallPart, *, is_cut: bool, where: str) -> ToolCall | None:
    arguments = part.args
    if isinstance(arguments, str):
        try:
            arguments = _DECODE_ARGUMENTS(arguments.encode()) if arguments.strip() else {}
        except msgspec.DecodeError as error:
            if is_cut:  # a cut reply may end in the middle of a call: that call is not one
                return None
            raise ModelReplyError(
                f"{where} calls the tool {part.tool_name!r} with arguments that are not a JSON object: "
                f"{str(part.args)[:200]!r}",
                model=where,
            ) from error
    return ToolCall(id=part.tool_call_id, name=part.tool_name, arguments=dict(arguments or {}))


def _finish(response: pai.ModelResponse, *, has_calls: bool) -> Finish:
    finish = _FINISH.get(response.finish_reason or "stop", "stop")
    if finish in ("stop", "tool_calls"):
        return "tool_calls" if has_calls else "stop"
    return finish


def _spent(response: pai.ModelResponse, pricing: Pricing) -> tuple[Usage, bool]:
    counted = response.usage
    usage = Usage(
        input_tokens=counted.input_tokens,
        cached_input_tokens=counted.cache_read_tokens,
        output_tokens=counted.output_tokens,
        model_calls=1,
    )
    return pricing.priced(usage, cache_write_tokens=counted.cache_write_tokens)
