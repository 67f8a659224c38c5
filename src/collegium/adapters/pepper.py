"""The pepper: a secret of the installation that keys and sessions are kept with, in a file of its own."""

from __future__ import annotations

import base64
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from collegium.adapters.folders import make_folder, sync_folder
from collegium.domain.errors import StoreReadOnly, UsageError

MIN_BYTES: Final = 32


def read_pepper(path: Path) -> bytes:
    """The secret in the file. Raises ``UsageError`` where there is none, or one that is too short."""
    try:
        return check_pepper(path.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(f"the pepper file {path} cannot be read: {error.strerror}", path=str(path)) from error


def read_or_make_pepper(path: Path) -> bytes:
    """The secret in the file, which is made where there is none: readable by this user alone, and durable.

    Of several processes that make it at the same time one wins, and all get its secret.

    Raises:
        StoreReadOnly: the file cannot be made.
        UsageError: what is there cannot be read, or is too short.
    """
    if not path.exists():
        made = base64.b64encode(secrets.token_bytes(48)) + b"\n"
        beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            make_folder(path.parent, mode=0o700)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(made)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):  # another process was faster: its secret counts
                os.link(beside, path)
            sync_folder(path.parent)
        except OSError as error:
            raise StoreReadOnly(f"the pepper file {path} cannot be made: {error.strerror}", path=str(path)) from error
        finally:
            beside.unlink(missing_ok=True)
    return read_pepper(path)


def check_pepper(secret: bytes, source: str) -> bytes:
    """``secret`` without white space around it. Raises ``UsageError`` for one that is too short."""
    found = secret.strip()
    if len(found) < MIN_BYTES:
        raise UsageError(f"the pepper in {source} has {len(found)} bytes and at least {MIN_BYTES} are needed")
    return found
