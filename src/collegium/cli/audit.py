"""``collegium audit``: whether journals are as they were written, and what shows it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from collegium.cli.lazy import Lazy, LazyGroup
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collegium.domain.checkpoint import Checkpoint
    from collegium.runtime.audit import Verified

TENANT = "default"
_FILE = click.Path(path_type=Path, dir_okay=False)

audit = LazyGroup(
    "audit",
    help="""Hold journals against what was signed of them.

    Every few seconds a checkpoint is signed: where each run stands that has changed. Whatever is edited, removed or put
    elsewhere below one is found, a whole run as well. Only that the newest checkpoints are gone with everything below
    them takes one that was exported and kept elsewhere.""",
    lazy={
        "verify": Lazy("collegium.cli.audit:verify", "Say what is not as it was written."),
        "export": Lazy("collegium.cli.audit:export", "Write the newest checkpoint into a file, to be kept elsewhere."),
    },
)


@command("verify")
@click.option("--against", metavar="FILE", type=_FILE, help="An exported checkpoint that was kept elsewhere.")
@pass_session
def verify(session: Session, against: Path | None) -> int:
    """Say which journals, tombstones and checkpoints are not as they were written, and where that begins.

    Exits with 1 where anything was changed or removed.
    """
    return session.execute(_verify(session, against))


@command("export")
@click.argument("path", required=False, type=_FILE)
@pass_session
def export(session: Session, path: Path | None) -> int:
    """Sign what has changed and write the newest checkpoint to PATH; checkpoint-NUMBER.json by default.

    Keep it where whoever can write the store cannot: `audit verify --against PATH` then finds also what was removed
    together with its checkpoints. It holds ids of runs and hashes, nothing of what they say.
    """
    return session.execute(_export(session, path))


async def _verify(session: Session, path: Path | None) -> int:
    from collegium.runtime.audit import verify_all
    from collegium.runtime.kept import archive_of

    against = None if path is None else _read(path)
    async with session.open() as app:
        verified = await verify_all(app.stores.journal, archive_of(app.stores), TENANT, against)
    has_key = session.settings.journal.chain_key_file is not None
    if session.is_json:
        import msgspec

        newest = verified.newest
        document = {
            "ok": not verified.damaged,
            "tenant": TENANT,
            "verified": verified.runs,
            "checkpoints": 0 if newest is None else newest.number,
            "newest_at": None if newest is None else newest.at,
            "open": verified.open_runs,
            "damaged": verified.damaged,
            "against": None if against is None else against.number,
            "has_chain_key": has_key,
        }
        session.emit(msgspec.to_builtins(document))
    else:
        _print(verified, path)
        if not has_key:
            session.tell("without journal.chain_key_file this shows accidents, not forgery: see `collegium doctor`")
    return 1 if verified.damaged else 0


def _print(verified: Verified, path: Path | None) -> None:
    from collegium.cli.damage import told
    from collegium.cli.text import count

    for bad in verified.damaged:
        print(told(bad))
    newest = verified.newest
    if newest is None:
        print(f"{count(verified.runs, 'journal')} verified, nothing signed yet")
    else:
        print(
            f"{count(verified.runs, 'journal')} verified against {count(newest.number, 'checkpoint')}, "
            f"the newest of {newest.at:%Y-%m-%d %H:%M:%S} UTC"
        )
    if verified.open_runs:
        print(f"{count(verified.open_runs, 'journal')} went on since: signed by the next process that works")
    if path is not None and not verified.damaged:
        print(f"the chain goes on from {path}")
    print(f"{len(verified.damaged)} changed" if verified.damaged else "nothing was changed")


async def _export(session: Session, path: Path | None) -> int:
    import msgspec

    from collegium.cli.text import size
    from collegium.domain.errors import UsageError
    from collegium.runtime.kept import archive_of

    async with session.open() as app:
        archive = archive_of(app.stores)
        await archive.checkpoint(at=session.now())
        coverage = await archive.covered(TENANT)
        flaw, newest = coverage.flaw, coverage.newest
        if flaw is not None:
            raise UsageError(
                f"checkpoint {flaw.number} {flaw.why}: an export would vouch for what is left; see `audit verify`, and "
                "restore the store from a backup",
                number=flaw.number,
            )
        if newest is None:
            raise UsageError("nothing was signed yet: there is no run in this store")
        (newest,) = await archive.checkpoints(TENANT, newest.number - 1, 1)
    data = msgspec.json.encode(newest) + b"\n"
    path = path or Path(f"checkpoint-{newest.number}.json")
    _write(path, data)
    if session.is_json:
        document = {"tenant": TENANT, "number": newest.number, "at": newest.at, "signature": newest.signature}
        session.emit({**document, "path": str(path), "size_bytes": len(data)})
    else:
        print(f"checkpoint {newest.number} of {newest.at:%Y-%m-%d %H:%M:%S} UTC exported to {path}, {size(len(data))}")
    return 0


def _read(path: Path) -> Checkpoint:
    import msgspec

    from collegium.domain.checkpoint import Checkpoint
    from collegium.domain.errors import UsageError

    try:
        return msgspec.json.decode(path.read_bytes(), type=Checkpoint)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", path=str(path)) from error
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{path} is no exported checkpoint ({error}); `collegium audit export` writes one", path=str(path)
        ) from error


def _write(path: Path, data: bytes) -> None:
    from collegium.domain.errors import UsageError

    partial = path.with_name(f"{path.name}.part")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; choose another PATH", path=str(path)) from error
    finally:
        partial.unlink(missing_ok=True)
