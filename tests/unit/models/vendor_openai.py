"""OpenAI's Responses API on loopback; every request and answer is checked against the published description."""

import json
from typing import Any

from collegium.domain.chat import ModelReply
from collegium.testing.conformance.model import Scenario
from collegium.testing.loopback import HttpAnswer, HttpRequest
from collegium.testing.model_server import as_http, stream_answer
from tests.contracts.openai_contract import check


def answer(scenario: Scenario, request: HttpRequest) -> HttpAnswer:
    assert request.path == "/v1/responses", request.path
    body = json.loads(request.body)
    check("CreateResponse", body)
    if scenario.error is not None:
        return as_http(scenario.error)
    if scenario.reply is None:
        return HttpAnswer(delay_s=60)
    if body.get("stream"):
        return stream_answer([event(e) for e in events(scenario.reply)])
    response = whole(scenario.reply)
    check("Response", response)
    return HttpAnswer(body=json.dumps(response).encode())


def event(data: dict[str, Any]) -> bytes:
    check("ResponseStreamEvent", data)
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def _base(status: str, reply: ModelReply | None) -> dict[str, Any]:
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_750_000_000,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "gpt-6.1-terra",
        "output": [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
    }
    return response if reply is None else {**response, "usage": _usage(reply)}


def _usage(reply: ModelReply) -> dict[str, Any]:
    return {
        "input_tokens": reply.usage.input_tokens,
        "input_tokens_details": {"cached_tokens": reply.usage.cached_input_tokens, "cache_write_tokens": 0},
        "output_tokens": reply.usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": reply.usage.tokens,
    }


def _content(reply: ModelReply, text: str) -> dict[str, Any]:
    if reply.finish == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _items(reply: ModelReply) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if reply.text:
        content = [_content(reply, reply.text)]
        items.append({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content})
    for call in reply.tool_calls:
        arguments = json.dumps(call.arguments)
        items.append(
            {
                "id": f"fc_{call.id}",
                "type": "function_call",
                "call_id": call.id,
                "name": call.name,
                "arguments": arguments,
                "status": "completed",
            }
        )
    return items


def whole(reply: ModelReply) -> dict[str, Any]:
    is_cut = reply.finish == "length"
    response = {**_base("incomplete" if is_cut else "completed", reply), "output": _items(reply)}
    if is_cut:
        response["incomplete_details"] = {"reason": "max_output_tokens"}
    return response


def events(reply: ModelReply) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = [{"type": "response.created", "response": _base("in_progress", None)}]
    for index, item in enumerate(_items(reply)):
        if item["type"] == "message":
            out += _message_events(reply, item, index)
        else:
            started = {**item, "arguments": "", "status": "in_progress"}
            where = {"output_index": index, "item_id": item["id"]}
            half = len(item["arguments"]) // 2
            out.append({"type": "response.output_item.added", "output_index": index, "item": started})
            for piece in (item["arguments"][:half], item["arguments"][half:]):
                out.append({"type": "response.function_call_arguments.delta", **where, "delta": piece})
            out.append(
                {
                    "type": "response.function_call_arguments.done",
                    **where,
                    "name": item["name"],
                    "arguments": item["arguments"],
                }
            )
        out.append({"type": "response.output_item.done", "output_index": index, "item": item})
    final = whole(reply)
    out.append({"type": f"response.{final['status']}", "response": final})
    return [{**data, "sequence_number": number} for number, data in enumerate(out)]


def _message_events(reply: ModelReply, item: dict[str, Any], index: int) -> list[dict[str, Any]]:
    kind = "refusal" if reply.finish == "refusal" else "output_text"
    where = {"output_index": index, "content_index": 0, "item_id": item["id"]}
    half = len(reply.text) // 2
    extra: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
    done = {"refusal": reply.text} if kind == "refusal" else {"text": reply.text}
    return [
        {
            "type": "response.output_item.added",
            "output_index": index,
            "item": {**item, "content": [], "status": "in_progress"},
        },
        {"type": "response.content_part.added", **where, "part": _content(reply, "")},
        *(
            {"type": f"response.{kind}.delta", **where, "delta": piece, **extra}
            for piece in (reply.text[:half], reply.text[half:])
        ),
        {"type": f"response.{kind}.done", **where, **done, **extra},
        {"type": "response.content_part.done", **where, "part": _content(reply, reply.text)},
    ]
