"""A scripted model server: Chat Completions over HTTP on loopback, for tests and benchmarks.

As a library::

    async with ModelServer([Step(reply="Lisbon")]) as server:
        model = await models.open(f"openai-compatible:any@{server.url}/v1")

As a process: ``python -m collegium.testing.model_server --text Lisbon --latency-ms 20`` prints its URL and serves until
it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from collegium.adapters.models.script import Script, Step
from collegium.adapters.models.script_file import load_script
from collegium.domain import errors
from collegium.domain.chat import ChatMessage, Json, ModelReply, ModelRequest, ToolCall, ToolSpec, estimate_tokens
from collegium.domain.usage import Usage
from collegium.testing.loopback import HttpAnswer, HttpRequest, LoopbackServer

Respond = Callable[[ModelRequest, bool], HttpAnswer]
"""From a request, and whether it asks for a stream, to an answer: for servers that misbehave."""

_STATUS: dict[type[errors.ModelError], int] = {
    errors.ModelUnavailable: 503,
    errors.ModelRateLimited: 429,
    errors.ModelAuthError: 401,
    errors.ModelNotFound: 404,
    errors.ModelRequestError: 400,
    errors.ContextTooLong: 400,
}
_CODES: dict[type[errors.ModelError], str] = {
    errors.ContextTooLong: "context_length_exceeded",
    errors.ModelNotFound: "model_not_found",
    errors.ModelAuthError: "invalid_api_key",
}
_FINISH = {"refusal": "content_filter"}
_encode = msgspec.json.encode


class ModelServer(LoopbackServer):
    """Answers ``POST .../chat/completions`` from a script, ``GET .../models`` with one model, all else with 404.

    ``verify`` (called at the end of ``async with``) raises ``AssertionError`` for unexpected requests and unused steps.

    Args:
        steps: What is expected and answered; see ``Step``. An ``error`` is answered with its HTTP status.
        ordered: See ``ScriptedModel``.
        respond: Answers instead of ``steps``.
        key: Asked for as a bearer token where it is not empty.
        port: 0 for any free one.
    """

    def __init__(
        self,
        steps: Iterable[Step] = (),
        *,
        ordered: bool = True,
        respond: Respond | None = None,
        key: str = "",
        port: int = 0,
    ) -> None:
        super().__init__(self._handle, port=port)
        self.script = Script(steps, ordered=ordered)
        self._respond = respond or self._scripted
        self._key = key

    async def __aexit__(self, *failure: object) -> None:
        await super().__aexit__(*failure)
        if failure[:1] == (None,):
            self.script.verify()

    def _handle(self, request: HttpRequest) -> HttpAnswer:
        if self._key and request.headers.get("authorization") != f"Bearer {self._key}":
            return error_answer(401, "Incorrect API key provided", code="invalid_api_key")
        path = request.path.partition("?")[0]
        if request.method == "POST" and path.endswith("/chat/completions"):
            body = msgspec.json.decode(request.body, type=dict[str, Any])
            return self._respond(model_request(body), bool(body.get("stream")))
        if request.method == "GET" and path.endswith("/models"):
            listed = {"id": "scripted", "object": "model", "created": 0, "owned_by": "collegium"}
            return HttpAnswer(body=_encode({"object": "list", "data": [listed]}))
        return HttpAnswer(status=404, body=b"<html><h1>404 Not Found</h1></html>", content_type="text/html")

    def _scripted(self, request: ModelRequest, stream: bool) -> HttpAnswer:
        try:
            step = self.script.take(request)
        except errors.ModelRequestError as error:
            return error_answer(400, error.message, code="unexpected_request")
        if step.error is not None:
            return msgspec.structs.replace(as_http(step.error), delay_s=step.delay_s)
        calls = step.numbered_calls(len(self.script.requests))
        reply = ModelReply(
            text=step.text_for(request),
            tool_calls=calls,
            finish=step.finish or ("tool_calls" if calls else "stop"),
            usage=step.usage or Usage(input_tokens=10, output_tokens=max(1, estimate_tokens(step.text_for(request)))),
        )
        return reply_answer(reply, stream=stream, delay_s=step.delay_s)


def reply_answer(reply: ModelReply, *, stream: bool, delay_s: float = 0.0) -> HttpAnswer:
    """``reply`` as a Chat Completions server sends it, whole or streamed."""
    if not stream:
        return HttpAnswer(body=_encode(_completion(reply)), delay_s=delay_s)
    events = [b"data: %b\n\n" % _encode(chunk) for chunk in _chunks(reply)]
    return stream_answer([*events, b"data: [DONE]\n\n"], delay_s=delay_s)


def stream_answer(pieces: Sequence[bytes], *, delay_s: float = 0.0, is_cut: bool = False) -> HttpAnswer:
    """An event stream of the given bytes."""

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return HttpAnswer(body=body, content_type="text/event-stream", delay_s=delay_s, is_cut=is_cut)


def endless_answer(piece: bytes, *, content_type: str = "text/event-stream") -> HttpAnswer:
    """An answer that never ends."""

    async def body() -> AsyncIterator[bytes]:
        while True:
            yield piece

    return HttpAnswer(body=body, content_type=content_type)


def error_answer(
    status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
) -> HttpAnswer:
    """A failure as OpenAI words it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = _encode({"error": {"message": message, "type": kind, "param": None, "code": code}})
    return HttpAnswer(status=status, body=body, headers=tuple((headers or {}).items()))


def as_http(error: errors.ModelError) -> HttpAnswer:
    """``error`` as the HTTP answer that makes the lean adapter raise the same; an unreadable reply is garbage."""
    if isinstance(error, errors.ModelReplyError):
        return HttpAnswer(body=b'{"choices": [{"mess')
    wait = error.fields.get("retry_after_s")
    headers = {"Retry-After": f"{wait:g}"} if isinstance(wait, int | float) else {}
    return error_answer(_STATUS.get(type(error), 500), error.message, code=_CODES.get(type(error)), headers=headers)


def model_request(body: Json) -> ModelRequest:
    """The ``ModelRequest`` that a Chat Completions body came from, as far as scripts look at it."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    return ModelRequest(
        messages=tuple(_message(m) for m in body["messages"]),
        tools=tuple(
            ToolSpec(name=f["name"], description=f.get("description", ""), parameters=f.get("parameters", {}))
            for f in (tool["function"] for tool in body.get("tools", ()))
        ),
        output_schema=schema,
        max_output_tokens=body.get("max_completion_tokens") or body.get("max_tokens") or 1024,
        temperature=body.get("temperature", 0.0),
    )


def _message(message: Json) -> ChatMessage:
    calls = tuple(
        ToolCall(id=c["id"], name=c["function"]["name"], arguments=msgspec.json.decode(c["function"]["arguments"]))
        for c in message.get("tool_calls") or ()
    )
    return ChatMessage(
        role=message["role"],
        text=message.get("content") or "",
        tool_calls=calls,
        call_id=message.get("tool_call_id"),
    )


def _completion(reply: ModelReply) -> Json:
    is_refusal = reply.finish == "refusal"
    message: Json = {
        "role": "assistant",
        "content": None if is_refusal or not reply.text else reply.text,
        "refusal": reply.text if is_refusal else None,
    }
    if reply.tool_calls:
        message["tool_calls"] = [_wire_call(call) for call in reply.tool_calls]
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": "stop" if is_refusal else reply.finish,
        "logprobs": None,
    }
    return {**_envelope("chat.completion"), "choices": [choice], "usage": _usage(reply.usage)}


def _chunks(reply: ModelReply) -> list[Json]:
    chunk = _envelope("chat.completion.chunk")

    def with_delta(delta: Json, finish: str | None = None) -> Json:
        return {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    chunks = [with_delta({"role": "assistant", "content": ""})]
    field = "refusal" if reply.finish == "refusal" else "content"
    for position, word in enumerate(reply.text.split(" ") if reply.text else ()):
        chunks.append(with_delta({field: word if position == 0 else f" {word}"}))
    for index, call in enumerate(reply.tool_calls):
        wire = _wire_call(call)
        arguments = wire["function"]["arguments"]
        half = len(arguments) // 2
        started = {**wire, "index": index, "function": {"name": call.name, "arguments": arguments[:half]}}
        chunks.append(with_delta({"tool_calls": [started]}))
        chunks.append(with_delta({"tool_calls": [{"index": index, "function": {"arguments": arguments[half:]}}]}))
    chunks.append(with_delta({}, "stop" if reply.finish == "refusal" else reply.finish))
    chunks.append({**chunk, "choices": [], "usage": _usage(reply.usage)})
    return chunks


def _envelope(kind: str) -> Json:
    return {"id": "chatcmpl-scripted", "object": kind, "created": 1_750_000_000, "model": "scripted"}


def _wire_call(call: ToolCall) -> Json:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": _encode(call.arguments).decode()},
    }


def _usage(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
    }


async def serve(steps: Iterable[Step], *, ordered: bool, port: int) -> None:
    """Serves ``steps`` until cancelled; writes the URL to stdout."""
    server = ModelServer(steps, ordered=ordered, port=port)
    await server.start()
    sys.stdout.write(f"{server.url}/v1\n")
    sys.stdout.flush()
    await server.serve_forever()


def main(arguments: Sequence[str]) -> None:
    """Runs the server with command-line options: ``--port N`` and ``--script FILE``, or ``--text T --latency-ms N``."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    port = int(options.get("--port", "0"))
    if "--script" in options:
        loaded = load_script(options["--script"])
        steps, ordered = loaded.as_steps(), loaded.ordered
    else:
        delay_s = float(options.get("--latency-ms", "0")) / 1_000
        steps, ordered = [Step(reply=options.get("--text", "ok"), delay_s=delay_s, times=None)], False
    asyncio.run(serve(steps, ordered=ordered, port=port))


if __name__ == "__main__":
    main(sys.argv[1:])
