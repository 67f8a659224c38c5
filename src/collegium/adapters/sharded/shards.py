"""The shards of a store, and which of them holds a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from collegium.adapters.sharded.shard import CATALOGUE, Shard
from collegium.domain.errors import NotFound
from collegium.domain.ids import is_run_id, shard_of


def shard_by_id(run: str) -> int:
    """The number of the shard that holds ``run``: the catalogue for everything that is no run."""
    return shard_of(run) if is_run_id(run) else CATALOGUE


class Shards:
    """All shards by number, the catalogue among them."""

    def __init__(self, shards: Sequence[Shard], *, route: Callable[[str], int] = shard_by_id) -> None:
        self.all: Mapping[int, Shard] = {shard.number: shard for shard in sorted(shards, key=lambda s: s.number)}
        self.catalogue = self.all[CATALOGUE]
        self._route = route

    def of(self, run: str) -> Shard:
        """The shard of ``run``. Raises ``NotFound`` for one that the settings do not name."""
        number = self._route(run)
        if number not in self.all:
            raise NotFound(
                f"there is no run {run} here: its id says shard {number}, and there are the shards "
                f"{', '.join(map(str, self.all))} (0 is `store`, the others are in `postgres.shards`)",
                run=run,
                shard=number,
            )
        return self.all[number]

    def is_away(self, number: int) -> bool:
        """Whether the last that was heard of a shard is that it cannot be reached."""
        return self.all[number].is_away

    def commits(self) -> tuple[int, int]:
        """Transactions of this process in all shards that were committed, and those that failed."""
        counts = [shard.commits for shard in self.all.values()]
        return sum(made for made, _ in counts), sum(failed for _, failed in counts)

    async def aclose(self) -> None:
        """Closes them, the catalogue last; twice is harmless."""
        for shard in reversed(list(self.all.values())):
            await shard.aclose()
