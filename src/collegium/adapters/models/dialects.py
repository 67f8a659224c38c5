"""How servers that speak Chat Completions differ: a table instead of branches in the adapter."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from collegium.domain.chat import Json

_REASONING = re.compile(r"^(o\d|gpt-([5-9]|\d\d)(?!.*chat))")


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of server understands.

    Attributes:
        max_tokens_field: Where the output cap goes; OpenAI refuses the old name for its newer models.
        has_sampling: Whether ``temperature`` and ``stop`` may be sent; OpenAI's reasoning models refuse them.
        has_prompt_cache_key: OpenAI routes requests with the same key to the same prompt cache.
        has_cache_prompt: llama.cpp keeps the prompt in its slot when told ``cache_prompt``.
        has_strict: Whether ``strict`` may be said of a JSON Schema.
    """

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    has_sampling: bool = True
    has_prompt_cache_key: bool = False
    has_cache_prompt: bool = False
    has_strict: bool = False


GENERIC = Dialect()
"""vLLM, Ollama, LM Studio and the many others: the oldest names, nothing optional."""

LLAMA_CPP = Dialect(has_cache_prompt=True)

OPENAI = Dialect(max_tokens_field="max_completion_tokens", has_prompt_cache_key=True, has_strict=True)


def openai_dialect(model: str) -> Dialect:
    """OpenAI's dialect for ``model``: reasoning models take no sampling parameters."""
    return msgspec.structs.replace(OPENAI, has_sampling=_REASONING.match(model) is None)


def is_strict_schema(schema: Json) -> bool:
    """Whether OpenAI's ``strict`` mode takes ``schema``: every object closed, every property required.

    Source: platform.openai.com/docs/guides/structured-outputs, "Supported schemas".
    """
    properties = schema.get("properties")
    if isinstance(properties, dict):
        required = schema.get("required", [])
        if schema.get("additionalProperties") is not False or set(required) != set(properties):
            return False
        if not all(isinstance(p, dict) and is_strict_schema(p) for p in properties.values()):
            return False
    elif schema.get("type") == "object":
        return False
    below = [schema.get("items"), *schema.get("anyOf", ()), *schema.get("$defs", {}).values()]
    return all(is_strict_schema(part) for part in below if isinstance(part, dict))
