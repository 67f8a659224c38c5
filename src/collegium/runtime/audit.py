"""Audit: signs where runs stand every few seconds, and holds a store against what was signed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from collegium.domain.checkpoint import Checkpoint, Coverage, Listed
from collegium.domain.errors import CollegiumError, StoreCorrupt, UsageError
from collegium.domain.head import Head, HeadQuery
from collegium.ports import Archive, Clock, Journal
from collegium.runtime.heads import heads_of
from collegium.runtime.kept import archive_of
from collegium.runtime.stores import Stores

CHECKPOINT_S: Final = 5.0
"""No two checkpoints of a store are closer together, whatever the number of its processes."""
_PAGE = 200
_log = logging.getLogger("collegium.audit")


class Checkpoints:
    """Writes the checkpoints of a store, where it keeps an archive.

    A crash leaves the last one as it is: whatever was stored behind it is signed by whoever comes next.
    """

    def __init__(self, archive: Archive | None, *, clock: Clock) -> None:
        self._archive = archive
        self._clock = clock
        self._has_told = False

    async def write_due(self) -> None:
        """Signs what has changed, if the last time was long enough ago; two small reads where nothing has."""
        await self._write(CHECKPOINT_S)

    async def write(self) -> None:
        """Signs what has changed, now: for the end of a process."""
        await self._write(0.0)

    async def _write(self, pause_s: float) -> None:
        if self._archive is None:
            return
        try:
            await self._archive.checkpoint(at=self._clock.now(), pause_s=pause_s)
        except StoreCorrupt as error:  # the work goes on: it is not what was damaged
            if not self._has_told:
                _log.error("%s", error)
            self._has_told = True


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """What is not as it was written.

    Attributes:
        run: The run whose journal it is; None for a checkpoint.
        seq: The first event that is not as it was written; 0 is the run's tombstone.
        checkpoint: Number of the checkpoint that is damaged, or that shows the damage.
        why: What a checkpoint shows; empty where the chain of the run shows it.
        shard: Whose checkpoint that is; None where there is one store only.
    """

    run: str | None = None
    seq: int | None = None
    checkpoint: int | None = None
    why: str = ""
    shard: int | None = None


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What came of holding a tenant's runs against their chains and checkpoints.

    Attributes:
        runs: How many were looked at.
        newest: The newest genuine checkpoint.
        open_runs: How many stand further than any checkpoint says: what was written since the newest one.
        damaged: What is not as it was written; checkpoints first.
    """

    runs: int
    newest: Checkpoint | None
    open_runs: int
    damaged: tuple[Damage, ...] = ()


async def verify_stores(
    stores: Stores, tenant: str, against: Mapping[int, Checkpoint] | None = None
) -> dict[int, Verified]:
    """What ``verify_all`` finds in each store that holds runs, by the number of the shard; one alone is 0.

    Raises ``UsageError`` where ``against`` has a checkpoint of a store that is not among them.
    """
    against = against or {}
    if not stores.parts:
        _check_known(against, (0,))
        return {0: await verify_all(stores.journal, archive_of(stores), tenant, against.get(0))}
    _check_known(against, [part.number for part in stores.parts])
    found = {}
    for part in stores.parts:
        verified = await verify_all(part.journal, part.archive, tenant, against.get(part.number))
        damaged = [msgspec.structs.replace(bad, shard=part.number) for bad in verified.damaged]
        found[part.number] = msgspec.structs.replace(verified, damaged=tuple(damaged))
    return found


async def newest_of(stores: Stores, tenant: str) -> dict[int, Checkpoint]:
    """The newest checkpoint of each store that holds runs, by the number of the shard, to be kept elsewhere.

    Raises ``UsageError`` where a chain has a flaw: what is kept would vouch for what is left of it.
    """
    kept = {}
    archives = {part.number: part.archive for part in stores.parts} or {0: archive_of(stores)}
    for number, archive in archives.items():
        coverage = await archive.covered(tenant)
        flaw, newest = coverage.flaw, coverage.newest
        if flaw is not None:
            where = f" of shard {number}" if stores.parts else ""
            raise UsageError(
                f"checkpoint {flaw.number}{where} {flaw.why}: an export would vouch for what is left; see "
                "`audit verify`, and restore the store from a backup",
                number=flaw.number,
            )
        if newest is not None:
            (kept[number],) = await archive.checkpoints(tenant, newest.number - 1, 1)
    return kept


def _check_known(against: Mapping[int, Checkpoint], numbers: Sequence[int]) -> None:
    unknown = sorted(set(against) - set(numbers))
    if unknown:
        raise UsageError(
            f"the file has a checkpoint of shard {unknown[0]}, and the settings name {', '.join(map(str, numbers))}: "
            "see `postgres.shards`",
            shard=unknown[0],
        )


async def verify_all(journal: Journal, archive: Archive, tenant: str, against: Checkpoint | None = None) -> Verified:
    """What is left of a tenant's runs, held against their chains, tombstones and checkpoints.

    Found is, for everything under a checkpoint: an event that was edited, removed, added or put elsewhere, a cut tail,
    a run that is gone with its head and tombstone, a checkpoint that was edited, removed or put elsewhere. That the
    newest checkpoints were removed together with everything under them is found only with ``against``, a checkpoint
    that was exported and kept elsewhere.
    """
    coverage = await archive.covered(tenant, against)  # before the heads, which only ever go on from it
    damaged = _of_checkpoints(coverage, against)
    seen: set[str] = set()
    open_runs = 0
    async for head in heads_of(journal, HeadQuery(tenant=tenant, limit=_PAGE)):
        if head.run in seen:
            continue
        seen.add(head.run)
        listed = coverage.listed.get(head.run, ())
        open_runs += head.seq > max((one.seq for one in listed), default=0)
        bad = await _verify(archive, head, listed)
        if bad is not None:
            damaged.append(bad)
    damaged += [
        Damage(run=run, seq=1, checkpoint=listed[-1].number, why=f"its head is gone; it had {listed[-1].seq} events")
        for run, listed in sorted(coverage.listed.items())
        if run not in seen
    ]
    return Verified(runs=len(seen), newest=coverage.newest, open_runs=open_runs, damaged=tuple(damaged))


def _of_checkpoints(coverage: Coverage, against: Checkpoint | None) -> list[Damage]:
    found = []
    if coverage.flaw is not None:
        found.append(Damage(checkpoint=coverage.flaw.number, why=coverage.flaw.why))
    if against is not None and coverage.against is not None:
        found.append(Damage(checkpoint=against.number, why=f"the one kept elsewhere {coverage.against}"))
    return found


async def _verify(archive: Archive, head: Head, listed: Sequence[Listed]) -> Damage | None:
    try:
        bad = await archive.verify(head.run)
    except CollegiumError:
        bad = 1
    if bad is not None:
        return Damage(run=head.run, seq=bad)
    for one in sorted(listed):
        why = await _differs(archive, head, one)
        if why is not None:
            return Damage(run=head.run, seq=min(one.seq, head.seq + 1), checkpoint=one.number, why=why)
    return None


async def _differs(archive: Archive, head: Head, one: Listed) -> str | None:
    """Why a run, whose own chain holds, is not the one that was signed; None where it is."""
    if (one.seq, one.mac) == (head.seq, head.mac):
        return None
    if one.seq > head.seq:
        return f"it had {one.seq} events and has {head.seq}"
    links = await archive.links(head.run, one.seq - 1, 1)
    if links and links[0].seq == one.seq:
        return None if links[0].mac.hex() == one.mac else f"event {one.seq} was another one"
    tombstone = await archive.tombstone(head.run)
    if tombstone is None or tombstone.seq < one.seq:
        return f"event {one.seq} is gone"
    if tombstone.seq == one.seq and tombstone.mac != one.mac:
        return "its tombstone is of another journal"
    return None
