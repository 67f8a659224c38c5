"""``collegium rotate-dek``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@command("rotate-dek")
@click.option("--tenant", metavar="T", help="Of this tenant alone.")
@pass_session
def rotate_dek(session: Session, tenant: str | None) -> int:
    """Encrypt everything again, with new data keys, while others work; also what is not encrypted yet.

    Everybody goes on reading and writing. Interrupted, the same again goes on where it was. The older data keys stay,
    encrypted: backups need them.
    """
    return session.execute(_rotate(session, tenant))


async def _rotate(session: Session, tenant: str | None) -> int:
    import asyncio

    from collegium.cli.deeds import note
    from collegium.domain.errors import UsageError
    from collegium.wiring.encryption import rotate_data_keys

    if tenant is not None and (not tenant or "\0" in tenant):
        raise UsageError("--tenant needs the name of a tenant")
    async with session.open() as app:
        done = await asyncio.to_thread(rotate_data_keys, session.settings, tenant, _told(session))
        await note(app, "encryption.rotate_dek", tenant or "", rows=done.rows)
    _show(session, *done)
    return 0


def _told(session: Session) -> Callable[[str, int], None]:
    last: list[tuple[str, int]] = []

    def tell(table: str, done: int) -> None:
        if last and last[-1] == (table, done):
            return
        last[:] = [(table, done)]
        if not session.is_json:
            session.tell(f"{table}: {done} encrypted again")

    return tell


def _show(session: Session, rows: int, tenants: Sequence[str], passes: int) -> None:
    if session.is_json:
        session.emit({"rows": rows, "tenants": list(tenants), "passes": passes})
    else:
        print(f"{rows} rows of {len(tenants)} tenants are encrypted with new data keys")
