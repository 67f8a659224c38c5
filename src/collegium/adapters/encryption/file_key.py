"""The key of an SQLite file that is encrypted as a whole: random, and kept beside the file, wrapped.

``collegium.db`` has ``collegium.db.key``. That file says that the other one is encrypted, without anybody opening it: a
process that opens and closes a file by other means than SQLite's loses the locks that SQLite holds there for it. A new
key of keys wraps the same key again, so nothing of the file has to be written anew.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from collegium.adapters.rows import Entropy
from collegium.domain.errors import StoreCorrupt, StoreReadOnly, UsageError
from collegium.ports import KeyEncryption

KEY_BYTES: Final = 32
_CONTEXT: Final = b"collegium sqlcipher file key 1"
_FORMAT: Final = 1


class FileKey:
    """A key of 256 bits; it is never shown."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise StoreCorrupt(f"a file key has {len(raw)} bytes and {KEY_BYTES} are needed: restore it from a backup")
        self._raw = raw

    @property
    def pragma(self) -> str:
        """The statement that a connection begins with; the key is raw, so that nothing has to be derived from it."""
        return f"PRAGMA key = \"x'{self._raw.hex()}'\""


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    """What a key file holds."""

    format: int
    kek: str
    wrapped: bytes


def key_place(path: Path) -> Path:
    """Where the key of the file at ``path`` is kept."""
    return path.with_name(f"{path.name}.key")


def file_key(path: Path, keks: Sequence[KeyEncryption], *, entropy: Entropy = os.urandom) -> FileKey:
    """The key of the file at ``path``, made if there is none; processes that make it at once get the same.

    Args:
        path: The file, whether it is there or not.
        keks: What may have wrapped it; the first one wraps a new key.
        entropy: Source of a new key.

    Raises:
        UsageError: another key has wrapped it.
        StoreCorrupt: the key file is damaged.
        StoreReadOnly: it cannot be read or made.
    """
    place = key_place(path)
    try:
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            _write(place, _wrapped(entropy(KEY_BYTES), keks[0]), is_new=True)
    except OSError as error:
        raise StoreReadOnly(f"the key file {place} cannot be made: {error.strerror}", path=str(place)) from error
    return FileKey(_unwrapped(place, keks))


def rewrap_file_key(path: Path, keks: Sequence[KeyEncryption]) -> bool:
    """Wraps the key of the file with the first of ``keks``; False where there is none, or it is already.

    Raises what ``file_key`` raises.
    """
    place = key_place(path)
    if not place.exists() or _read(place).kek == keks[0].id:
        return False
    raw = _unwrapped(place, keks)
    try:
        _write(place, _wrapped(raw, keks[0]), is_new=False)
    except OSError as error:
        raise StoreReadOnly(f"the key file {place} cannot be written: {error.strerror}", path=str(place)) from error
    return True


def _wrapped(raw: bytes, kek: KeyEncryption) -> bytes:
    return msgspec.json.encode(_Kept(_FORMAT, kek.id, kek.wrap(raw, _CONTEXT)))


def _unwrapped(place: Path, keks: Sequence[KeyEncryption]) -> bytes:
    kept = _read(place)
    for kek in keks:
        if kek.id == kept.kek:
            return kek.unwrap(kept.wrapped, _CONTEXT)
    raise UsageError(
        f"the key in {place} was encrypted with the key {kept.kek} and [encryption] gives {keks[0].id}: configure the "
        "one it was encrypted with, as kek_file or in previous_kek_files",
        path=str(place),
        kek=kept.kek,
    )


def _read(place: Path) -> _Kept:
    try:
        kept = msgspec.json.decode(place.read_bytes(), type=_Kept)
    except OSError as error:
        raise StoreReadOnly(f"the key file {place} cannot be read: {error.strerror}", path=str(place)) from error
    except msgspec.DecodeError as error:
        raise StoreCorrupt(f"the key file {place} is damaged: restore it from a backup", path=str(place)) from error
    if kept.format != _FORMAT:
        raise StoreCorrupt(
            f"the key file {place} has format {kept.format} and this collegium knows {_FORMAT}: upgrade collegium",
            path=str(place),
        )
    return kept


def _write(place: Path, content: bytes, *, is_new: bool) -> None:
    """Puts the whole file in place, durably, or nothing of it; a new one only where there is none."""
    draft = place.with_name(f"{place.name}.{os.getpid()}.new")
    draft.unlink(missing_ok=True)  # of a process with this number that was killed
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            with suppress(FileExistsError):  # somebody else was quicker
                os.link(draft, place)
        else:
            draft.replace(place)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
