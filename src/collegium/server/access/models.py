"""The models that goals and agents may name, as one principal may see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit, urlunsplit

import msgspec

from collegium.app import Collegium
from collegium.domain.chat import ModelProfile
from collegium.domain.errors import NotFound
from collegium.domain.principal import Principal
from collegium.runtime.pins import profile_of
from collegium.server.access.page import Page, cursor, place


class KnownModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that settings or agents name, or that is there to be fetched."""

    name: str
    title: str
    is_default: bool
    is_at_hand: bool
    agents: tuple[str, ...]


class ModelShown(msgspec.Struct, frozen=True, kw_only=True):
    """A model, without anything secret.

    Attributes:
        name: As goals name it; a password in its URL is left out.
        provider: What stands before the colon.
        title: What it is, for a person; empty where nobody says.
        is_default: Whether goals that name none are given it, alone or in a chain.
        is_at_hand: Whether this server has the key it needs, or its file. Whether the provider answers is not asked.
        loaded_by: How many workers have it loaded; local models alone are loaded.
        agents: Agents that always ask it.
        failing: Those among them that fail at present.
        abilities: What it could do when your tenant had it opened last; None before that.
    """

    name: str
    provider: str
    title: str
    is_default: bool
    is_at_hand: bool
    loaded_by: int
    agents: tuple[str, ...]
    failing: tuple[str, ...]
    abilities: ModelProfile | None


ModelsOf = Callable[[Collegium], Awaitable[Sequence[KnownModel]]]


class ModelAccess:
    """Models are shared by all tenants; what they could do is told as the principal's tenant has seen it."""

    def __init__(self, app: Collegium, principal: Principal, models_of: ModelsOf | None) -> None:
        self._app = app
        self._principal = principal
        self._models_of = models_of

    async def page(self, *, after: str | None = None, limit: int = 50) -> Page[ModelShown]:
        """Models by name. Raises ``NotFound`` where this server shows none."""
        self._principal.require("agents:read")
        behind = place("models", after)
        if self._models_of is None:
            raise NotFound("this server shows no models")
        every = sorted(await self._models_of(self._app), key=lambda m: _shown(m.name))
        found = [m for m in every if not behind or _shown(m.name) > str(behind[0])]
        loaded = [name for card in await self._app.fleet.workers() for name in card.models]
        failing = {s.agent for s in await self._app.placement.lifecycle.all() if s.is_marked}
        items = [await self._model(one, loaded.count(one.name), failing) for one in found[:limit]]
        return Page(items=items, next=cursor("models", items[-1].name) if len(found) > limit else None)

    async def _model(self, one: KnownModel, loaded_by: int, failing: set[str]) -> ModelShown:
        abilities = await profile_of(self._app.stores.records, self._principal.tenant, one.name)
        name = _shown(one.name)
        return ModelShown(
            name=name,
            provider=name.partition(":")[0],
            title=one.title,
            is_default=one.is_default,
            is_at_hand=one.is_at_hand,
            loaded_by=loaded_by,
            agents=one.agents,
            failing=tuple(a for a in one.agents if a in failing),
            abilities=None if abilities is None else msgspec.structs.replace(abilities, name=name),
        )


def _shown(name: str) -> str:
    """``name`` without user and password in its URL."""
    begin, at, url = name.partition("@http")
    if not at:
        return name
    parts = urlsplit(f"http{url}")
    return f"{begin}@{urlunsplit(parts._replace(netloc=parts.netloc.rpartition('@')[2]))}"
