"""What has to be done to the tables of a store before this version works on them, and doing it."""

from __future__ import annotations

import os
from importlib import resources
from typing import NamedTuple

from collegium.config import Settings
from collegium.wiring.file_keys import key_for_store
from collegium.wiring.urls import is_postgres, sqlite_path


class Migrated(NamedTuple):
    """What was done to a store, or would be.

    Attributes:
        place: Where it is, without a password.
        found: Version of its tables before; 0 where there were none.
        now: Version of the tables that this collegium works on.
        steps: What was applied, in order.
        is_moved: Whether its own count had to be moved, since it was restored into another server.
    """

    place: str
    found: int
    now: int
    steps: tuple[str, ...]
    is_moved: bool = False


async def migrate(settings: Settings, *, is_dry: bool) -> tuple[Migrated, ...]:
    """Brings the tables of every store that ``settings`` name up to date, or says what that would do.

    Raises:
        StoreError: one of them cannot be reached or changed; those before it are done, and doing it again is harmless.
    """
    return tuple([await _migrate(settings, url, is_dry=is_dry) for url in urls_of(settings)])


def urls_of(settings: Settings) -> tuple[str, ...]:
    """The stores that ``settings`` name, the catalogue first."""
    return (settings.store, *(shard.url for shard in settings.postgres.shards))


def roles_script() -> str:
    """SQL for roles that may do what they have to and nothing else."""
    return resources.files("collegium.adapters.postgres").joinpath("roles.sql").read_text(encoding="utf-8")


async def _migrate(settings: Settings, url: str, *, is_dry: bool) -> Migrated:
    if not is_postgres(url):
        from collegium.adapters.sqlite import store as sqlite
        from collegium.adapters.sqlite.upgrade import SCHEMA

        path = sqlite_path(url)
        key = key_for_store(settings, path)
        found = sqlite.version_of(path, key)
        if not is_dry:
            await sqlite.open_store(path, key=key).aclose()
        steps = tuple(f"version {n}" for n in range(found + 1, SCHEMA + 1))
        return Migrated(str(path), found, SCHEMA, steps[-1:] if found == 0 else steps)
    from collegium.adapters.postgres import upgrade
    from collegium.adapters.postgres.connection import place_of

    plan = await upgrade.migrate(url, entropy=os.urandom, is_dry=is_dry)
    steps = tuple(f"{step.number:04} {step.name}" for step in plan.steps)
    return Migrated(place_of(url), plan.found, upgrade.SCHEMA, steps, bool(plan.rebase))
