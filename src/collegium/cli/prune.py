"""``collegium runs prune``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from collegium.cli.deeds import note
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collegium.runtime.retention import Pruned, Retained

_AGE = re.compile(r"(\d+)([smhdw])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SIZE = re.compile(r"(\d+)\s*([kmgt]?)i?b?\Z", re.IGNORECASE)
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@command("prune")
@click.option("--older-than", metavar="AGE", help="Runs that ended longer ago: 30d, 12h ...")
@click.option("--keep", metavar="N", type=click.IntRange(min=0), help="Keep the newest N finished runs.")
@click.option("--keep-bytes", metavar="SIZE", help="Keep the newest runs that take so much together: 500M, 2G ...")
@click.option("--bodies-only", "is_bodies_only", is_flag=True, help="Keep the events, remove what they say.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Only list what would go.")
@pass_session
def prune(
    session: Session,
    *,
    older_than: str | None,
    keep: int | None,
    keep_bytes: str | None,
    is_bodies_only: bool,
    is_dry: bool,
) -> int:
    """Remove finished runs, oldest first, with their work folders and whatever nobody refers to any more.

    Each leaves a signed tombstone, so that `runs check` still finds whatever anybody else removes. Runs under way stay,
    and so does what forks share. A prune that was interrupted is ended by the next one.
    """
    from collegium.runtime.retention import Retained

    retained = Retained(
        older_than_s=None if older_than is None else _seconds(older_than),
        keep=keep,
        keep_bytes=None if keep_bytes is None else _bytes(keep_bytes),
    )
    return session.execute(_prune(session, retained, is_bodies_only=is_bodies_only, is_dry=is_dry))


async def _prune(session: Session, retained: Retained, *, is_bodies_only: bool, is_dry: bool) -> int:
    from collegium.domain.errors import UsageError
    from collegium.wiring import retention

    if (retained.older_than_s, retained.keep, retained.keep_bytes) == (None, None, None):
        raise UsageError("say what is to be kept: --older-than 30d, --keep N or --keep-bytes SIZE")
    async with session.open() as app:
        pruner = retention(app, session.settings)
        act = pruner.plan if is_dry else pruner.prune
        pruned = await act("default", retained, what="bodies" if is_bodies_only else "run")
        if not is_dry:
            await note(app, "runs.pruned", runs=len(pruned.runs), blobs=pruned.blobs, bodies_only=is_bodies_only)
    if session.is_json:
        import msgspec

        session.emit({**msgspec.to_builtins(pruned), "is_dry_run": is_dry})
    else:
        _print(pruned, is_dry=is_dry)
    return 0


def _print(pruned: Pruned, *, is_dry: bool) -> None:
    from collegium.cli.text import count, short_id, size

    for one in pruned.runs:
        shared = f", its first {one.kept} events stay for a fork" if one.kept else ""
        print(
            f"{short_id(one.run)}  {one.status}, {size(one.size_bytes)}, ended {one.finished_at:%Y-%m-%d %H:%M}{shared}"
        )
    total = size(sum(one.size_bytes for one in pruned.runs))
    if is_dry:
        print(f"{count(len(pruned.runs), 'run')} would go, {total}")
        return
    print(
        f"{count(len(pruned.runs), 'run')} gone, {total}; {count(pruned.blobs, 'blob')} and "
        f"{count(pruned.folders, 'work folder')} removed"
    )
    for run in pruned.skipped:
        print(f"{short_id(run)} moved meanwhile and stays")


def _seconds(text: str) -> float:
    from collegium.domain.errors import UsageError

    match = _AGE.match(text.strip().lower())
    if match is None:
        raise UsageError(f"--older-than {text!r} is no age: write 30d, 12h, 90m or 2w")
    return float(int(match[1]) * _SECONDS[match[2]])


def _bytes(text: str) -> int:
    from collegium.domain.errors import UsageError

    match = _SIZE.match(text.strip())
    if match is None:
        raise UsageError(f"--keep-bytes {text!r} is no size: write 500M or 2G")
    return int(match[1]) * _BYTES[match[2].lower()]
