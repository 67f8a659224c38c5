"""The lean adapter against servers that misbehave, and what it sends."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from collegium.adapters.models.connections import Connections, Timeouts
from collegium.adapters.models.dialects import GENERIC, LLAMA_CPP, OPENAI, is_strict_schema, openai_dialect
from collegium.adapters.models.openai_compatible import OpenAICompatibleModel
from collegium.domain import errors
from collegium.domain.chat import Delta, ModelReply, ModelRequest, ToolCall
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.model import ANSWER_SCHEMA, RESULTS, TEXT, TOOLS, ask, whole
from collegium.testing.loopback import HttpAnswer, LoopbackServer
from collegium.testing.model_server import ModelServer, endless_answer, error_answer, reply_answer, stream_answer
from collegium.testing.scripted import SCRIPTED_PROFILE, Step

KEY = "sk-secret-0123456789abcdef"
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def model_at(url: str, connections: Connections, **options: Any) -> OpenAICompatibleModel:
    return OpenAICompatibleModel(
        "some-model", url, key=KEY, profile=SCRIPTED_PROFILE, connections=connections, clock=FakeClock(NOW), **options
    )


@asynccontextmanager
async def answered(answer: Callable[[ModelRequest, bool], HttpAnswer] | HttpAnswer, **options: Any):
    respond = answer if callable(answer) else lambda *_: answer
    async with ModelServer(respond=respond) as server:
        connections = Connections()
        yield model_at(f"{server.url}/v1", connections, **options), server
        await connections.aclose()


async def fails(answer: Any, kind: type[errors.ModelError], *, both: bool = True, **options: Any) -> errors.ModelError:
    async with answered(answer, **options) as (model, server):
        with pytest.raises(errors.ModelError) as caught:
            await model.complete(ask())
        error = caught.value
        assert type(error) is kind, repr(error)
        assert server.url in str(error)
        if both:
            with pytest.raises(kind):
                await whole(model, ask())
        assert KEY not in f"{error} {error.fields} {model!r}"
        return error


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return (
        b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode() + b"\n\n"
    )


@pytest.mark.parametrize(
    ("header", "value", "seconds"),
    [
        ("Retry-After", "7", 7.0),
        ("Retry-After", "0.25", 0.25),
        ("Retry-After", "Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Retry-After", "Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("retry-after-ms", "1500", 1.5),
        ("Retry-After", "soon", None),
    ],
)
async def test_retry_after(header: str, value: str, seconds: float | None) -> None:
    answer = error_answer(429, "slow down", headers={header: value})
    assert (await fails(answer, errors.ModelRateLimited)).fields["retry_after_s"] == seconds


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.ModelRequestError),
        (401, errors.ModelAuthError),
        (402, errors.ModelAuthError),
        (403, errors.ModelAuthError),
        (404, errors.ModelNotFound),
        (408, errors.ModelUnavailable),
        (413, errors.ContextTooLong),
        (422, errors.ModelRequestError),
        (429, errors.ModelRateLimited),
        (500, errors.ModelUnavailable),
        (503, errors.ModelUnavailable),
        (529, errors.ModelRateLimited),
    ],
)
async def test_statuses(status: int, kind: type[errors.ModelError]) -> None:
    error = await fails(error_answer(status, f"no {KEY} sk-proj-abc***xyz"), kind)
    assert error.fields["status"] == status
    assert "xyz" not in str(error)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("context_length_exceeded", "too much"),
        (None, "This model's maximum context length is 4096 tokens"),
    ],
)
async def test_too_long(code: str | None, message: str) -> None:
    await fails(error_answer(400, message, code=code), errors.ContextTooLong)


async def test_too_long_for_llama_cpp() -> None:
    body = b'{"error": {"code": 400, "message": "request (9 tokens) exceeds", "type": "exceed_context_size_error"}}'
    await fails(HttpAnswer(status=400, body=body), errors.ContextTooLong)


async def test_no_credit_is_not_retried() -> None:
    error = await fails(error_answer(429, "You exceeded your quota", code="insufficient_quota"), errors.ModelAuthError)
    assert not error.retryable


@pytest.mark.parametrize("status", [200, 301, 404, 405])
async def test_a_web_page_says_to_correct_the_url(status: int) -> None:
    page = HttpAnswer(status=status, body=b"<!doctype html><h1>Welcome</h1>", content_type="text/html")
    assert "base URL" in str(await fails(page, errors.ModelNotFound))


async def test_an_unknown_model_is_named() -> None:
    answer = error_answer(404, "The model does not exist", code="model_not_found")
    assert "some-model" in str(await fails(answer, errors.ModelNotFound))


@pytest.mark.parametrize(
    "body",
    [
        b'{"choi',
        b"\xff\xfe",
        b"null",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}',
    ],
)
async def test_garbage(body: bytes) -> None:
    await fails(HttpAnswer(body=body), errors.ModelReplyError)


async def test_garbage_in_a_stream() -> None:
    await fails(stream_answer([b"data: {nonsense\n\n"]), errors.ModelReplyError)


async def test_a_reply_of_endless_bytes() -> None:
    endless = endless_answer(b"x" * 4_096, content_type="application/json")
    error = await fails(endless, errors.ModelReplyError, max_reply_bytes=100_000)
    assert "100,000" in str(error)


async def test_a_stream_of_endless_text() -> None:
    await fails(endless_answer(chunk({"content": "la "})), errors.ModelReplyError, max_reply_bytes=100_000)


async def test_a_stream_without_a_line_end() -> None:
    await fails(endless_answer(b"data: la la"), errors.ModelReplyError, max_reply_bytes=100_000)


async def test_a_stream_that_only_keeps_alive_ends_with_the_total_time() -> None:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b": alive\n\n"
            await asyncio.sleep(0.02)

    answer = HttpAnswer(body=drip, content_type="text/event-stream")
    error = await fails(answer, errors.ModelUnavailable, timeouts=Timeouts(total_s=0.3))
    assert "total time" in str(error)


async def test_silence() -> None:
    error = await fails(HttpAnswer(delay_s=30), errors.ModelUnavailable, timeouts=Timeouts(between_bytes_s=0.2))
    assert "sent nothing" in str(error)


async def test_nobody_there() -> None:
    connections = Connections()
    with pytest.raises(errors.ModelUnavailable, match=r"http://127\.0\.0\.1:1/v1.*is the server running"):
        await model_at("http://127.0.0.1:1/v1", connections).complete(ask())
    await connections.aclose()


async def test_a_host_that_does_not_exist() -> None:
    connections = Connections()
    with pytest.raises(errors.ModelUnavailable, match=r"cannot be resolved|cannot be reached"):
        await model_at("http://no-such-host.invalid/v1", connections).complete(ask())
    await connections.aclose()


async def test_a_reply_that_is_cut() -> None:
    reply = TEXT.reply
    assert reply is not None

    def respond(request: ModelRequest, stream: bool) -> HttpAnswer:
        answer = reply_answer(reply, stream=False)
        return msgspec.structs.replace(answer, is_cut=True)

    await fails(respond, errors.ModelUnavailable)


@pytest.mark.parametrize("is_cut", [True, False])
async def test_a_stream_that_is_cut(is_cut: bool) -> None:
    answer = stream_answer([chunk({"content": "The team"})], is_cut=is_cut)
    async with answered(answer) as (model, _):
        items = model.stream(ask())
        assert await anext(items) == Delta(text="The team")
        with pytest.raises(errors.ModelUnavailable if is_cut else errors.ModelReplyError):
            await anext(items)


async def test_a_failure_reported_inside_a_stream() -> None:
    answer = stream_answer([chunk({"content": "The"}), b'data: {"error": {"message": "oops", "code": 503}}\n\n'])
    async with answered(answer) as (model, _):
        with pytest.raises(errors.ModelUnavailable, match="oops"):
            await whole(model, ask())


async def test_a_stream_without_usage_done_or_last_blank_line() -> None:
    pieces = [
        b": hello\r\n\r\n",
        chunk({"content": "Led"}).replace(b"\n", b"\r\n"),
        chunk({"content": "ger"}, "stop")[:-2],
    ]
    async with answered(stream_answer(pieces)) as (model, _):
        reply = await whole(model, ask())
        assert (reply.text, reply.finish) == ("Ledger", "stop")


async def test_a_server_that_cannot_stream() -> None:
    reply = TEXT.reply
    assert reply is not None
    async with answered(lambda *_: reply_answer(reply, stream=False)) as (model, _):
        items = [item async for item in model.stream(ask())]
        assert items[0] == Delta(text=reply.text)
        assert len(items) == 2


async def test_a_stream_leaves_its_connection_to_the_next_call() -> None:
    async with ModelServer([Step(reply="Ledger", times=None)]) as server:
        connections = Connections()
        model = model_at(f"{server.url}/v1", connections)
        for _ in range(5):
            await whole(model, ask())
            await model.complete(ask())
        assert server.connections == 1
        await connections.aclose()


def calling(arguments: object, finish: str = "tool_calls") -> HttpAnswer:
    call = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return HttpAnswer(body=json.dumps({"choices": [{"message": message, "finish_reason": finish}]}).encode())


async def test_arguments_that_are_no_json_object() -> None:
    for arguments in ("{broken", "[1]", '"text"'):
        await fails(calling(arguments), errors.ModelReplyError)


@pytest.mark.parametrize("arguments", ['{"query": "x"}', {"query": "x"}])
@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
async def test_arguments_as_text_or_object(arguments: object, finish: str) -> None:
    async with answered(calling(arguments, finish)) as (model, _):
        reply = await model.complete(ask())
        assert reply.tool_calls == (ToolCall(id="c1", name="search", arguments={"query": "x"}),)
        assert reply.finish == "tool_calls"


async def test_a_call_that_is_cut_is_no_call() -> None:
    async with answered(calling('{"query": "x', "length")) as (model, _):
        reply = await model.complete(ask())
        assert (reply.tool_calls, reply.finish) == ((), "length")


async def sent(request: ModelRequest, dialect: Any) -> dict[str, Any]:
    reply = ModelReply(text="ok")
    async with answered(lambda *_: reply_answer(reply, stream=False), dialect=dialect) as (model, server):
        await model.complete(request)
        assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"
        body: dict[str, Any] = json.loads(server.requests[-1].body)
        return body


async def test_what_a_generic_server_is_sent() -> None:
    body = await sent(RESULTS.request, GENERIC)
    assert body["max_tokens"] == 64
    assert body["temperature"] == 0.0
    assert not {"max_completion_tokens", "prompt_cache_key", "cache_prompt", "stream"} & set(body)
    assert [m["role"] for m in body["messages"]] == ["system", "user", "assistant", "tool", "tool"]
    assert json.loads(body["messages"][2]["tool_calls"][1]["function"]["arguments"])["lines"] == [1, 20]


async def test_what_openai_is_sent() -> None:
    body = await sent(RESULTS.request, OPENAI)
    assert body["max_completion_tokens"] == 64
    later = await sent(msgspec.structs.replace(RESULTS.request, seed=3), OPENAI)
    assert body["prompt_cache_key"] == later["prompt_cache_key"]
    assert "temperature" not in await sent(TOOLS.request, openai_dialect("gpt-6.1-terra"))
    assert "temperature" in await sent(TOOLS.request, openai_dialect("gpt-4o"))


async def test_what_llama_cpp_is_sent() -> None:
    assert (await sent(ask(), LLAMA_CPP))["cache_prompt"] is True


async def test_strict_is_said_only_of_schemas_that_can_be() -> None:
    body = await sent(ask(output_schema=ANSWER_SCHEMA), OPENAI)
    assert body["response_format"]["json_schema"]["strict"] is True
    open_schema = {
        "type": "object",
        "properties": {"a": {"type": "object"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert not is_strict_schema(open_schema)
    assert is_strict_schema({"type": "array", "items": ANSWER_SCHEMA})


async def test_keys_do_not_follow_redirects() -> None:
    async with LoopbackServer(lambda _: HttpAnswer(body=b"{}")) as elsewhere:
        moved = HttpAnswer(status=307, headers=(("Location", f"{elsewhere.url}/v1/chat/completions"),))
        await fails(moved, errors.ModelNotFound)
        assert elsewhere.requests == []
