"""Which model is meant when none is named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from collegium.adapters.models.catalogue import DEFAULT_LOCAL_MODEL
from collegium.adapters.models.keys import has_key

OLLAMA_URL = "http://127.0.0.1:11434/v1"
# Each provider's model of middle price (November 2026); COLLEGIUM_MODEL or --model chooses any other.
_PROVIDERS = (
    (("OPENAI_API_KEY",), "openai:gpt-6.1-terra"),
    (("ANTHROPIC_API_KEY",), "anthropic:claude-sonnet-5-5"),
    (("GEMINI_API_KEY", "GOOGLE_API_KEY"), "google:gemini-3.8-flash"),
)

Probe = Callable[[], Awaitable[str | None]]
"""Gives the name of a model that a server on this machine offers, or None."""


async def default_model_name(environ: Mapping[str, str], probe: Probe) -> str:
    """``COLLEGIUM_MODEL``, else the first provider with a key, else what ``probe`` finds, else the local default."""
    if named := environ.get("COLLEGIUM_MODEL", "").strip():
        return named
    for variables, name in _PROVIDERS:
        if has_key(variables, environ):
            return name
    return await probe() or f"local:{DEFAULT_LOCAL_MODEL}"


class _Listed(msgspec.Struct):
    id: str


class _Listing(msgspec.Struct):
    data: list[_Listed] | None = None


async def probe_loopback(url: str = OLLAMA_URL, *, timeout_s: float = 0.3) -> str | None:
    """The first model of the model server at ``url``, as ``openai-compatible:NAME@URL``; None where none answers."""
    import aiohttp  # takes a fifth of a second, which most commands need not wait

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s)) as session,
            session.get(f"{url}/models") as response,
        ):
            listing = msgspec.json.decode(await response.read(), type=_Listing)
    except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError):
        return None
    return f"openai-compatible:{listing.data[0].id}@{url}" if listing.data else None
