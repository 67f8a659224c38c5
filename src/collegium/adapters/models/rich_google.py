"""Google's Gemini API; its SDK uses aiohttp by itself where that is installed."""

from __future__ import annotations

from google.genai import Client
from google.genai.types import HttpOptions, HttpRetryOptions
from pydantic_ai.models.google import GoogleModel, GoogleModelSettings
from pydantic_ai.providers.google import GoogleProvider

from collegium.adapters.models.connections import Timeouts
from collegium.adapters.models.rich_vendor import Vendor
from collegium.domain.chat import ModelRequest


def open_vendor(name: str, *, key: str, base_url: str | None, timeouts: Timeouts) -> Vendor:
    """The model ``name`` at Google, or at a transparent proxy to it (``base_url``)."""
    # One attempt, said aloud: otherwise the SDK asks again after a broken connection, up to ten seconds later.
    options = HttpOptions(
        base_url=base_url,
        timeout=int(timeouts.between_bytes_s * 1_000),
        retry_options=HttpRetryOptions(attempts=1),
    )
    client = Client(vertexai=False, api_key=key, http_options=options)
    model = GoogleModel(name, provider=GoogleProvider(client=client))
    return Vendor(model=model, settings=_settings, close=client.aio.aclose)


def _settings(request: ModelRequest) -> GoogleModelSettings:
    settings = GoogleModelSettings(max_tokens=request.max_output_tokens, temperature=request.temperature)
    if request.tools and request.tool_choice != "auto":
        settings["tool_choice"] = request.tool_choice
    if request.stop:
        settings["stop_sequences"] = list(request.stop)
    if request.seed is not None:
        settings["seed"] = request.seed
    return settings
