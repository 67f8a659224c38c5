"""The rich way in: OpenAI (Responses), Anthropic and Google through the model classes of ``pydantic-ai-slim``.

Only its ``direct`` layer is used, never its agents. Its own retries and the SDKs' are off: ``RetryingModel`` retries.
This module is imported only when such a model is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib import import_module
from typing import Protocol

import msgspec
from pydantic_ai import direct
from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
from pydantic_ai.settings import ModelSettings

from collegium.adapters.models.connections import Timeouts
from collegium.adapters.models.names import ModelName
from collegium.adapters.models.pricing import Pricing
from collegium.adapters.models.rich_errors import FAILURES, as_model_error
from collegium.adapters.models.rich_messages import as_history, as_parameters, as_reply
from collegium.adapters.models.rich_vendor import Vendor
from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest
from collegium.domain.errors import ModelReplyError


class _VendorModule(Protocol):
    def open_vendor(self, name: str, *, key: str, base_url: str | None, timeouts: Timeouts) -> Vendor: ...


_MODULES = {
    "openai": "collegium.adapters.models.rich_openai",
    "anthropic": "collegium.adapters.models.rich_anthropic",
    "google": "collegium.adapters.models.rich_google",
}


def open_rich(
    name: ModelName,
    *,
    key: str,
    base_url: str | None,
    profile: ModelProfile,
    pricing: Pricing,
    timeouts: Timeouts,
) -> RichModel:
    """The model called ``name``; imports its vendor's SDK, which takes about half a second."""
    module: _VendorModule = import_module(_MODULES[name.provider])
    vendor = module.open_vendor(name.name, key=key, base_url=base_url, timeouts=timeouts)
    where = profile.name if base_url is None else f"{profile.name} at {base_url}"
    return RichModel(vendor, profile=profile, pricing=pricing, timeouts=timeouts, key=key, where=where)


class RichModel:
    """A ``Model`` of one of the big vendors.

    Args:
        vendor: Its model, settings and client.
        profile: What the model can do.
        pricing: What calls cost.
        timeouts: ``total_s`` is held here, the others by the SDK's client.
        key: Kept out of every error.
        where: Named in errors.
    """

    def __init__(
        self,
        vendor: Vendor,
        *,
        profile: ModelProfile,
        pricing: Pricing,
        timeouts: Timeouts,
        key: str,
        where: str,
    ) -> None:
        self._vendor = vendor
        self._profile = profile
        self._pricing = pricing
        self._timeouts = timeouts
        self._key = key
        self._where = where

    def __repr__(self) -> str:
        return f"RichModel({self._profile.name!r})"

    @property
    def profile(self) -> ModelProfile:
        """What the model can do."""
        return self._profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply. See ``ports.Model``."""
        vendor = self._vendor
        try:
            async with asyncio.timeout(self._timeouts.total_s):
                response = await direct.model_request(
                    vendor.model,
                    as_history(request, marks_prefix=vendor.marks_prefix),
                    model_settings=_settings(vendor, request),
                    model_request_parameters=as_parameters(request, vendor.model),
                    instrument=False,
                )
        except FAILURES as error:
            raise as_model_error(error, where=self._where, secret=self._key) from error
        return self._reply(request, response)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Pieces of text, then the whole reply. See ``ports.Model``."""
        vendor = self._vendor
        deadline = asyncio.get_running_loop().time() + self._timeouts.total_s
        opening = direct.model_request_stream(
            vendor.model,
            as_history(request, marks_prefix=vendor.marks_prefix),
            model_settings=_settings(vendor, request),
            model_request_parameters=as_parameters(request, vendor.model),
            instrument=False,
        )
        try:
            async with AsyncExitStack() as stack:
                # Not one timeout around all: the block would be left in another task when a viewer goes away.
                async with asyncio.timeout_at(deadline):
                    streamed = await stack.enter_async_context(opening)
                events = aiter(streamed)
                while True:
                    try:
                        async with asyncio.timeout_at(deadline):
                            event = await anext(events)
                    except StopAsyncIteration:
                        break
                    if text := _text_of(event):
                        yield Delta(text=text)
                response = streamed.get()
        except FAILURES as error:
            raise as_model_error(error, where=self._where, secret=self._key) from error
        if response.finish_reason is None:
            raise ModelReplyError(f"{self._where} broke off its reply", model=self._profile.name)
        yield self._reply(request, response)

    async def aclose(self) -> None:
        """Closes the SDK's connections; twice is harmless."""
        await self._vendor.close()

    def _reply(self, request: ModelRequest, response: object) -> ModelReply:
        reply = as_reply(response, request, self._pricing, where=self._where)
        return reply if self._vendor.has_stop else _cut(reply, request.stop)


def _settings(vendor: Vendor, request: ModelRequest) -> ModelSettings:
    settings = vendor.settings(request)
    if settings.get("tool_choice") == "required" and not vendor.model.profile.get("supports_forced_tool_choice", True):
        # Models that always think cannot be forced to call; they are asked to, and may answer instead.
        settings["tool_choice"] = "auto"
    return settings


def _text_of(event: object) -> str:
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""


def _cut(reply: ModelReply, stop: tuple[str, ...]) -> ModelReply:
    ends = [end for text in stop if (end := reply.text.find(text)) >= 0]
    return msgspec.structs.replace(reply, text=reply.text[: min(ends)]) if ends else reply
