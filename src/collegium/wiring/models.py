"""The models that an installation knows of, for those who ask a server for them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from collegium.adapters.models.catalogue import list_models
from collegium.adapters.models.names import split_chain
from collegium.adapters.models.registry import is_at_hand
from collegium.agents.roster import Roster
from collegium.config import Settings
from collegium.server.access.models import KnownModel

_PATTERN = frozenset("*?[")


def known_models(settings: Settings, roster: Roster, default: str) -> list[KnownModel]:
    """The default model, those that settings and agents name, and the local ones; by name, each once."""
    folder = settings.data_dir / "models"
    here = {f"local:{one.name}": one for one in list_models(folder)}
    used: dict[str, list[str]] = {}
    for agent in roster:
        for name in split_chain(agent.model or ""):
            used.setdefault(name, []).append(agent.name)
    names = sorted({*split_chain(default), *_named(settings), *here, *used})
    return [
        KnownModel(
            name=name,
            title="" if (local := here.get(name)) is None else local.title,
            is_default=name in split_chain(default),
            is_at_hand=is_at_hand(name, os.environ, folder),
            agents=tuple(used.get(name, ())),
        )
        for name in names
    ]


def _named(settings: Settings) -> Iterator[str]:
    """Models of the settings; patterns are none."""
    yield from split_chain(settings.models.other or "")
    for name in (*settings.models.prices, *settings.models.profiles, *settings.models.rates):
        if not _PATTERN & set(name):
            yield name
