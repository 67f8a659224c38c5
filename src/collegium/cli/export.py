"""``collegium runs export``."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import click

from collegium.cli.deeds import note
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session


@command("export")
@click.argument("run")
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="Where to; RUN.collegium.jsonl by default."
)
@pass_session
def export(session: Session, run: str, out: Path | None) -> int:
    """Write RUN with all it needs into one file: its journal as stored, its documents, its agents.

    The file verifies and replays on any machine (`runs replay FILE`). It holds everything that the run has seen: keep
    it as carefully as the documents.
    """
    return session.execute(_export(session, run, out))


async def _export(session: Session, text: str, out: Path | None) -> int:
    if session.server is not None:
        from collegium.cli.remote import client, find

        async with client(session) as server:
            run = await find(server, text)
            return await _write(session, run, out, server.export(run))
    from collegium.cli.find import find_run
    from collegium.wiring import export_run

    async with session.open() as app:
        run = await find_run(app, text)
        await note(app, "runs.exported", run)
        return await _write(session, run, out, export_run(app, session.settings, run, tenant="default"))


async def _write(session: Session, run: str, out: Path | None, lines: AsyncIterator[bytes]) -> int:
    """Writes a whole export, or nothing."""
    from collegium.cli.text import short_id, size
    from collegium.domain.errors import UsageError

    path = out or Path(f"{run}.collegium.jsonl")
    partial = path.with_name(f"{path.name}.part")
    try:
        with partial.open("wb") as file:
            async for line in lines:
                file.write(line)
        partial.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; choose another --out", path=str(path)) from error
    finally:
        partial.unlink(missing_ok=True)
    written = path.stat().st_size
    if session.is_json:
        session.emit({"run_id": run, "path": str(path), "size_bytes": written})
    else:
        print(f"run {short_id(run)} exported to {path}, {size(written)}", file=sys.stdout)
    return 0
