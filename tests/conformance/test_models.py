"""The models that need no vendor: lean, scripted, cassette, and what wraps a model."""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.models.caching import CachingModel
from collegium.adapters.models.cassette import CassettePlayer, CassetteRecorder
from collegium.adapters.models.connections import Connections
from collegium.adapters.models.dialects import GENERIC, OPENAI, Dialect
from collegium.adapters.models.fallback import FallbackModel
from collegium.adapters.models.openai_compatible import OpenAICompatibleModel
from collegium.adapters.models.pricing import FREE_PRICING
from collegium.adapters.models.retrying import RetryingModel, RetryPolicy
from collegium.domain.chat import ModelRequest
from collegium.testing.conformance.model import SLOW, ModelConformance, Scenario, whole
from collegium.testing.loopback import HttpAnswer
from collegium.testing.model_server import ModelServer, as_http, reply_answer
from collegium.testing.scripted import SCRIPTED_PROFILE, ScriptedModel, Step
from tests.contracts.openai_contract import check

KEY = "sk-test-0123456789abcdef"


def checked_server(scenario: Scenario) -> ModelServer:
    """A Chat Completions server that answers the scenario; requests and answers are checked against the contract."""

    def respond(request: ModelRequest, stream: bool) -> HttpAnswer:
        check("CreateChatCompletionRequest", json.loads(server.requests[-1].body))
        if scenario.error is not None:
            answer = as_http(scenario.error)
            assert isinstance(answer.body, bytes)
            check("ErrorResponse", json.loads(answer.body))
            return answer
        if scenario.reply is None:
            return HttpAnswer(delay_s=60)
        return reply_answer(scenario.reply, stream=stream)

    server = ModelServer(respond=respond, key=KEY)
    return server


class TestLean(ModelConformance):
    dialect: Dialect = GENERIC

    @asynccontextmanager
    async def open(self, scenario):
        async with checked_server(scenario) as server:
            connections = Connections()
            yield OpenAICompatibleModel(
                "some-model",
                f"{server.url}/v1",
                key=KEY,
                profile=SCRIPTED_PROFILE,
                connections=connections,
                clock=SystemClock(),
                dialect=self.dialect,
                pricing=FREE_PRICING,
            )
            await connections.aclose()


class TestLeanAtOpenAI(TestLean):
    dialect = OPENAI


def scripted(scenario: Scenario) -> ScriptedModel:
    reply = scenario.reply
    if reply is None:
        return ScriptedModel([Step(error=scenario.error, delay_s=0 if scenario.error else 60, times=None)])
    return ScriptedModel(
        [Step(reply=reply.text, tool_calls=reply.tool_calls, finish=reply.finish, usage=reply.usage, times=None)]
    )


class TestScripted(ModelConformance):
    @asynccontextmanager
    async def open(self, scenario):
        yield scripted(scenario)


class TestRetrying(ModelConformance):
    @asynccontextmanager
    async def open(self, scenario):
        yield RetryingModel(
            scripted(scenario), clock=SystemClock(), random=lambda: 0.5, policy=RetryPolicy(attempts=2, total_s=0.1)
        )


class TestFallback(ModelConformance):
    @asynccontextmanager
    async def open(self, scenario):
        yield FallbackModel([scripted(scenario), scripted(scenario)], clock=SystemClock())


class ForgetfulCache:
    """Keeps nothing: what is asked is asked."""

    async def get(self, key: str) -> bytes | None:
        return None

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        pass


class TestCaching(ModelConformance):
    @asynccontextmanager
    async def open(self, scenario):
        yield CachingModel(scripted(scenario), ForgetfulCache())


class TestCassette(ModelConformance):
    """Plays what a recorder wrote: every call of the suite is recorded as often as it is made."""

    skips = frozenset({SLOW.name})

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "calls.jsonl"

    @asynccontextmanager
    async def open(self, scenario):
        recorder = CassetteRecorder(scripted(scenario), self.path)
        for _ in range(6):
            await asyncio.gather(recorder.complete(scenario.request), return_exceptions=True)
        await asyncio.gather(whole(recorder, scenario.request), return_exceptions=True)
        yield CassettePlayer(self.path)
