"""Settings to the keys of SQLite files that are encrypted as a whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from collegium.adapters.encryption.file_key import FileKey, file_key, key_place, rewrap_file_key
from collegium.adapters.sqlite.store import damage_in
from collegium.config import Settings
from collegium.domain.errors import MissingExtra, UsageError
from collegium.ports import KeyEncryption
from collegium.wiring.keks import present_kek, previous_keks
from collegium.wiring.urls import is_postgres, sqlite_path

SCRATCH: Final = ("bus.db", "cache.db", "index.db")
"""Files of the data folder that are made anew where the present key does not open them."""


def key_for_store(settings: Settings, path: Path) -> FileKey | None:
    """The key of the store at ``path`` as ``settings`` want it; None for one in plain.

    Raises:
        UsageError: it is encrypted and should not be, or the other way round, or the key of keys is another one.
        MissingExtra: SQLCipher is wanted and not installed.
        StoreError: its key file cannot be used.
    """
    place = key_place(path)
    if not settings.encryption.sqlcipher:
        _refuse_left_over(path)
        if place.exists():
            raise UsageError(
                f"{path} is encrypted as a whole, with the key in {place}: set [encryption] sqlcipher = true, and the "
                "key of keys as where it was written",
                store=str(path),
            )
        return None
    if not place.exists() and _has_content(path):
        raise UsageError(
            f"[encryption] sqlcipher is on, and {path} has no key file {place}. If it is in plain, move it: `collegium "
            f"migrate --from sqlite:///{path} --to sqlite:///NEW.db`, then set store to the new one. If it is "
            "encrypted, restore its key file from a backup",
            store=str(path),
        )
    return _key(settings, path)


def key_for_scratch(settings: Settings, path: Path) -> FileKey | None:
    """The key of a file that may be made anew; None where files are in plain. Raises as ``key_for_store``."""
    return _key(settings, path) if settings.encryption.sqlcipher else None


def key_as_is(settings: Settings, path: Path) -> FileKey | None:
    """The key of a store that is one end of a transfer: as the file is, or, where there is none, as settings want it.

    Raises as ``key_for_store``.
    """
    if not settings.encryption.sqlcipher:
        _refuse_left_over(path)
    if key_place(path).exists():
        return _key(settings, path)
    return None if _has_content(path) or not settings.encryption.sqlcipher else _key(settings, path)


def rewrap_file_keys(settings: Settings, urls: Sequence[str]) -> int:
    """Wraps the keys of all files with the present key of keys; how many were not: stores and the data folder."""
    paths = [sqlite_path(url) for url in urls if not is_postgres(url)]
    paths += [settings.data_dir / name for name in SCRATCH]
    if not any(key_place(path).exists() for path in paths):
        return 0
    keks = _keks(settings)
    return sum(rewrap_file_key(path, keks) for path in dict.fromkeys(path.absolute() for path in paths))


def store_damage(settings: Settings, path: Path) -> str:
    """What is wrong with the file of a store that nobody here has open; empty where nothing is."""
    return damage_in(path, key_for_store(settings, path))


def _key(settings: Settings, path: Path) -> FileKey:
    if find_spec("sqlcipher3") is None or find_spec("cryptography") is None:
        raise MissingExtra(
            f"{path} is to be encrypted as a whole, which needs the extra [sqlcipher]: pip install "
            "'collegium[sqlcipher]'"
        )
    if not settings.encryption.is_on:
        raise UsageError(
            f"{path} is encrypted as a whole, and no key is configured: set [encryption] kek_file, kek_variable or kms "
            "as where it was written",
            store=str(path),
        )
    return file_key(path, _keks(settings), entropy=os.urandom)


def _keks(settings: Settings) -> list[KeyEncryption]:
    return [present_kek(settings), *previous_keks(settings)]


def _refuse_left_over(path: Path) -> None:
    """Raises ``UsageError`` for a key without its file: a file in plain beside it would be taken for encrypted."""
    place = key_place(path)
    if place.exists() and not _has_content(path):
        raise UsageError(
            f"{place} is the key of {path}, which is not there: restore it, or remove the key before a file in plain "
            "takes its place",
            path=str(place),
        )


def _has_content(path: Path) -> bool:
    """Whether there is a file with anything in it; it is not opened, see ``adapters/encryption/file_key.py``."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
