"""The Chat Completions wire format: requests encoded once, replies decoded into typed structs.

Source: OpenAI's OpenAPI description, operation ``createChatCompletion`` (trimmed under ``tests/contracts/``).
Fields that are not read here are skipped by the decoder without being built.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from collegium.adapters.models.dialects import Dialect, is_strict_schema
from collegium.domain.chat import ChatMessage, Json, ModelRequest, ToolSpec


class _Function(msgspec.Struct, omit_defaults=True):
    name: str
    arguments: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    parameters: Json | UnsetType = UNSET


class _Call(msgspec.Struct):
    id: str
    function: _Function
    type: str = "function"


class _Message(msgspec.Struct, omit_defaults=True):
    role: str
    content: str | None
    tool_calls: list[_Call] | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET


class _Tool(msgspec.Struct):
    function: _Function
    type: str = "function"


class _JsonSchema(msgspec.Struct, omit_defaults=True):
    name: str
    schema: Json
    strict: bool | UnsetType = UNSET


class _ResponseFormat(msgspec.Struct):
    json_schema: _JsonSchema
    type: str = "json_schema"


class _StreamOptions(msgspec.Struct):
    include_usage: bool


class _Body(msgspec.Struct, omit_defaults=True, kw_only=True):
    # The order is the order on the wire: what stays the same between calls comes first.
    model: str
    tools: list[_Tool] | UnsetType = UNSET
    tool_choice: str | UnsetType = UNSET
    messages: list[_Message]
    response_format: _ResponseFormat | UnsetType = UNSET
    temperature: float | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    stop: tuple[str, ...] | UnsetType = UNSET
    max_tokens: int | UnsetType = UNSET
    max_completion_tokens: int | UnsetType = UNSET
    prompt_cache_key: str | UnsetType = UNSET
    cache_prompt: bool | UnsetType = UNSET
    stream: bool | UnsetType = UNSET
    stream_options: _StreamOptions | UnsetType = UNSET


class FunctionPart(msgspec.Struct):
    """A function call, whole or one streamed piece of it. Some servers give arguments as an object."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class CallPart(msgspec.Struct):
    """A tool call, whole or one streamed piece; ``index`` says which call a piece belongs to."""

    function: FunctionPart
    id: str | None = None
    index: int | None = None


class Said(msgspec.Struct):
    """What the model said: a ``message``, or a ``delta`` of one."""

    content: str | None = None
    refusal: str | None = None
    tool_calls: list[CallPart] | None = None


class Choice(msgspec.Struct):
    """One choice; this adapter asks for one and reads the first."""

    message: Said | None = None
    delta: Said | None = None
    finish_reason: str | None = None


class TokenDetails(msgspec.Struct):
    """Parts of the input tokens."""

    cached_tokens: int | None = None


class TokenUsage(msgspec.Struct):
    """What was counted; ``prompt_tokens`` includes the cached ones."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: TokenDetails | None = None


class Completion(msgspec.Struct):
    """A whole reply, or one chunk of a stream. ``error`` is how servers report a failure inside a stream."""

    choices: list[Choice] | None = None
    usage: TokenUsage | None = None
    model: str | None = None
    error: dict[str, Any] | str | None = None


_ENCODE = msgspec.json.Encoder().encode
DECODE = msgspec.json.Decoder(Completion).decode


def encode_request(request: ModelRequest, model: str, dialect: Dialect, *, stream: bool) -> bytes:
    """The JSON body of the request; equal requests give equal bytes."""
    body = _Body(model=model, messages=[_message(m) for m in request.messages])
    if request.tools:
        body.tools = [_tool(t) for t in request.tools]
        if request.tool_choice != "auto":
            body.tool_choice = request.tool_choice
    if request.output_schema is not None:
        body.response_format = _response_format(request.output_schema, dialect)
    _set_options(body, request, dialect)
    if stream:
        body.stream = True
        body.stream_options = _StreamOptions(include_usage=True)
    return _ENCODE(body)


def prefix_key(request: ModelRequest) -> str:
    """A key that is the same for all requests that share their tools and first ``cached_prefix`` messages."""
    prefix = _ENCODE((request.tools, request.messages[: request.cached_prefix]))
    return hashlib.sha256(prefix).hexdigest()[:32]


def _response_format(schema: Json, dialect: Dialect) -> _ResponseFormat:
    strict: bool | UnsetType = is_strict_schema(schema) if dialect.has_strict else UNSET
    return _ResponseFormat(_JsonSchema(name="answer", schema=schema, strict=strict))


def _set_options(body: _Body, request: ModelRequest, dialect: Dialect) -> None:
    if dialect.has_sampling:
        body.temperature = request.temperature
        if request.stop:
            body.stop = request.stop
    if request.seed is not None:
        body.seed = request.seed
    if dialect.max_tokens_field == "max_tokens":
        body.max_tokens = request.max_output_tokens
    else:
        body.max_completion_tokens = request.max_output_tokens
    if dialect.has_prompt_cache_key and request.cached_prefix:
        body.prompt_cache_key = prefix_key(request)
    if dialect.has_cache_prompt:
        body.cache_prompt = True


def _message(message: ChatMessage) -> _Message:
    if message.role == "tool":
        return _Message("tool", message.text, tool_call_id=message.call_id or "")
    if message.tool_calls:
        calls = [_Call(c.id, _Function(c.name, arguments=_ENCODE(c.arguments).decode())) for c in message.tool_calls]
        return _Message(message.role, message.text or None, tool_calls=calls)
    return _Message(message.role, message.text)


def _tool(tool: ToolSpec) -> _Tool:
    return _Tool(_Function(tool.name, description=tool.description, parameters=tool.parameters))
