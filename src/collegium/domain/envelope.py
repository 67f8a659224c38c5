"""Envelopes: how a stored value looks that is encrypted.

``0x01 | format | key version (4 bytes, big-endian) | nonce (12 bytes) | ciphertext | tag (16 bytes)``

JSON never begins with 0x01, so whoever reads a stored value sees at once whether it is sealed or plain. The header and
the place of the value (tenant, table, id) are authenticated: an envelope opens only where it was put.

A record stays a JSON object, so that it can be looked for: its envelope is under ``~sealed``, beside copies of the few
fields that are searched.

Source: NIST SP 800-38D section 5.2 (AES-GCM), 8.2.2 (random nonces).
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Final, NamedTuple

from collegium.domain.errors import StoreCorrupt

MARKER: Final = b"\x01"
FORMAT: Final = 1
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
HEADER_BYTES: Final = 6
SEALED_FIELD: Final = "~sealed"
MAX_VERSION: Final = 2**31 - 1
_START: Final = MARKER + bytes([FORMAT])
_RECORD_START: Final = b'{"' + SEALED_FIELD.encode() + b'":"'


class Envelope(NamedTuple):
    """An envelope, taken apart; ``header`` is authenticated with the place."""

    header: bytes
    version: int
    nonce: bytes
    sealed: bytes


def is_sealed(data: bytes) -> bool:
    """Whether a stored JSON text is sealed. Bytes that are not JSON may begin like this by chance."""
    return data[:1] == MARKER


def is_sealed_record(value: bytes) -> bool:
    """Whether the stored value of a record is sealed."""
    return value.startswith(_RECORD_START)


def header_of(version: int) -> bytes:
    """The first six bytes of an envelope that is sealed with this version of a key."""
    return _START + version.to_bytes(4, "big")


def take_apart(data: bytes) -> Envelope:
    """The parts of an envelope. Raises ``StoreCorrupt`` for bytes that are none."""
    if len(data) < HEADER_BYTES + NONCE_BYTES + TAG_BYTES or data[:1] != MARKER:
        raise StoreCorrupt(f"{len(data)} stored bytes are no envelope: restore the store from a backup", sealed=True)
    if data[1] != FORMAT:
        raise StoreCorrupt(
            f"an envelope has the format {data[1]} and this collegium knows {FORMAT}: it was changed, or written by a "
            "newer version",
            sealed=True,
        )
    version = int.from_bytes(data[2:HEADER_BYTES], "big")
    behind = HEADER_BYTES + NONCE_BYTES
    return Envelope(data[:HEADER_BYTES], version, data[HEADER_BYTES:behind], data[behind:])


def version_of(data: bytes) -> int:
    """The version of the key that sealed ``data``; 0 for what is plain."""
    return take_apart(data).version if is_sealed(data) else 0


def place_of(tenant: str, table: str, *ids: str) -> bytes:
    """What is authenticated with a value: where it is stored. No name has a zero byte, so no two places are alike."""
    return "\0".join((tenant, table, *ids)).encode()


def event_place(tenant: str, run: str, seq: int) -> bytes:
    """The place of an event's body."""
    return place_of(tenant, "events", run, str(seq))


def blob_place(tenant: str, sha256: str) -> bytes:
    """The place of a blob; its name is that of its plain bytes."""
    return place_of(tenant, "blobs", sha256)


def record_place(tenant: str, kind: str, key: str) -> bytes:
    """The place of a record's value."""
    return place_of(tenant, "records", kind, key)


def to_text(data: bytes) -> str:
    """An envelope as it stands in JSON."""
    return b64encode(data).decode()


def from_text(text: object) -> bytes:
    """An envelope out of JSON. Raises ``StoreCorrupt``."""
    try:
        return b64decode(str(text), validate=True)
    except ValueError as error:
        raise StoreCorrupt("an envelope in a record cannot be read: restore the store", sealed=True) from error
