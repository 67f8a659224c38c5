"""The suite on a real model: SmolLM2-135M-Instruct behind llama.cpp. What it says is its own; how it says it is not."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.models.local import LocalSettings
from collegium.adapters.models.registry import ModelRegistry, ModelSettings
from collegium.domain import errors
from collegium.domain.chat import ModelReply
from collegium.testing.conformance.model import SLOW, ModelConformance, Scenario, ask
from tests.unit.models.local_model import default_model

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the module, so that its tests share one server; it ends with the folder's state file."""
    return tmp_path_factory.mktemp("local")


@pytest.fixture(scope="module", autouse=True)
def ended(folder: Path):
    yield
    for state in (folder / "local-servers").glob("*.json"):
        state.unlink()


class TestLocal(ModelConformance):
    # It neither refuses nor fails on demand, and it is asked here for text, not for tool calls.
    skips = frozenset(
        {"refusal", "tools", "auth", "not_found", "bad_request", "too_long", "rate_limited", "unavailable", SLOW.name}
    )

    @pytest.fixture(autouse=True)
    def data_dir(self, folder: Path) -> None:
        self.folder = folder

    @asynccontextmanager
    async def open(self, scenario: Scenario):
        models = ModelRegistry(
            environ={},
            data_dir=self.folder,
            clock=SystemClock(),
            random=lambda: 0.5,
            settings=ModelSettings(local=LocalSettings(context_tokens=1_024)),
        )
        yield await models.open(f"local:{await default_model()}")
        await models.aclose()

    def check(self, reply: ModelReply, scenario: Scenario) -> None:
        assert reply.text
        assert reply.finish in ("stop", "length")
        assert reply.usage.input_tokens > 0
        assert 0 < reply.usage.output_tokens <= scenario.request.max_output_tokens
        assert reply.usage.cost_usd == 0
        assert reply.is_price_known

    def check_same(self, reply: ModelReply, streamed: ModelReply) -> None:
        # The second time the prompt comes out of the server's cache: summed in another order, it may give other words.
        assert streamed.finish == reply.finish == "stop"

    async def test_what_does_not_fit_says_so(self) -> None:
        async with self.open(SLOW) as model:
            with pytest.raises(errors.ContextTooLong):
                await model.complete(ask("word " * 3_000))

    async def test_the_output_follows_the_schema(self) -> None:
        schema = {
            "type": "object",
            "properties": {"tool": {"enum": ["search", "answer"]}, "input": {"type": "string", "maxLength": 40}},
            "required": ["tool", "input"],
            "additionalProperties": False,
        }
        async with self.open(SLOW) as model:
            reply = await model.complete(ask(output_schema=schema, max_output_tokens=100))
            answer = msgspec.json.decode(reply.text)
            assert set(answer) == {"tool", "input"}
            assert answer["tool"] in ("search", "answer")

    async def test_a_prompt_seen_before_is_cached(self) -> None:
        async with self.open(SLOW) as model:
            await model.complete(ask("Tell me about the sea. " * 20, max_output_tokens=2))
            again = await model.complete(ask("Tell me about the sea. " * 20, max_output_tokens=2))
            assert again.usage.cached_input_tokens > 50

    async def test_a_long_call_can_be_cancelled(self) -> None:
        async with self.open(SLOW) as model:
            call = asyncio.ensure_future(model.complete(ask("Count to a thousand.", max_output_tokens=600)))
            done, _ = await asyncio.wait({call}, timeout=0.2)
            assert not done
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            # The slot is free again: the server heard that nobody listens any more.
            assert (await model.complete(ask(max_output_tokens=2))).text
