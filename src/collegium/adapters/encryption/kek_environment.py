"""The key that encrypts data keys, in an environment variable."""

from __future__ import annotations

from collections.abc import Mapping

from collegium.adapters.encryption.aes_gcm import AesKek, key_of
from collegium.domain.errors import UsageError


def kek_from_environment(variable: str, environ: Mapping[str, str]) -> AesKek:
    """The key in the variable, hexadecimal or base64. Raises ``UsageError`` where there is none of 256 bits."""
    text = environ.get(variable, "").strip()
    if not text:
        raise UsageError(
            f"the variable {variable} that [encryption] names is not set: without it nothing that is encrypted can be "
            "read or written",
            variable=variable,
        )
    return AesKek(key_of(text.encode(), f"the variable {variable}"), source=variable)
