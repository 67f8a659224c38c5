"""``collegium audit``: whether journals are as they were written, and what shows it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from collegium.cli.lazy import Lazy, LazyGroup
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collegium.domain.checkpoint import Checkpoint
    from collegium.runtime.audit import Verified

TENANT = "default"
_FILE = click.Path(path_type=Path, dir_okay=False)

audit = LazyGroup(
    "audit",
    help="""Hold journals against what was signed of them.

    Every few seconds a checkpoint is signed: where each run stands that has changed. Whatever is edited, removed or put
    elsewhere below one is found, a whole run as well. Only that the newest checkpoints are gone with everything below
    them takes one that was exported and kept elsewhere. The administrative log, who did what, is held so too.""",
    lazy={
        "ls": Lazy("collegium.cli.deeds:ls", "List who did what: the administrative log."),
        "verify": Lazy("collegium.cli.audit:verify", "Say what is not as it was written."),
        "export": Lazy("collegium.cli.audit:export", "Write the newest checkpoint or the log into a file."),
    },
)


@command("verify")
@click.option("--against", metavar="FILE", type=_FILE, help="An exported checkpoint or log that was kept elsewhere.")
@pass_session
def verify(session: Session, against: Path | None) -> int:
    """Say which journals, tombstones and checkpoints are not as they were written, and where that begins.

    Exits with 1 where anything was changed or removed.
    """
    return session.execute(_verify(session, against))


@command("export")
@click.argument("path", required=False, type=_FILE)
@click.option("--log", "is_log", is_flag=True, help="Append the administrative log to PATH; log.jsonl by default.")
@click.option("--follow", "is_following", is_flag=True, help="With --log: go on until Ctrl-C.")
@pass_session
def export(session: Session, path: Path | None, *, is_log: bool, is_following: bool) -> int:
    """Sign what has changed and write the newest checkpoint to PATH; checkpoint-NUMBER.json by default.

    Of a store with shards it is one of each. Keep it where whoever can write the store cannot: `audit verify --against
    PATH` then finds also what was removed together with its checkpoints. It holds ids of runs and hashes, nothing of
    what they say.

    With --log it is who did what, a JSON document a line, each time with the checkpoint that covers it. What the file
    has already stays, and only what is new is appended.
    """
    if is_log or is_following:
        from collegium.cli.deeds import export_log

        return session.execute(export_log(session, path or Path("log.jsonl"), is_following=is_following))
    return session.execute(_export(session, path))


async def _verify(session: Session, path: Path | None) -> int:
    from collegium.cli.log_check import check_logs, exported_log
    from collegium.runtime.audit import verify_stores

    kept = None if path is None else exported_log(path)
    against = None if path is None or kept is not None else _read(path)
    async with session.open() as app:
        found = await verify_stores(app.stores, TENANT, against)
        logs = await check_logs(app, TENANT, kept)
    has_key = session.settings.journal.chain_key_file is not None
    damaged = [*logs.damaged, *(bad for verified in found.values() for bad in verified.damaged)]
    if session.is_json:
        document = _document(found, against) | {"ok": not damaged, "log": logs, "has_chain_key": has_key}
        session.emit(document)
    else:
        from collegium.cli.damage import told
        from collegium.cli.text import count

        for bad in damaged:
            print(told(bad))
        for number, verified in found.items():
            _print(verified, f"shard {number}: " if len(found) > 1 else "")
        if logs.months:
            print(f"administrative log: {count(logs.months, 'month')} verified")
        if path is not None and not damaged:
            print(f"the chain goes on from {path}" if len(found) == 1 else f"the chains go on from {path}")
        print(f"{len(damaged)} changed" if damaged else "nothing was changed")
        if not has_key:
            session.tell("without journal.chain_key_file this shows accidents, not forgery: see `collegium doctor`")
    return 1 if damaged else 0


def _document(found: Mapping[int, Verified], against: Mapping[int, Checkpoint] | None) -> dict[str, Any]:
    """What was found in all stores, and where there are several in each of them."""
    import msgspec

    parts = [
        _part(number, verified, None if against is None else against.get(number)) for number, verified in found.items()
    ]
    newest = [part["newest_at"] for part in parts if part["newest_at"] is not None]
    damaged = [bad for verified in found.values() for bad in verified.damaged]
    document = {
        "ok": not damaged,
        "tenant": TENANT,
        "verified": sum(part["verified"] for part in parts),
        "checkpoints": sum(part["checkpoints"] for part in parts),
        "newest_at": max(newest, default=None),
        "open": sum(part["open"] for part in parts),
        "damaged": damaged,
        "against": parts[0]["against"] if len(parts) == 1 else None,
    }
    if len(parts) > 1:
        document["shards"] = parts
    return dict(msgspec.to_builtins(document))


def _part(number: int, verified: Verified, against: Checkpoint | None) -> dict[str, Any]:
    newest = verified.newest
    return {
        "shard": number,
        "verified": verified.runs,
        "checkpoints": 0 if newest is None else newest.number,
        "newest_at": None if newest is None else newest.at,
        "open": verified.open_runs,
        "against": None if against is None else against.number,
    }


def _print(verified: Verified, where: str) -> None:
    from collegium.cli.text import count

    newest = verified.newest
    if newest is None:
        print(f"{where}{count(verified.runs, 'journal')} verified, nothing signed yet")
    else:
        print(
            f"{where}{count(verified.runs, 'journal')} verified against {count(newest.number, 'checkpoint')}, "
            f"the newest of {newest.at:%Y-%m-%d %H:%M:%S} UTC"
        )
    if verified.open_runs:
        print(f"{where}{count(verified.open_runs, 'journal')} went on since: signed by the next process that works")


async def _export(session: Session, path: Path | None) -> int:
    import msgspec

    from collegium.cli.text import size
    from collegium.domain.errors import UsageError
    from collegium.runtime.audit import newest_of
    from collegium.runtime.kept import archive_of

    async with session.open() as app:
        await archive_of(app.stores).checkpoint(at=session.now())
        kept = await newest_of(app.stores, TENANT)
        has_shards = bool(app.stores.parts)
    if not kept:
        raise UsageError("nothing was signed yet: there is no run in this store")
    newest = max(kept.values(), key=lambda one: one.at)
    data = msgspec.json.encode({"shards": kept} if has_shards else newest) + b"\n"
    path = path or Path(
        f"checkpoints-{newest.at:%Y%m%dT%H%M%SZ}.json" if has_shards else f"checkpoint-{newest.number}.json"
    )
    _write(path, data)
    if session.is_json:
        document: dict[str, Any] = {"tenant": TENANT}
        document |= {"shards": {n: _signed(c) for n, c in kept.items()}} if has_shards else _signed(newest)
        session.emit({**document, "path": str(path), "size_bytes": len(data)})
    elif has_shards:
        print(f"checkpoints of {len(kept)} shards exported to {path}, {size(len(data))}")
    else:
        print(f"checkpoint {newest.number} of {newest.at:%Y-%m-%d %H:%M:%S} UTC exported to {path}, {size(len(data))}")
    return 0


def _signed(checkpoint: Checkpoint) -> dict[str, Any]:
    return {"number": checkpoint.number, "at": checkpoint.at, "signature": checkpoint.signature}


def _read(path: Path) -> dict[int, Checkpoint]:
    """The checkpoints in an exported file, by shard; one alone is the store's, or its first shard's."""
    import msgspec

    from collegium.domain.checkpoint import Checkpoint
    from collegium.domain.errors import UsageError

    try:
        document = msgspec.json.decode(path.read_bytes())
        if isinstance(document, dict) and "shards" in document:
            return msgspec.convert(document["shards"], dict[int, Checkpoint], strict=False)
        return {0: msgspec.convert(document, Checkpoint)}
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
