"""The chain of a run: each event's ``mac`` covers the event and the one before it.

``mac = HMAC-SHA256(chain key, JSON array of [previous mac, run, seq, id, tenant, type, v, at, task, attempt, digest])``
with ``digest = SHA-256(salt + body bytes as first written)``. The array is written without spaces as RFC 8785 does,
macs and digests in hexadecimal, ``at`` in microseconds since 1970, a missing task or attempt as ``null``: no two
events have the same bytes. The body enters only by its digest, so that it can be encrypted, moved or erased and the
chain still verifies; the salt keeps an erased body from being guessed by its hash.

Source: ``docs/explanation/journal.md``, "The chain"; RFC 2104; RFC 8785 section 3.2.2.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

PUBLIC_KEY: Final = b"collegium: a public chain key that detects accidents, not attackers"
"""Used where no chain key is configured: anybody can make a chain that verifies under it."""
GENESIS: Final = bytes(32)
"""The mac before the first event of a run."""
SALT_BYTES: Final = 16
_encode = msgspec.json.Encoder().encode


class Link(NamedTuple):
    """One stored event as the chain sees it. ``body`` is None where it is erased or cannot be decrypted here."""

    run: str
    seq: int
    id: str
    tenant: str
    type: str
    v: int
    at_us: int
    task: str | None
    attempt: int | None
    salt: bytes
    digest: bytes
    mac: bytes
    body: bytes | None


def digest_of(salt: bytes, body: bytes) -> bytes:
    """32 bytes: the salted hash of a body's plaintext."""
    return hashlib.sha256(salt + body).digest()


def mac_of(
    key: bytes,
    previous: bytes,
    *,
    run: str,
    seq: int,
    id_: str,
    tenant: str,
    type_: str,
    v: int,
    at_us: int,
    task: str | None,
    attempt: int | None,
    digest: bytes,
) -> bytes:
    """32 bytes: the chain value of an event whose predecessor has the chain value ``previous``."""
    text = _encode(
        (previous.hex(), run, seq, id_, tenant, type_, v, at_us, task, attempt, digest.hex()),
    )
    return hmac.digest(key, text, "sha256")


def verify(
    key: bytes,
    links: Iterable[Link],
    *,
    head: tuple[int, bytes] | None = None,
    after: tuple[int, bytes] = (0, GENESIS),
) -> int | None:
    """The first seq of a run that is not as it was written, or None when all is well.

    Args:
        key: The chain key.
        links: All events of the run as they are stored, in the order of ``seq``.
        head: ``(seq, mac)`` that the run is known to have reached; a missing tail is found by it.
        after: ``(seq, mac)`` of the event before the first link, where those before it were pruned.
    """
    seq, previous = after
    for link in links:
        seq += 1
        expected = mac_of(
            key,
            previous,
            run=link.run,
            seq=seq,
            id_=link.id,
            tenant=link.tenant,
            type_=link.type,
            v=link.v,
            at_us=link.at_us,
            task=link.task,
            attempt=link.attempt,
            digest=link.digest,
        )
        is_body_changed = link.body is not None and digest_of(link.salt, link.body) != link.digest
        if link.seq != seq or is_body_changed or not hmac.compare_digest(expected, link.mac):
            return seq
        previous = link.mac
    if head is not None and head[0] > seq:
        return seq + 1
    if head is not None and (head[0] < seq or not hmac.compare_digest(head[1], previous)):
        return max(1, seq)
    return None
