"""Settings to what encrypts the stores, and the deeds that are done to their keys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from collegium.adapters.encryption.plain import PLAIN
from collegium.adapters.rows import Entropy
from collegium.adapters.sealed import DATA_KEY
from collegium.config import Settings
from collegium.domain.errors import MissingExtra, UsageError
from collegium.ports import KeyShelf, Records, Sealer
from collegium.wiring.file_keys import key_as_is, rewrap_file_keys
from collegium.wiring.keks import present_kek, previous_keks
from collegium.wiring.migrate import urls_of
from collegium.wiring.urls import is_postgres, sqlite_path

if TYPE_CHECKING:
    from collegium.adapters.encryption.keys import KeyRing
    from collegium.adapters.encryption.rotation import Progress, Rotated, Rows

MARK: Final = "~"


@contextmanager
def sealer_of(settings: Settings, *, url: str | None = None, entropy: Entropy = os.urandom) -> Iterator[Sealer]:
    """What seals the values of the store at ``url``, by default that of the settings. Raises ``UsageError``."""
    if not settings.encryption.is_on:
        yield PLAIN
        return
    with key_ring(settings, url=url, entropy=entropy) as ring:
        yield ring


@contextmanager
def key_ring(settings: Settings, *, url: str | None = None, entropy: Entropy = os.urandom) -> Iterator[KeyRing]:
    """The data keys of a store. Raises ``UsageError`` without a key of keys, or with one that cannot be."""
    wanted = settings.encryption
    if not wanted.is_on:
        raise UsageError("nothing is encrypted: set [encryption] kek_file, kek_variable or kms first")
    if find_spec("cryptography") is None:
        raise MissingExtra("encryption needs the extra [encryption]: pip install 'collegium[encryption]'")
    from collegium.adapters.encryption.keys import KeyRing

    ring = KeyRing(
        present_kek(settings),
        _shelf(settings, url or settings.store),
        previous=previous_keks(settings),
        entropy=entropy,
        refresh_s=wanted.refresh_s,
    )
    try:
        yield ring
    finally:
        ring.close()


async def check_plain(records: Records, place: str) -> None:
    """Raises ``UsageError`` where no key is configured for a store that has data keys."""
    if await records.get(DATA_KEY, MARK, "on") is not None:
        raise UsageError(
            f"{place} is encrypted, and no key is configured: set [encryption] kek_file, kek_variable or kms as where "
            "it was written",
            store=place,
        )


def rotate_data_keys(settings: Settings, tenant: str | None, progress: Progress) -> Rotated:
    """Seals everything of one or all tenants with new data keys. Blocks. Raises ``UsageError``, ``StoreError``."""
    from collegium.adapters.encryption.rotation import Rotation

    with ExitStack() as stack:
        ring = stack.enter_context(key_ring(settings))
        stores = [_rows(settings, url) for url in urls_of(settings)]
        for store in stores:
            stack.callback(store.close)
        return Rotation(ring, stores).run(tenant, progress)


def rewrap_data_keys(settings: Settings) -> int:
    """Wraps all data keys and the keys of files with the configured key; how many were not. Blocks.

    Raises ``UsageError``, ``StoreError``.
    """
    from collegium.adapters.encryption.rotation import rewrap

    with key_ring(settings) as ring:
        return rewrap(ring) + rewrap_file_keys(settings, urls_of(settings))


def destroy_data_keys(settings: Settings, tenant: str, *, is_trial: bool = False) -> int:
    """Destroys the data keys of a tenant, for good; a trial says how many there are, or why it cannot be. Blocks.

    Raises ``NotFound``, ``UsageError``, ``StoreError``.
    """
    from collegium.adapters.encryption.rotation import plain_rows, shred

    with ExitStack() as stack:
        ring = stack.enter_context(key_ring(settings))
        stores = [_rows(settings, url) for url in urls_of(settings)]
        for store in stores:
            stack.callback(store.close)
        if plain := plain_rows(stores, tenant):
            raise UsageError(
                f"{plain} rows of {tenant!r} are not encrypted and would stay: `collegium rotate-dek --tenant {tenant}`"
                " first",
                tenant=tenant,
                rows=plain,
            )
        if is_trial and (there := len(ring.stored(tenant).wrapped)):
            return there
        return shred(ring, tenant)  # which says so where there is none


def _shelf(settings: Settings, url: str) -> KeyShelf:
    if is_postgres(url):
        from collegium.adapters.postgres.key_shelf import PostgresKeyShelf

        return PostgresKeyShelf(url)
    from collegium.adapters.sqlite.key_shelf import SqliteKeyShelf

    path = sqlite_path(url)
    return SqliteKeyShelf(path, key_as_is(settings, path))


def _rows(settings: Settings, url: str) -> Rows:
    if is_postgres(url):
        from collegium.adapters.postgres.reseal import PostgresRows

        return PostgresRows(url)
    from collegium.adapters.sqlite.reseal import SqliteRows

    path = sqlite_path(url)
    return SqliteRows(path, key_as_is(settings, path))
