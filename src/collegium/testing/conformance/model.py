"""What every ``Model`` does: one behavioural suite for all ways in.

A subclass says how its model is made to give the answer of a ``Scenario``::

    class TestMyModel(ModelConformance):
        @asynccontextmanager
        async def open(self, scenario):
            async with my_scripted_vendor(scenario) as url:
                yield MyModel(url)

``skips`` names scenarios that the model's protocol cannot express. The suite needs pytest and pytest-asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager

import msgspec

from collegium.domain import errors
from collegium.domain.chat import ChatMessage, Delta, Json, ModelReply, ModelRequest, ToolCall, ToolSpec
from collegium.domain.usage import Usage
from collegium.ports import Model

SEARCH = ToolSpec(
    name="search",
    description="Finds passages.",
    parameters={"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
)
READ = ToolSpec(
    name="read",
    description="Reads lines of a file.",
    parameters={
        "type": "object",
        "properties": {"path": {"type": "string"}, "lines": {"type": "array", "items": {"type": "integer"}}},
        "required": ["path", "lines"],
    },
)
ANSWER_SCHEMA: Json = {
    "type": "object",
    "properties": {"owner": {"type": "string"}},
    "required": ["owner"],
    "additionalProperties": False,
}
CALLS = (
    ToolCall(id="call_a1", name="search", arguments={"query": "who owns payments?"}),
    ToolCall(id="call_b2", name="read", arguments={"path": "services/payments.md", "lines": [1, 20]}),
)
USAGE = Usage(input_tokens=120, cached_input_tokens=64, output_tokens=9, model_calls=1)


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, and what the far side answers: a reply, an error, or nothing for a long time."""

    name: str
    request: ModelRequest
    reply: ModelReply | None = None
    error: errors.ModelError | None = None


def ask(text: str = "Who owns the payments service?", **options: object) -> ModelRequest:
    """A request with a system message and a question."""
    base = ModelRequest(
        messages=(
            ChatMessage(role="system", text="You answer from the handbook."),
            ChatMessage(role="user", text=text),
        ),
        max_output_tokens=64,
    )
    return msgspec.structs.replace(base, **options)


def _talked() -> ModelRequest:
    """The second call of a conversation: a question, two calls, their results."""
    first = ask()
    results = (
        ChatMessage(role="assistant", text="I look it up.", tool_calls=CALLS),
        ChatMessage(role="tool", text="payments: team Ledger", call_id="call_a1", name="search"),
        ChatMessage(role="tool", text="owner = Ledger", call_id="call_b2", name="read"),
    )
    return msgspec.structs.replace(first, messages=(*first.messages, *results), tools=(SEARCH, READ), cached_prefix=2)


def _said(text: str, **fields: object) -> ModelReply:
    return msgspec.structs.replace(ModelReply(text=text, usage=USAGE), **fields)


TEXT = Scenario(name="text", request=ask(), reply=_said("The team Ledger owns the payments service."))
UNICODE = Scenario(
    name="unicode", request=ask("Größe? 🧾"), reply=_said('Ünïcode, 日本語, "quotes"\nand a second line 🧾')
)
TOOLS = Scenario(
    name="tools",
    request=ask(tools=(SEARCH, READ), tool_choice="required"),
    reply=_said("", tool_calls=CALLS, finish="tool_calls"),
)
RESULTS = Scenario(name="results", request=_talked(), reply=_said("Team Ledger."))
SCHEMA = Scenario(name="schema", request=ask(output_schema=ANSWER_SCHEMA), reply=_said('{"owner": "Ledger"}'))
CUT = Scenario(name="cut", request=ask(max_output_tokens=16), reply=_said("The team Led", finish="length"))
REFUSAL = Scenario(name="refusal", request=ask("Do harm."), reply=_said("I cannot help with that.", finish="refusal"))
SLOW = Scenario(name="slow", request=ask())
FAILURES = (
    Scenario(name="auth", request=ask(), error=errors.ModelAuthError("invalid key")),
    Scenario(name="not_found", request=ask(), error=errors.ModelNotFound("no such model")),
    Scenario(name="bad_request", request=ask(), error=errors.ModelRequestError("messages: unexpected value")),
    Scenario(name="too_long", request=ask(), error=errors.ContextTooLong("prompt is too long: maximum context length")),
    Scenario(name="rate_limited", request=ask(), error=errors.ModelRateLimited("slow down", retry_after_s=7.0)),
    Scenario(name="unavailable", request=ask(), error=errors.ModelUnavailable("internal server error")),
)


class ModelConformance:
    """The suite. Replies are compared in full where the scenario's far side is scripted."""

    skips: frozenset[str] = frozenset()
    counts_usage = True

    def open(self, scenario: Scenario) -> AbstractAsyncContextManager[Model]:
        """The model under test, behind which the answer of ``scenario`` waits (any number of times)."""
        raise NotImplementedError

    def check_same(self, reply: ModelReply, streamed: ModelReply) -> None:
        """Checks two answers to one request; a real model may say it in other words the second time."""
        assert streamed == reply

    async def test_profile_is_known_without_a_call(self) -> None:
        async with self.open(TEXT) as model:
            assert model.profile.name
            assert model.profile.context_tokens > 0
            assert model.profile == model.profile

    async def test_text(self) -> None:
        await self._both_ways(TEXT)

    async def test_text_beyond_ascii(self) -> None:
        await self._both_ways(UNICODE)

    async def test_parallel_tool_calls(self) -> None:
        await self._both_ways(TOOLS)

    async def test_results_of_tools_are_sent_back(self) -> None:
        await self._both_ways(RESULTS)

    async def test_structured_output_is_a_json_document(self) -> None:
        if SCHEMA.name in self.skips:
            return
        async with self.open(SCHEMA) as model:
            reply = await model.complete(SCHEMA.request)
            streamed = await whole(model, SCHEMA.request)
            assert "owner" in msgspec.json.decode(reply.text)
            assert "owner" in msgspec.json.decode(streamed.text)
            self.check_same(reply, streamed)

    async def test_a_reply_that_hits_the_cap_says_so(self) -> None:
        await self._both_ways(CUT)

    async def test_a_refusal_says_so(self) -> None:
        await self._both_ways(REFUSAL)

    async def test_failures_are_of_the_tree(self) -> None:
        for scenario in FAILURES:
            if scenario.name in self.skips or scenario.error is None:
                continue
            async with self.open(scenario) as model:
                await self._fails(scenario.error, model.complete(scenario.request), scenario.name)
                await self._fails(scenario.error, whole(model, scenario.request), scenario.name)

    async def test_a_call_can_be_cancelled(self) -> None:
        if SLOW.name in self.skips:
            return
        async with self.open(SLOW) as model:
            call = asyncio.ensure_future(model.complete(SLOW.request))
            done, _ = await asyncio.wait({call}, timeout=0.2)
            assert not done, "the far side answered although it should not"
            call.cancel()
            done, _ = await asyncio.wait({call}, timeout=5)
            assert done, "a cancelled call goes on"
            assert call.cancelled()

    async def test_a_stream_can_be_left(self) -> None:
        async with self.open(TEXT) as model:
            items = model.stream(TEXT.request)
            assert isinstance(await anext(items), Delta)
            await _close(items)
            assert (await model.complete(TEXT.request)).text

    async def test_calls_at_the_same_time(self) -> None:
        async with self.open(TEXT) as model:
            replies = await asyncio.gather(*(model.complete(TEXT.request) for _ in range(5)))
            assert all(reply.text for reply in replies)

    async def test_closing_twice_is_harmless(self) -> None:
        async with self.open(TEXT) as model:
            await model.complete(TEXT.request)
            await model.aclose()
            await model.aclose()

    async def _both_ways(self, scenario: Scenario) -> None:
        if scenario.name in self.skips:
            return
        async with self.open(scenario) as model:
            reply = await model.complete(scenario.request)
            self.check(reply, scenario)
            items = [item async for item in model.stream(scenario.request)]
            assert isinstance(items[-1], ModelReply)
            deltas = [item for item in items[:-1] if isinstance(item, Delta)]
            assert len(deltas) == len(items) - 1
            assert all(delta.text for delta in deltas)
            if reply.finish != "refusal":
                assert "".join(delta.text for delta in deltas) == items[-1].text
            self.check(items[-1], scenario)

    def check(self, reply: ModelReply, scenario: Scenario) -> None:
        """Raises ``AssertionError`` unless ``reply`` is what the scenario's far side said."""
        expected = scenario.reply
        assert expected is not None
        # Some vendors say only that they refuse, not why.
        assert reply.text == expected.text or (expected.finish == "refusal" and not reply.text)
        assert reply.finish == expected.finish
        assert [(c.name, c.arguments) for c in reply.tool_calls] == [(c.name, c.arguments) for c in expected.tool_calls]
        assert len({c.id for c in reply.tool_calls}) == len(reply.tool_calls)
        assert all(c.id for c in reply.tool_calls)
        assert reply.usage.model_calls == 1
        if self.counts_usage:
            assert reply.usage.input_tokens == USAGE.input_tokens
            assert reply.usage.output_tokens == USAGE.output_tokens
            assert reply.usage.cached_input_tokens == USAGE.cached_input_tokens

    async def _fails(self, expected: errors.ModelError, call: Awaitable[ModelReply], name: str) -> None:
        (raised,) = await asyncio.gather(call, return_exceptions=True)
        assert isinstance(raised, errors.ModelError), f"{name} gave {raised!r}"
        assert type(raised) is type(expected), f"{name}: {type(raised).__name__} ({raised})"
        if isinstance(expected, errors.ModelRateLimited):
            assert raised.fields["retry_after_s"] == expected.retry_after_s
        assert str(raised), name


async def whole(model: Model, request: ModelRequest) -> ModelReply:
    """The last item of the stream."""
    last: Delta | ModelReply | None = None
    async for item in model.stream(request):
        last = item
    assert isinstance(last, ModelReply)
    return last


async def _close(items: AsyncIterator[Delta | ModelReply]) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
