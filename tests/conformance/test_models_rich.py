"""OpenAI (Responses), Anthropic and Google through their SDKs, against scripted vendors on loopback."""

from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import pytest

from collegium.adapters.models.connections import Timeouts
from collegium.adapters.models.names import parse_name
from collegium.adapters.models.pricing import FREE_PRICING
from collegium.testing.conformance.model import ModelConformance, Scenario
from collegium.testing.loopback import LoopbackServer
from collegium.testing.scripted import SCRIPTED_PROFILE

KEY = "sk-test-0123456789abcdef"


class RichConformance(ModelConformance):
    name: str
    extra: str
    vendor: Any
    path = ""

    @asynccontextmanager
    async def open(self, scenario: Scenario):
        pytest.importorskip(self.extra)
        from collegium.adapters.models.rich import open_rich

        vendor = import_module(self.vendor)
        async with LoopbackServer(lambda request: vendor.answer(scenario, request)) as server:
            model = open_rich(
                parse_name(self.name),
                key=KEY,
                base_url=server.url + self.path,
                profile=SCRIPTED_PROFILE,
                pricing=FREE_PRICING,
                timeouts=Timeouts(),
            )
            try:
                yield model
            finally:
                await model.aclose()


class TestOpenAI(RichConformance):
    name = "openai:gpt-6.1-terra"
    extra = "openai"
    vendor = "tests.unit.models.vendor_openai"
    path = "/v1"


class TestAnthropic(RichConformance):
    name = "anthropic:claude-sonnet-5-5"
    extra = "anthropic"
    vendor = "tests.unit.models.vendor_anthropic"


# Google's SDK derives from aiohttp's session, which aiohttp discourages.
@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
class TestGoogle(RichConformance):
    name = "google:gemini-3.8-flash"
    extra = "google.genai"
    vendor = "tests.unit.models.vendor_google"
