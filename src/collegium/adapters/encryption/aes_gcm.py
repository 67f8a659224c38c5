"""AES-256-GCM: values under data keys, data keys under a key that was given.

Nonces are random, 96 bits: one key may seal 2^32 values before two nonces are likely to meet with more than 2^-32.

Source: NIST SP 800-38D sections 5.2 and 8.3.
"""

from __future__ import annotations

import binascii
import hashlib
import os
from base64 import b64decode
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from collegium.domain.envelope import NONCE_BYTES, Envelope, header_of
from collegium.domain.errors import StoreCorrupt, UsageError

KEY_BYTES: Final = 32
MAX_SEALS: Final = 2**32
Entropy = Callable[[int], bytes]


class DataKey:
    """One version of a tenant's data key, ready for use. Threads may share it."""

    def __init__(self, key: bytes, version: int, *, entropy: Entropy = os.urandom) -> None:
        self.version = version
        self._aes = AESGCM(key)
        self._header = header_of(version)
        self._entropy = entropy

    def seal(self, place: bytes, plain: bytes) -> bytes:
        """The envelope of ``plain`` for ``place``."""
        nonce = self._entropy(NONCE_BYTES)
        return b"".join((self._header, nonce, self._aes.encrypt(nonce, plain, self._header + place)))

    def open(self, place: bytes, envelope: Envelope) -> bytes:
        """What was sealed. Raises ``StoreCorrupt`` where it is not what was sealed there with this key."""
        try:
            return self._aes.decrypt(envelope.nonce, envelope.sealed, envelope.header + place)
        except InvalidTag:
            raise StoreCorrupt(
                f"what is stored does not open with data key {self.version}: it was changed, or put where something "
                "else was. Restore the store from a backup",
                sealed=True,
                key_version=self.version,
            ) from None


class AesKek:
    """Implements ``KeyEncryption`` with a key that this process holds.

    Args:
        key: 32 bytes.
        source: Where it is from, for messages.
    """

    def __init__(self, key: bytes, *, source: str, entropy: Entropy = os.urandom) -> None:
        self._aes = AESGCM(key)
        self._source = source
        self._entropy = entropy
        self._id = f"aes:{hashlib.sha256(b'collegium kek' + bytes(1) + key).hexdigest()[:16]}"

    @property
    def id(self) -> str:
        """A short hash of the key, from which nobody can tell it."""
        return self._id

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """Nonce, ciphertext, tag."""
        nonce = self._entropy(NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """The key. Raises ``StoreCorrupt``."""
        try:
            return self._aes.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise StoreCorrupt(
                f"a data key does not open with the key of {self._source}: it was changed since it was wrapped. "
                "Restore the store from a backup",
                sealed=True,
            ) from None


def key_of(text: bytes, source: str) -> bytes:
    """The 32 bytes that a file or variable holds: raw, or written in hexadecimal or base64. Raises ``UsageError``."""
    if len(text) == KEY_BYTES:
        return text
    found = text.strip()
    for decode in (binascii.unhexlify, lambda t: b64decode(t, validate=True), lambda t: b64decode(t, altchars=b"-_")):
        try:
            key = decode(found)
        except ValueError:
            continue
        if len(key) == KEY_BYTES:
            return key
    if len(found) == KEY_BYTES:
        return found
    raise UsageError(
        f"{source} holds no key of 256 bits: it has {len(found)} characters. Make one with `openssl rand -base64 32`",
        source=source,
    )


def check_key(key: bytes, source: str) -> bytes:
    """``key``. Raises ``UsageError`` for one that is not of 256 bits."""
    if len(key) != KEY_BYTES:
        raise UsageError(f"{source} gave a key of {len(key)} bytes and {KEY_BYTES} are needed", source=source)
    return key
