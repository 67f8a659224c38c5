"""Anthropic's Messages API, on the SDK's aiohttp transport."""

from __future__ import annotations

from functools import partial

import httpx2
from anthropic import AsyncAnthropic, DefaultAioHttpClient
from pydantic_ai.models.anthropic import AnthropicModel, AnthropicModelSettings
from pydantic_ai.providers.anthropic import AnthropicProvider

from collegium.adapters.models.connections import Timeouts
from collegium.adapters.models.rich_vendor import Vendor
from collegium.domain.chat import ModelRequest


def open_vendor(name: str, *, key: str, base_url: str | None, timeouts: Timeouts) -> Vendor:
    """The model ``name`` at Anthropic, or at a transparent proxy to it (``base_url``)."""
    timeout = httpx2.Timeout(timeouts.between_bytes_s, connect=timeouts.connect_s)
    client = AsyncAnthropic(
        api_key=key,
        base_url=base_url,
        max_retries=0,
        timeout=timeout,
        http_client=DefaultAioHttpClient(timeout=timeout),
    )
    model = AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))
    has_sampling = not model.profile.get("anthropic_disallows_sampling_settings")
    settings = partial(_settings, has_sampling=has_sampling)
    return Vendor(model=model, settings=settings, close=client.close, marks_prefix=True)


def _settings(request: ModelRequest, *, has_sampling: bool) -> AnthropicModelSettings:
    settings = AnthropicModelSettings(max_tokens=request.max_output_tokens)
    if has_sampling:
        settings["temperature"] = request.temperature
    if request.tools and request.tool_choice != "auto":
        settings["tool_choice"] = request.tool_choice
    if request.stop:
        settings["stop_sequences"] = list(request.stop)
    if request.cached_prefix:
        # `cache_control` on the last tool and the last system block; the end of the prefix is marked in the messages.
        settings["anthropic_cache_tool_definitions"] = True
        settings["anthropic_cache_instructions"] = True
    return settings
