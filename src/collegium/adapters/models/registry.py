"""From model names to models that are ready to be called: ``ports.Models``."""

from __future__ import annotations

import asyncio
import fnmatch
import importlib.util
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from collegium.adapters.models import prices, profiles
from collegium.adapters.models.balanced import BalancedModel
from collegium.adapters.models.breaker import BreakerPolicy
from collegium.adapters.models.caching import CachingModel
from collegium.adapters.models.catalogue import CatalogueEntry, find_local
from collegium.adapters.models.connections import Connections, Timeouts
from collegium.adapters.models.dialects import GENERIC, LLAMA_CPP, Dialect, openai_dialect
from collegium.adapters.models.fallback import FallbackModel
from collegium.adapters.models.key_ring import KeyRing, ModelRate
from collegium.adapters.models.keys import fingerprint, has_key, read_keys
from collegium.adapters.models.local import LocalModel, LocalServer, LocalSettings, require_engine
from collegium.adapters.models.local_server import ServerState
from collegium.adapters.models.names import ModelName, parse_name, split_chain
from collegium.adapters.models.pricing import FREE_PRICING, Pricing
from collegium.adapters.models.profiles import ProfileChange
from collegium.adapters.models.pull import Progress, pull
from collegium.adapters.models.retrying import RetryingModel, RetryPolicy
from collegium.adapters.models.scripted import ScriptedModel
from collegium.domain.chat import ModelProfile
from collegium.domain.errors import MissingExtra, MissingKey, UnknownName
from collegium.domain.usage import FREE, Price
from collegium.ports import Cache, Clock, Model, Quota

_OPENAI_URL = "https://api.openai.com/v1"
_SERVER_PACKAGES = {"openai": "openai", "anthropic": "anthropic", "google": "google.genai"}
_KEYS = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "google": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "openai-compatible": ("OPENAI_COMPATIBLE_API_KEY",),
}
_NEED_KEYS = frozenset({"openai", "anthropic", "google"})
_BASE_URLS = {
    "openai": ("OPENAI_BASE_URL",),
    "anthropic": ("ANTHROPIC_BASE_URL",),
    "google": ("GEMINI_BASE_URL", "GOOGLE_BASE_URL"),
}
# A model on this machine's own processor may think for minutes before its first byte.
_LOCAL_TIMEOUTS = Timeouts(connect_s=5.0, between_bytes_s=900.0, total_s=1_800.0)


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Values of the configuration that models are made with.

    Attributes:
        profiles: What the user knows better, by model name or pattern.
        prices: What the user pays, by model name; they win over the table.
        rates: What providers allow, by model name or pattern.
        retry, breaker, timeouts, local: See their classes.
        cache_ttl_s: How long replies are kept where a cache is given.
        is_openai_lean: Serve ``openai:`` by the lean adapter although ``[openai]`` is installed.
    """

    profiles: Mapping[str, ProfileChange] = msgspec.field(default_factory=dict)
    prices: Mapping[str, Price] = msgspec.field(default_factory=dict)
    rates: Mapping[str, ModelRate] = msgspec.field(default_factory=dict)
    retry: RetryPolicy = RetryPolicy()
    breaker: BreakerPolicy = BreakerPolicy()
    timeouts: Timeouts = Timeouts()
    local: LocalSettings = LocalSettings()
    cache_ttl_s: float = 7 * 24 * 3_600.0
    is_openai_lean: bool = False


def is_at_hand(name: str, environ: Mapping[str, str], models_dir: Path) -> bool:
    """Whether the key that a model needs is set, or its file is there; nobody is asked. False for what is no name."""
    try:
        parsed = parse_name(name)
        if parsed.provider == "local":
            found = find_local(parsed.name, models_dir)
            return isinstance(found, Path) and found.is_file()
    except UnknownName:
        return False
    return parsed.provider not in _NEED_KEYS or has_key(_KEYS[parsed.provider], environ)


class ModelRegistry:
    """Opens models by name; each name once, so that connections and circuit breakers are shared.

    Args:
        environ: Where keys (``OPENAI_API_KEY`` ...) and ``*_BASE_URL`` are looked up.
        data_dir: Model files lie in ``models/``, the state of local servers in ``local-servers/`` below it.
        clock: Waits and reads the time.
        random: Numbers from 0 to 1, for jitter.
        settings: Values of the configuration.
        cache: Keeps replies; without it every call is made.
        quota: Where rates are shared with other processes.
        progress: Told how far a model is that ``open`` has to pull first.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        data_dir: Path,
        clock: Clock,
        random: Callable[[], float],
        settings: ModelSettings | None = None,
        cache: Cache | None = None,
        quota: Quota | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._environ = environ
        self._models_dir = data_dir / "models"
        self._servers_dir = data_dir / "local-servers"
        self._clock = clock
        self._random = random
        self._settings = settings or ModelSettings()
        self._cache = cache
        self._quota = quota
        self._rings: dict[tuple[str, tuple[str, ...]], KeyRing] = {}
        self._local: dict[str, LocalModel] = {}
        self._progress = progress
        self._connections = Connections()
        self._models: dict[str, Model] = {}
        self._opening = asyncio.Lock()
        self._openers: dict[str, Callable[[ModelName, str], Awaitable[Model]]] = {
            "openai": self._open_openai,
            "anthropic": self._open_rich,
            "google": self._open_rich,
            "openai-compatible": self._open_endpoint,
            "local": self._open_local,
            "scripted": self._open_scripted,
            "langchain": self._open_langchain,
        }

    async def open(self, name: str) -> Model:
        """The model called ``name``, or the fallback chain of names with commas between them.

        A local model of the catalogue that is not there yet is pulled first; its server is started by the first call.

        Raises:
            UsageError: unknown name, missing key or extra, or a file that is no model.
            ModelUnavailable: the model could not be pulled.
        """
        if (known := self._models.get(name)) is not None:
            return known
        chain = split_chain(name)
        if not chain:
            raise UnknownName("no model was named", name=name)
        async with self._opening:
            models = [await self._opened(one) for one in chain]
            if len(models) == 1:
                return models[0]
            key = ",".join(chain)
            if key not in self._models:
                self._models[key] = FallbackModel(models, clock=self._clock, policy=self._settings.breaker)
            return self._models[key]

    async def aclose(self) -> None:
        """Closes every model that was opened; servers of local models go on until they are idle."""
        models, self._models = self._models, {}
        for model in models.values():
            await model.aclose()
        await self._connections.aclose()

    async def _opened(self, text: str) -> Model:
        if text in self._models:
            return self._models[text]
        name = parse_name(text)
        keys = self._keys(name)
        models = [await self._openers[name.provider](name, key) for key in keys]
        ring = self._ring(name, keys)
        model: Model = models[0] if ring is None else BalancedModel(models, ring)
        if name.provider != "scripted":  # a script is strict: it is asked exactly what the system asks
            model = RetryingModel(model, clock=self._clock, random=self._random, policy=self._settings.retry)
            if self._cache is not None:
                model = CachingModel(model, self._cache, ttl_s=self._settings.cache_ttl_s)
        self._models[text] = model
        return model

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the local models that run on this machine and were called from here."""
        return tuple(name for name, model in self._local.items() if model.is_loaded)

    async def _open_openai(self, name: ModelName, key: str) -> Model:
        if not self._settings.is_openai_lean and _is_installed("openai"):
            return await self._open_rich(name, key)
        base_url = self._base_url("openai") or _OPENAI_URL
        listing = await self._listing(name, provider="openai", base_url=base_url)
        return self._lean(
            name.name, base_url, key, self._profile(profiles.hosted_profile(name, listing)), listing.pricing,
            dialect=openai_dialect(name.name), timeouts=self._settings.timeouts,
        )  # fmt: skip

    async def _open_rich(self, name: ModelName, key: str) -> Model:
        if not _is_installed(name.provider):
            raise MissingExtra(
                f"{name.text} needs the extra [{name.provider}]: pip install 'collegium[{name.provider}]'",
                extra=name.provider,
            )
        listing = await self._listing(name, provider=name.provider, base_url=None)
        from collegium.adapters.models.rich import open_rich

        # The vendor's SDK takes half a second to import: not in the event loop.
        return await asyncio.to_thread(
            open_rich,
            name,
            key=key,
            base_url=self._base_url(name.provider),
            profile=self._profile(profiles.hosted_profile(name, listing)),
            pricing=listing.pricing,
            timeouts=self._settings.timeouts,
        )

    async def _open_endpoint(self, name: ModelName, key: str) -> Model:
        base_url = name.base_url or ""
        listing = await self._listing(name, provider=None, base_url=base_url)
        profile = self._profile(profiles.endpoint_profile(name, listing))
        pricing = FREE_PRICING if profile.price is FREE else listing.pricing
        timeouts = _LOCAL_TIMEOUTS if profile.is_local else self._settings.timeouts
        return self._lean(name.name, base_url, key, profile, pricing, dialect=GENERIC, timeouts=timeouts)

    async def _open_local(self, name: ModelName, key: str) -> Model:
        found = find_local(name.name, self._models_dir)
        require_engine(name.name)
        if isinstance(found, CatalogueEntry):
            found = await pull(found.name, models_dir=self._models_dir, clock=self._clock, progress=self._progress)
        server = LocalServer(found, self._servers_dir, settings=self._settings.local, clock=self._clock)
        profile = self._profile(profiles.local_profile(name.text, server.header, server.context_tokens))

        def connect(state: ServerState) -> Model:
            return self._lean(
                server.spec.alias, state.url, state.key, profile, FREE_PRICING,
                dialect=LLAMA_CPP, timeouts=_LOCAL_TIMEOUTS,
            )  # fmt: skip

        # The server is started by the first call: answers that are only quoted need none.
        model = self._local[name.text] = LocalModel(server, profile, connect=connect)
        return model

    async def _open_scripted(self, name: ModelName, key: str) -> Model:
        return ScriptedModel.from_file(name.name, clock=self._clock)

    async def _open_langchain(self, name: ModelName, key: str) -> Model:
        raise UnknownName(
            f"{name.text}: models of LangChain come with the LangChain adapter, which this version does not have yet",
            name=name.text,
        )

    def _lean(
        self,
        model: str,
        base_url: str,
        key: str,
        profile: ModelProfile,
        pricing: Pricing,
        *,
        dialect: Dialect,
        timeouts: Timeouts,
    ) -> Model:
        from collegium.adapters.models.openai_compatible import OpenAICompatibleModel

        return OpenAICompatibleModel(
            model,
            base_url,
            key=key,
            profile=profile,
            connections=self._connections,
            clock=self._clock,
            dialect=dialect,
            pricing=pricing,
            timeouts=timeouts,
        )

    def _profile(self, profile: ModelProfile) -> ModelProfile:
        return profiles.changed(profile, self._settings.profiles)

    async def _listing(self, name: ModelName, *, provider: str | None, base_url: str | None) -> prices.Listing:
        listing = await asyncio.to_thread(
            prices.look_up, name.name, provider=provider, base_url=base_url, clock=self._clock
        )
        own = self._settings.prices.get(name.text)
        if own is not None:
            listing = msgspec.structs.replace(listing, pricing=Pricing(own))
        return listing

    def _keys(self, name: ModelName) -> tuple[str, ...]:
        """The keys of the provider; an empty one where it asks for none."""
        variables = _KEYS.get(name.provider, ())
        keys = read_keys(variables, self._environ)
        if not keys and name.provider in _NEED_KEYS:
            raise MissingKey(
                f"{name.text} needs a key: set {' or '.join(variables)}, or choose another model "
                "(local:smollm2-135m-instruct needs none)",
                variables=variables,
            )
        return keys or ("",)

    def _ring(self, name: ModelName, keys: tuple[str, ...]) -> KeyRing | None:
        """What shares the calls out among ``keys``, one for all models of the same rates; None where nothing is to."""
        patterns = [p for p in self._settings.rates if fnmatch.fnmatchcase(name.text, p)]
        pattern = max(patterns, key=lambda p: (p == name.text, len(p)), default=None)
        if name.provider == "scripted" or (pattern is None and len(keys) == 1):
            return None
        scope = name.text if pattern is None else pattern
        if (scope, keys) not in self._rings:
            rate = ModelRate() if pattern is None else self._settings.rates[pattern]
            names = [fingerprint(key) for key in keys]
            self._rings[scope, keys] = KeyRing(scope, names, rate, quota=self._quota, clock=self._clock)
        return self._rings[scope, keys]

    def _base_url(self, provider: str) -> str | None:
        return next((u for v in _BASE_URLS[provider] if (u := self._environ.get(v, "").strip())), None)


def _is_installed(provider: str) -> bool:
    """Whether the extra of ``provider`` is there, without importing any of it."""
    try:
        return all(importlib.util.find_spec(m) is not None for m in ("pydantic_ai", _SERVER_PACKAGES[provider]))
    except ModuleNotFoundError:
        return False
