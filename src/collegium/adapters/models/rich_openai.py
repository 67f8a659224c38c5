"""OpenAI's Responses API, on the SDK's aiohttp transport."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import httpx2
from openai import AsyncOpenAI, DefaultAioHttpClient
from openai.resources.responses import AsyncResponses
from pydantic_ai.models.openai import OpenAIResponsesModel, OpenAIResponsesModelSettings
from pydantic_ai.providers.openai import OpenAIProvider

from collegium.adapters.models.chat_wire import prefix_key
from collegium.adapters.models.connections import Timeouts
from collegium.adapters.models.rich_vendor import Vendor
from collegium.domain.chat import ModelRequest


def open_vendor(name: str, *, key: str, base_url: str | None, timeouts: Timeouts) -> Vendor:
    """The model ``name`` at OpenAI, or at a transparent proxy to it (``base_url``)."""
    timeout = httpx2.Timeout(timeouts.between_bytes_s, connect=timeouts.connect_s)
    client = _Client(
        api_key=key,
        base_url=base_url,
        max_retries=0,
        timeout=timeout,
        http_client=DefaultAioHttpClient(timeout=timeout),
    )
    model = OpenAIResponsesModel(name, provider=OpenAIProvider(openai_client=client))
    # The Responses API has no stop texts.
    settings = partial(_settings, has_sampling=_has_sampling(model))
    return Vendor(model=model, settings=settings, close=client.close, has_stop=False)


class _Client(AsyncOpenAI):
    @cached_property
    def responses(self) -> AsyncResponses:
        return _Responses(self)


class _Responses(AsyncResponses):
    """The SDK's, told not to look through the conversation for what it would have to write otherwise.

    It holds every item against every kind of item there is, which takes longer than all else of a call and longer with
    every step; ours are plain JSON and stay as they are.
    """

    async def create(self, **given: Any) -> Any:
        """The response, or its stream; see the SDK."""
        plain = {name: given.pop(name) for name in ("input", "tools") if isinstance(given.get(name), list)}
        extra = given.pop("extra_body", None) or {}
        return await super().create(**given, extra_body={**plain, **extra})


def _has_sampling(model: OpenAIResponsesModel) -> bool:
    """Whether ``temperature`` may be sent: not to a model that thinks unless told otherwise."""
    profile = model.profile
    return not profile.get("openai_supports_reasoning") or (
        bool(profile.get("openai_supports_reasoning_effort_none")) and not profile.get("thinking_enabled_by_default")
    )


def _settings(request: ModelRequest, *, has_sampling: bool) -> OpenAIResponsesModelSettings:
    settings = OpenAIResponsesModelSettings(
        max_tokens=request.max_output_tokens,
        # The conversation is ours and in the journal; nothing of it stays at the vendor.
        openai_store=False,
    )
    if has_sampling:
        settings["temperature"] = request.temperature
    if request.tools and request.tool_choice != "auto":
        settings["tool_choice"] = request.tool_choice
    if request.cached_prefix:
        settings["openai_prompt_cache_key"] = prefix_key(request)
    return settings
