"""Checkpoints as they are stored, alike in every store that keeps them in a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from collegium.domain.checkpoint import Checkpoint, Entry, is_genuine
from collegium.domain.errors import StoreCorrupt

_decode = msgspec.json.Decoder(Checkpoint).decode
_decode_entries = msgspec.json.Decoder(tuple[Entry, ...]).decode


class Made(NamedTuple):
    """Checkpoints to be written behind the row ``last``; ``drops``: from where on older ones lose what they list."""

    last: int
    checkpoints: tuple[Checkpoint, ...]
    drops: tuple[tuple[str, int, int], ...]
    until: int = 0


def encoded(checkpoint: Checkpoint) -> tuple[bytes, bytes]:
    """What is stored of it: the checkpoint without what it lists, and that."""
    return msgspec.json.encode(msgspec.structs.replace(checkpoint, entries=None)), msgspec.json.encode(
        checkpoint.entries
    )


def stored(tenant: str, number: int, value: str | bytes, entries: str | bytes | None = None) -> Checkpoint:
    """The checkpoint of a row. Raises ``StoreCorrupt`` for one that cannot be read."""
    try:
        listed = None if entries is None else _decode_entries(entries)
        return msgspec.structs.replace(_decode(value), entries=listed)
    except (msgspec.MsgspecError, TypeError) as error:
        raise StoreCorrupt(
            f"checkpoint {number} of tenant {tenant} cannot be read: restore the store from a backup",
            tenant=tenant,
            number=number,
        ) from error


def numbered(rows: Iterable[Any]) -> Iterator[tuple[int, Checkpoint | None]]:
    """Number and checkpoint of every row; None for one that cannot be read."""
    number = 0
    for row in rows:
        number = row[1] if isinstance(row[1], int) else number + 1
        try:
            yield number, stored(*row)
        except StoreCorrupt:
            yield number, None


def genuine(key: bytes, checkpoint: Checkpoint) -> Checkpoint:
    """``checkpoint``, unless it was changed: nothing is signed on top of that. Raises ``StoreCorrupt``."""
    if is_genuine(key, checkpoint):
        return checkpoint
    raise StoreCorrupt(
        f"checkpoint {checkpoint.number} of tenant {checkpoint.tenant} is not as it was signed, so none is written "
        "behind it: see `collegium audit verify`, and restore the store from a backup",
        tenant=checkpoint.tenant,
        number=checkpoint.number,
    )
