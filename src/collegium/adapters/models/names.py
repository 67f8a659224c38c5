"""Model names, as on the command line: ``openai:NAME``, ``local:PATH.gguf``, ``openai-compatible:NAME@URL`` ..."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import msgspec

from collegium.domain.errors import UnknownName

PROVIDERS = ("openai", "anthropic", "google", "local", "openai-compatible", "langchain", "scripted")

_EXAMPLES = {
    "openai": "openai:gpt-6.1-terra",
    "anthropic": "anthropic:claude-sonnet-5-5",
    "google": "google:gemini-3.8-flash",
    "local": "local:smollm2-135m-instruct",
    "openai-compatible": "openai-compatible:llama3.2@http://127.0.0.1:11434/v1",
    "langchain": "langchain:my_module:make_model",
    "scripted": "scripted:replies.toml",
}
# A comma starts another name only where a provider follows it: paths and URLs may hold commas.
_NEXT_NAME = re.compile(r",\s*(?=[a-z][a-z-]*:)")


class ModelName(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed name. ``text`` is the whole of it, ``name`` what stands behind the provider's colon."""

    text: str
    provider: str
    name: str
    base_url: str | None = None


def split_chain(text: str) -> tuple[str, ...]:
    """The names of a fallback chain: ``a:x,b:y`` means "x, and y where x is not to be had"."""
    return tuple(part.strip() for part in _NEXT_NAME.split(text.strip()) if part.strip())


def parse_name(text: str) -> ModelName:
    """The parts of one model name.

    Raises:
        UnknownName: no provider, an unknown one, nothing behind the colon, or no URL where one is needed.
    """
    provider, colon, rest = text.strip().partition(":")
    if not colon or not rest:
        raise UnknownName(
            f"{text!r} is not a model name: write PROVIDER:NAME, e.g. {', '.join(_examples(provider or text))}",
            name=text,
        )
    if provider not in PROVIDERS:
        raise UnknownName(
            f"{text!r} names the provider {provider!r}, which is not known. "
            f"{did_you_mean(provider, PROVIDERS)}Known providers: {', '.join(PROVIDERS)}",
            name=text,
        )
    if provider == "openai-compatible":
        name, at, url = rest.rpartition("@")
        if not at or not name or not url.startswith(("http://", "https://")):
            raise UnknownName(
                f"{text!r} needs a model and a URL: openai-compatible:NAME@URL, e.g. {_EXAMPLES['openai-compatible']}",
                name=text,
            )
        return ModelName(text=text, provider=provider, name=name, base_url=url.rstrip("/"))
    return ModelName(text=text, provider=provider, name=rest)


def did_you_mean(wrong: str, known: Sequence[str]) -> str:
    """``Did you mean 'x'? `` with the nearest of ``known``, or nothing where none is near."""
    near = difflib.get_close_matches(wrong, known, n=2, cutoff=0.6)
    # "smolm2" is near "smollm2-135m-instruct" by its first word.
    first = {name.partition("-")[0]: name for name in known}
    near += [first[word] for word in difflib.get_close_matches(wrong, list(first), n=1, cutoff=0.7)]
    near = list(dict.fromkeys(near))[:2]
    return f"Did you mean {' or '.join(repr(name) for name in near)}? " if near else ""


def _examples(wrong: str) -> list[str]:
    near = difflib.get_close_matches(wrong, PROVIDERS, n=1, cutoff=0.4)
    wanted = [*near, *(p for p in ("openai", "local", "openai-compatible") if p not in near)]
    return [_EXAMPLES[p] for p in wanted]
