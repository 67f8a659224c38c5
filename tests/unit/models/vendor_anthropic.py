"""Anthropic's Messages API on loopback; every request and answer is checked against the SDK's own types."""

import json
from typing import Any

from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from anthropic.types.beta.message_create_params import MessageCreateParams
from pydantic import TypeAdapter

from collegium.domain import errors
from collegium.domain.chat import ModelReply
from collegium.testing.conformance.model import Scenario
from collegium.testing.loopback import HttpAnswer, HttpRequest
from collegium.testing.model_server import stream_answer

_REQUEST: TypeAdapter[Any] = TypeAdapter(MessageCreateParams)
_EVENT: TypeAdapter[Any] = TypeAdapter(BetaRawMessageStreamEvent)
_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "refusal": "refusal"}
_ERRORS: dict[type[errors.ModelError], tuple[int, str]] = {
    errors.ModelAuthError: (401, "authentication_error"),
    errors.ModelNotFound: (404, "not_found_error"),
    errors.ModelRequestError: (400, "invalid_request_error"),
    errors.ContextTooLong: (400, "invalid_request_error"),
    errors.ModelRateLimited: (429, "rate_limit_error"),
    errors.ModelUnavailable: (500, "api_error"),
}


def answer(scenario: Scenario, request: HttpRequest) -> HttpAnswer:
    assert request.path.startswith("/v1/messages"), request.path
    body = json.loads(request.body)
    _REQUEST.validate_python(body)
    if scenario.error is not None:
        return failure(scenario.error)
    if scenario.reply is None:
        return HttpAnswer(delay_s=60)
    if body.get("stream"):
        return stream_answer([event(e) for e in events(scenario.reply)])
    message = whole(scenario.reply)
    BetaMessage.model_validate(message)
    return HttpAnswer(body=json.dumps(message).encode())


def failure(error: errors.ModelError) -> HttpAnswer:
    status, kind = _ERRORS[type(error)]
    wait = error.fields.get("retry_after_s")
    return error_answer(status, kind, error.message, wait_s=wait if isinstance(wait, float) else None)


def error_answer(status: int, kind: str, message: str, wait_s: float | None = None) -> HttpAnswer:
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    headers = (("retry-after", f"{wait_s:g}"),) if wait_s is not None else ()
    return HttpAnswer(status=status, body=json.dumps(body).encode(), headers=headers)


def event(data: dict[str, Any]) -> bytes:
    if data["type"] not in ("error", "ping"):  # the SDK reads these two without types
        _EVENT.validate_python(data)
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def _usage(reply: ModelReply) -> dict[str, Any]:
    # Anthropic's input_tokens leave out what was read from the cache.
    return {
        "input_tokens": reply.usage.input_tokens - reply.usage.cached_input_tokens,
        "cache_read_input_tokens": reply.usage.cached_input_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": reply.usage.output_tokens,
    }


def whole(reply: ModelReply) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text else []
    content += [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments} for c in reply.tool_calls]
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5-5",
        "content": [] if reply.finish == "refusal" else content,
        "stop_reason": _STOP[reply.finish],
        "stop_sequence": None,
        "usage": _usage(reply),
    }
    if reply.finish == "refusal":
        message["stop_details"] = {"type": "refusal", "category": None, "explanation": reply.text}
    return message


def events(reply: ModelReply) -> list[dict[str, Any]]:
    message = whole(reply)
    started = {**message, "content": [], "stop_reason": None, "usage": {**_usage(reply), "output_tokens": 1}}
    started.pop("stop_details", None)
    out: list[dict[str, Any]] = [{"type": "message_start", "message": started}, {"type": "ping"}]
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            start: dict[str, Any] = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in _halves(block["text"])]
        else:
            start = {**block, "input": {}}
            deltas = [
                {"type": "input_json_delta", "partial_json": piece} for piece in _halves(json.dumps(block["input"]))
            ]
        out.append({"type": "content_block_start", "index": index, "content_block": start})
        out += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        out.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    if "stop_details" in message:
        delta["stop_details"] = message["stop_details"]
    out.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": reply.usage.output_tokens}})
    out.append({"type": "message_stop"})
    return out


def _halves(text: str) -> list[str]:
    return [text[: len(text) // 2], text[len(text) // 2 :]]
