"""Google's generateContent on loopback; every answer is checked against the SDK's own types."""

import json
from typing import Any

from google.genai import types

from collegium.domain import errors
from collegium.domain.chat import ModelReply
from collegium.testing.conformance.model import Scenario
from collegium.testing.loopback import HttpAnswer, HttpRequest
from collegium.testing.model_server import stream_answer

_FINISH = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "refusal": "SAFETY"}
_ERRORS: dict[type[errors.ModelError], tuple[int, str, str]] = {
    errors.ModelAuthError: (403, "PERMISSION_DENIED", "The caller does not have permission"),
    errors.ModelNotFound: (404, "NOT_FOUND", "models/x is not found"),
    errors.ModelRequestError: (400, "INVALID_ARGUMENT", "Invalid value"),
    errors.ContextTooLong: (
        400,
        "INVALID_ARGUMENT",
        "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).",
    ),
    errors.ModelRateLimited: (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted"),
    errors.ModelUnavailable: (503, "UNAVAILABLE", "The service is currently unavailable"),
}


def answer(scenario: Scenario, request: HttpRequest) -> HttpAnswer:
    assert "/models/gemini-3.8-flash:" in request.path, request.path
    body = json.loads(request.body)
    for content in body["contents"]:
        types.Content.model_validate(content)
    if scenario.error is not None:
        return failure(scenario.error)
    if scenario.reply is None:
        return HttpAnswer(delay_s=60)
    if ":streamGenerateContent" in request.path:
        pieces = [f"data: {json.dumps(checked(chunk))}\n\n".encode() for chunk in chunks(scenario.reply)]
        return stream_answer(pieces)
    return HttpAnswer(body=json.dumps(checked(whole(scenario.reply))).encode())


def checked(response: dict[str, Any]) -> dict[str, Any]:
    types.GenerateContentResponse.model_validate(response)
    return response


def failure(error: errors.ModelError) -> HttpAnswer:
    status, code, message = _ERRORS[type(error)]
    problem: dict[str, Any] = {"code": status, "message": message, "status": code}
    wait = error.fields.get("retry_after_s")
    if wait is not None:
        # Gemini says how long to wait in the body, not in a header.
        problem["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait}s"}]
    return HttpAnswer(status=status, body=json.dumps({"error": problem}).encode())


def _response(parts: list[dict[str, Any]], finish: str | None, usage: dict[str, Any] | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    response: dict[str, Any] = {"candidates": [candidate], "modelVersion": "gemini-3.8-flash", "responseId": "r1"}
    if usage is not None:
        response["usageMetadata"] = usage
    return response


def _usage(reply: ModelReply) -> dict[str, Any]:
    return {
        "promptTokenCount": reply.usage.input_tokens,
        "cachedContentTokenCount": reply.usage.cached_input_tokens,
        "candidatesTokenCount": reply.usage.output_tokens,
        "totalTokenCount": reply.usage.tokens,
    }


def _parts(reply: ModelReply) -> list[dict[str, Any]]:
    if reply.finish == "refusal":
        return []
    parts: list[dict[str, Any]] = [{"text": reply.text}] if reply.text else []
    return parts + [{"functionCall": {"id": c.id, "name": c.name, "args": c.arguments}} for c in reply.tool_calls]


def whole(reply: ModelReply) -> dict[str, Any]:
    return _response(_parts(reply), _FINISH[reply.finish], _usage(reply))


def chunks(reply: ModelReply) -> list[dict[str, Any]]:
    out = []
    for part in _parts(reply):
        if "text" in part:
            half = len(part["text"]) // 2
            out += [_response([{"text": t}], None, None) for t in (part["text"][:half], part["text"][half:])]
        else:
            out.append(_response([part], None, None))
    return [*out, _response([], _FINISH[reply.finish], _usage(reply))]
