"""The key that encrypts data keys, in a file."""

from __future__ import annotations

from pathlib import Path

from collegium.adapters.encryption.aes_gcm import AesKek, key_of
from collegium.domain.errors import UsageError


def kek_from_file(path: Path) -> AesKek:
    """The key in the file. Raises ``UsageError`` where there is none, or one of another length."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the key file {path} of [encryption] cannot be read: {error.strerror}. Without it nothing that is "
            "encrypted can be read or written",
            path=str(path),
        ) from error
    return AesKek(key_of(text, f"the key file {path}"), source=str(path))
