"""``collegium shred``."""

from __future__ import annotations

import sys

import click
import msgspec

from collegium.cli.options import command
from collegium.cli.session import Session, pass_session
from collegium.domain.errors import UsageError


@command("shred")
@click.argument("tenant")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
@pass_session
def shred(session: Session, tenant: str, is_sure: bool) -> int:
    """Destroy the data keys of TENANT: what is encrypted of it can never be read again, in no copy with these keys.

    Its schedules and webhooks go and its API keys are revoked. Nobody can undo it. Its chains still verify, and other
    tenants notice nothing. What is not encrypted stays: see
    docs/how-to/encryption.md. Backups keep the keys they hold, so those have to go as well.
    """
    if not tenant or tenant.startswith("~") or "\0" in tenant:
        raise UsageError(f"{tenant!r} is no tenant of yours: what begins with ~ belongs to the installation")
    if not is_sure:
        if session.is_json or not sys.stdin.isatty():
            raise UsageError(f"shred destroys everything of {tenant!r} for good: say --yes where nobody can be asked")
        if click.prompt(f"Everything of {tenant!r} is lost for good. Its name once more", err=True) != tenant:
            raise UsageError("that is another name: nothing was done")
    return session.execute(_shred(session, tenant))


async def _shred(session: Session, tenant: str) -> int:
    import asyncio

    from collegium.cli.deeds import note
    from collegium.domain.head import LIVE, HeadQuery
    from collegium.runtime.closing import close_tenant
    from collegium.runtime.webhooks import Webhooks
    from collegium.wiring.auth import keys_of
    from collegium.wiring.encryption import destroy_data_keys

    async with session.open() as app:
        live = await app.stores.journal.heads(HeadQuery(tenant=tenant, statuses=LIVE, limit=100))
        if run := next((head.run for head in live if head.run.startswith("run_")), None):
            raise UsageError(f"{run} of {tenant!r} is not over: cancel what goes on first", run=run)
        await asyncio.to_thread(destroy_data_keys, session.settings, tenant, is_trial=True)
        # While its records can still be read. Whoever is interrupted here shreds again.
        closed = await close_tenant(
            tenant,
            schedules=app.schedules,
            hooks=Webhooks(app.stores.records, now=app.now, ids=app.ids),
            keys=keys_of(app, session.settings),
        )
        count = await asyncio.to_thread(destroy_data_keys, session.settings, tenant)
        await note(app, "encryption.shred", tenant, count=count, **msgspec.structs.asdict(closed))
    if session.is_json:
        session.emit({"tenant": tenant, "destroyed": count, **msgspec.structs.asdict(closed)})
    else:
        from collegium.cli.text import count as words

        wait_s = session.settings.encryption.refresh_s
        print(f"{count} data keys of {tenant} are destroyed; within {wait_s:g} s nobody reads it any more")
        print(
            f"ended: {words(closed.schedules, 'schedule')}, {words(closed.webhooks, 'webhook')}, "
            f"{words(closed.keys, 'key')}"
        )
    return 0
