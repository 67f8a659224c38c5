"""Placement: which shard a new run lives in, by its id and the shards' weights alone.

Each shard draws a number from the hash of the run's digits and its own number, and the best one gets the run. A shard
that is added takes its share from all others, one that is drained gives its share to all others, and nothing else
changes; runs that exist are never placed again, since their ids name their shard.

Source: J. Resch, "New Hashing Algorithms for Data Storage", SNIA 2015 (weighted rendezvous hashing: ``-w / ln u``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from math import inf, log
from typing import Final

from collegium.domain.errors import UsageError

MAX_SHARDS: Final = 256
_BITS: Final = 64


class Placement:
    """Chooses shards; an instance is the ``place`` of ``Ids``.

    Args:
        weights: Weight by number of the shard, at least 0; a shard of weight 0 takes no new runs. One of weight 2 takes
            twice as many as one of weight 1.
        is_away: Whether a shard is known to be away: then others take the new runs, as long as there are others.

    Raises:
        UsageError: no shard may take runs.
    """

    def __init__(self, weights: Mapping[int, float], *, is_away: Callable[[int], bool] = lambda shard: False) -> None:
        self._weights = {shard: weight for shard, weight in weights.items() if weight > 0}
        self._is_away = is_away
        if not self._weights:
            raise UsageError(
                "no shard takes new runs: give one of them a weight above 0 (`postgres.weight` is shard 0)"
            )

    def __call__(self, digits: str) -> int:
        """The number of the shard for the run with these 32 digits."""
        there = [shard for shard in self._weights if not self._is_away(shard)]
        return max(there or self._weights, key=lambda shard: (_score(digits, shard, self._weights[shard]), -shard))


def _score(digits: str, shard: int, weight: float) -> float:
    drawn = hashlib.blake2b(f"{digits}:{shard}".encode(), digest_size=_BITS // 8).digest()
    share = (int.from_bytes(drawn, "big") + 0.5) / 2**_BITS
    return inf if share >= 1.0 else -weight / log(share)
