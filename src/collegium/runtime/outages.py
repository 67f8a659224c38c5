"""Outages: parts of the store that are away, for whoever goes over runs and goes on with the others."""

from __future__ import annotations

from collegium.domain.errors import StoreUnavailable
from collegium.domain.ids import is_run_id, shard_of


class Outages:
    """The shards that did not answer while a loop went over runs; a store that is one whole has none."""

    def __init__(self) -> None:
        self._shards: set[int] = set()

    def bear(self, error: StoreUnavailable) -> None:
        """Takes note of a shard that is away. Raises ``error`` where it is about the whole store."""
        shard = shard_away(error)
        if shard is None:
            raise error
        self._shards.add(shard)

    def hit(self, run: str) -> bool:
        """Whether ``run`` is in a shard that is away."""
        return bool(self._shards) and is_run_id(run) and shard_of(run) in self._shards


def shard_away(error: StoreUnavailable) -> int | None:
    """The one shard that ``error`` is about; None where it is about the whole store."""
    shard = error.fields.get("shard")
    return shard if isinstance(shard, int) else None
