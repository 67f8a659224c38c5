"""``collegium privacy``: what is held of a principal, and its erasure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from collegium.cli.lazy import Lazy, LazyGroup
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collegium.runtime.privacy import Erased

_FILE = click.Path(path_type=Path, dir_okay=False)
_TENANT = click.option("--tenant", metavar="T", default="default", help="Whose principal it is.")

privacy = LazyGroup(
    "privacy",
    help="""Export and erase what is held of a principal: user:NAME, key:ID, or a user of this machine.

    That is the runs it asked for with all they said and were given, and the records under its name. The administrative
    log keeps who did what.""",
    lazy={
        "export": Lazy("collegium.cli.privacy:export", "Write everything that is held into a file."),
        "erase": Lazy("collegium.cli.privacy:erase", "Remove it, with proof."),
    },
)


@command("export")
@click.argument("subject")
@click.option("--out", metavar="FILE", type=_FILE, help="Where to; export.jsonl by default.")
@_TENANT
@pass_session
def export(session: Session, subject: str, out: Path | None, tenant: str) -> int:
    """Write everything that is held of SUBJECT into a file, one JSON document a line; contents are in Base64."""
    return session.execute(_export(session, subject, out or Path("export.jsonl"), tenant))


@command("erase")
@click.argument("subject")
@click.option("--out", metavar="FILE", type=_FILE, help="Write the proof there.")
@click.option("--reason", metavar="TEXT", default="", help="Stands in the log.")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
@_TENANT
@pass_session
def erase(session: Session, subject: str, out: Path | None, reason: str, tenant: str, *, is_sure: bool) -> int:
    """Remove everything that is held of SUBJECT; runs that go on have to be cancelled first.

    What was removed is listed with its tombstones in the administrative log, under the chain key.
    """
    return session.execute(_erase(session, subject, out, reason, tenant, is_sure=is_sure))


async def _export(session: Session, subject: str, out: Path, tenant: str) -> int:
    from collegium.cli.deeds import note
    from collegium.cli.text import count, size
    from collegium.domain.errors import UsageError
    from collegium.wiring import privacy as privacy_of

    partial, lines = out.with_name(f"{out.name}.part"), 0
    try:
        async with session.open() as app:
            await note(app, "privacy.exported", subject, tenant=tenant)
            with partial.open("wb") as file:
                partial.chmod(0o600)
                async for line in privacy_of(app, session.settings).export(tenant, subject):
                    file.write(line)
                    lines += 1
        partial.replace(out)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}; choose another --out", path=str(out)) from error
    finally:
        partial.unlink(missing_ok=True)
    written = _size(out)
    if session.is_json:
        session.emit({"subject": subject, "tenant": tenant, "path": str(out), "lines": lines, "size_bytes": written})
    else:
        print(f"{count(lines - 1, 'line')} about {subject} exported to {out}, {size(written)}")
    return 0


async def _erase(session: Session, subject: str, out: Path | None, reason: str, tenant: str, *, is_sure: bool) -> int:
    import msgspec

    from collegium.cli.deeds import note
    from collegium.domain.errors import UsageError
    from collegium.runtime.privacy import proof_of
    from collegium.wiring import privacy as privacy_of

    async with session.open() as app:
        held = privacy_of(app, session.settings)
        found = await held.find(tenant, subject)
        if not is_sure:
            runs, records = len(found.runs), sum(map(len, found.records.values()))
            raise UsageError(
                f"this removes {runs} runs and {records} records of {subject} for good: say --yes", runs=runs
            )
        erased = await held.erase(tenant, subject)
        deed = await note(app, "privacy.erased", subject, tenant=tenant, reason=reason, **proof_of(erased))
    document = {"erased": msgspec.to_builtins(erased), "deed": msgspec.to_builtins(deed)}
    if out is not None:
        _write(out, msgspec.json.format(msgspec.json.encode(document), indent=2))
    if session.is_json:
        session.emit(document)
    else:
        _print(erased)
    return 0


def _size(path: Path) -> int:
    return path.stat().st_size


def _write(path: Path, data: bytes) -> None:
    from collegium.domain.errors import UsageError

    try:
        path.write_bytes(data)
    except OSError as error:
        raise UsageError(
            f"the proof cannot be written to {path}: {error.strerror}; it stands in `collegium audit ls --json`",
            path=str(path),
        ) from error


def _print(erased: Erased) -> None:
    from collegium.cli.text import count

    print(
        f"{count(len(erased.tombstones), 'run')}, {count(erased.documents, 'indexed document')}, "
        f"{count(erased.blobs, 'content')}, {count(erased.folders, 'work folder')} and "
        f"{count(sum(erased.records.values()), 'record')} of {erased.subject} removed"
    )
    for one in erased.left:
        print(f"{one.run}: {one.why}")
    if erased.blobs_due_at is not None:
        print(f"contents younger than an hour go with the next erase or prune after {erased.blobs_due_at:%H:%M} UTC")
