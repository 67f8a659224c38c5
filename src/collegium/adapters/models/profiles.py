"""What known models can do: hosted families, and local or self-hosted models by their number of weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from collegium.adapters.models.gguf import GgufHeader
from collegium.adapters.models.names import ModelName
from collegium.adapters.models.prices import Listing
from collegium.domain.chat import ModelProfile
from collegium.domain.usage import FREE

_SMALL, _MEDIUM = 1_000_000_000, 4_000_000_000
# "qwen2.5-0.5b-instruct", "llama3.2:1b", "SmolLM2-135M": the number before a B or M that ends there.
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s?([bm])(?![a-z0-9])", re.IGNORECASE)
_CONTEXT = {"openai": 128_000, "anthropic": 200_000, "google": 1_000_000}
_MAX_OUTPUT = {"openai": 16_384, "anthropic": 8_192, "google": 8_192}
_GENAI_NAMES = {"openai": "openai", "anthropic": "anthropic", "google": "gcp.gemini"}

ToolMode = Literal["native", "schema", "none"]


class ProfileChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the user's configuration says of a model; what is None stays as known or guessed."""

    tool_mode: ToolMode | None = None
    can_plan: bool | None = None
    can_write: bool | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None


def hosted_profile(name: ModelName, listing: Listing) -> ModelProfile:
    """The profile of a model at OpenAI, Anthropic or Google: all of them plan, write and call tools."""
    return ModelProfile(
        name=name.text,
        provider=_GENAI_NAMES[name.provider],
        tool_mode="native",
        can_plan=True,
        can_write=True,
        context_tokens=listing.context_tokens or _CONTEXT[name.provider],
        max_output_tokens=_MAX_OUTPUT[name.provider],
        price=listing.pricing.price,
    )


def endpoint_profile(name: ModelName, listing: Listing) -> ModelProfile:
    """The profile of a model at any compatible URL, by the number of weights that its name tells.

    A server on loopback costs nothing; a proxy there that forwards to a provider needs a configured price.
    """
    is_local = is_loopback(name.base_url or "")
    tool_mode, can_plan, can_write = _by_size(weights_in_name(name.name), has_tools=True)
    return ModelProfile(
        name=name.text,
        provider="openai_compatible",
        tool_mode=tool_mode,
        can_plan=can_plan,
        can_write=can_write,
        context_tokens=listing.context_tokens or 8_192,
        price=FREE if is_local else listing.pricing.price,
        is_local=is_local,
    )


def local_profile(name: str, header: GgufHeader, context_tokens: int) -> ModelProfile:
    """The profile of a GGUF file that is run here with ``context_tokens``."""
    tool_mode, can_plan, can_write = _by_size(header.parameters, has_tools=header.has_tools)
    return ModelProfile(
        name=name,
        provider="llama.cpp",
        tool_mode=tool_mode,
        can_plan=can_plan,
        can_write=can_write,
        context_tokens=context_tokens,
        max_output_tokens=context_tokens // 2,
        price=FREE,
        is_local=True,
    )


def changed(profile: ModelProfile, changes: Mapping[str, ProfileChange]) -> ModelProfile:
    """``profile`` with what ``changes`` says of its name; keys may be patterns (``openai:gpt-4*``), later ones win."""
    for pattern, change in changes.items():
        if fnmatchcase(profile.name, pattern):
            fields = {field: value for field, value in msgspec.structs.asdict(change).items() if value is not None}
            profile = msgspec.structs.replace(profile, **fields)
    return profile


def weights_in_name(name: str) -> int | None:
    """How many weights a model's name claims, or None."""
    found = _SIZE.findall(name)
    if not found:
        return None
    number, unit = found[-1]
    return int(float(number) * (1e9 if unit in "bB" else 1e6))


def is_loopback(url: str) -> bool:
    """Whether ``url`` leads to this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _by_size(weights: int | None, *, has_tools: bool) -> tuple[ToolMode, bool, bool]:
    """``tool_mode``, ``can_plan`` and ``can_write``; a model that does not tell its size is taken for a large one."""
    if weights is not None and weights < _SMALL:
        return "schema", False, False
    if weights is not None and weights < _MEDIUM:
        return "schema", False, True
    return ("native" if has_tools else "schema"), True, True
