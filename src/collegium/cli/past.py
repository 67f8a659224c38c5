"""What a view of a run begins with where the run is a fork, and what is left to tell of one that was pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collegium.app import Collegium
    from collegium.cli.view import RunView
    from collegium.domain.tombstone import Tombstone


async def bring_up(app: Collegium, run: str, view: RunView) -> None:
    """Shows ``view`` what a fork shares with its parents; for other runs nothing."""
    from collegium.runtime.history import prefix

    first = await app.stores.journal.read(run, 0, 1)
    if first:
        async for page in prefix(app.stores.journal, first[0]):
            for event in page:
                view.take(event)


async def tombstone_of(app: Collegium, run: str) -> Tombstone | None:
    """What is left of ``run`` if it was pruned."""
    return None if app.stores.archive is None else await app.stores.archive.tombstone(run)


def tombstone_document(tombstone: Tombstone) -> dict[str, object]:
    """What is left of a pruned run, as a document."""
    import msgspec

    return {"run_id": tombstone.run, "status": tombstone.status, "pruned": msgspec.to_builtins(tombstone)}
