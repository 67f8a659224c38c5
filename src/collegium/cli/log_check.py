"""Administrative logs held against their chains, their checkpoints and what was exported of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collegium.app import Collegium
    from collegium.domain.checkpoint import Checkpoint
    from collegium.runtime.audit import Damage


class ExportedLog(NamedTuple):
    """What an exported log says: its lines and its last checkpoint."""

    deeds: list[dict[str, Any]]
    checkpoint: Checkpoint | None


class Logs(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: ``months`` journals of the tenant and the installation, and what is not as it was written."""

    months: int
    open: int
    damaged: tuple[Damage, ...]


def exported_log(path: Path) -> ExportedLog | None:
    """The exported log in a file; None where it is something else, such as an exported checkpoint."""
    try:
        with path.open("rb") as file:
            first = file.readline(64)
    except OSError:
        return None
    if not first.startswith((b'{"deed":', b'{"checkpoint":')):
        return None
    from collegium.cli.deeds import read_lines
    from collegium.domain.checkpoint import Checkpoint
    from collegium.domain.errors import UsageError

    deeds, checkpoints = read_lines(path)
    try:
        return ExportedLog(deeds, msgspec.convert(checkpoints[-1], Checkpoint) if checkpoints else None)
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path} is no exported log ({error})", path=str(path)) from error


async def check_logs(app: Collegium, tenant: str, kept: ExportedLog | None) -> Logs:
    """Verifies the log of ``tenant`` and that of the installation."""
    from collegium.domain.deed import INSTALLATION, log_tenant
    from collegium.runtime.audit import verify_all
    from collegium.runtime.kept import archive_of

    archive, months, still_open, damaged = archive_of(app.stores), 0, 0, list[Any]()
    for owner in (tenant, INSTALLATION):
        against = kept.checkpoint if kept is not None and owner == tenant else None
        found = await verify_all(app.stores.journal, archive, log_tenant(owner), against)
        months, still_open = months + found.runs, still_open + found.open_runs
        damaged += found.damaged
    if kept is not None and not damaged:
        damaged += await _differing(app, kept)
    return Logs(months=months, open=still_open, damaged=tuple(damaged))


async def _differing(app: Collegium, kept: ExportedLog) -> list[Damage]:
    """The first exported line that the store has otherwise or not at all."""
    from collegium.runtime.audit import Damage
    from collegium.runtime.kept import archive_of

    archive = archive_of(app.stores)
    for deed in kept.deeds:
        links = await archive.links(deed["log"], deed["seq"] - 1, 1)
        if not links or links[0].seq != deed["seq"] or links[0].mac.hex() != deed["mac"]:
            why = "it is not the line that was exported" if links else "the exported line is gone"
            return [Damage(run=deed["log"], seq=deed["seq"], why=why)]
    return []
