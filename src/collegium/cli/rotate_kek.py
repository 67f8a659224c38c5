"""``collegium rotate-kek``."""

from __future__ import annotations

from collegium.cli.options import command
from collegium.cli.session import Session, pass_session


@command("rotate-kek")
@pass_session
def rotate_kek(session: Session) -> int:
    """Encrypt all data keys with the key that [encryption] names now; what they encrypt is not touched.

    First give every process both keys, the new one as kek_file and the old one in previous_kek_files, then run this;
    then the old one can go. Interrupted, the same again goes on; twice is harmless.

    \b
      [encryption]
      kek_file = "/etc/collegium/kek-2"
      previous_kek_files = ["/etc/collegium/kek-1"]
    """  # noqa: D301  \b keeps click from wrapping what follows
    return session.execute(_rotate(session))


async def _rotate(session: Session) -> int:
    import asyncio

    from collegium.cli.deeds import note
    from collegium.wiring.encryption import rewrap_data_keys

    async with session.open() as app:
        count = await asyncio.to_thread(rewrap_data_keys, session.settings)
        await note(app, "encryption.rotate_kek", count=count)
    if session.is_json:
        session.emit({"data_keys": count})
    else:
        print(f"{count} data keys were encrypted with another key, and are now with this one")
    return 0
