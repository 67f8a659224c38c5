"""Changes of settings, as they enter the administrative log of the installation: which, never to what."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from collegium.domain.deed import INSTALLATION, LogNoted
from collegium.domain.record import Record
from collegium.ports import Records
from collegium.runtime.admin_log import AdminLog

KIND: Final = "settings_noted"
_KEY: Final = "effective"


async def note_settings(records: Records, log: AdminLog, settings: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the settings that differ from those noted last, once the log has them; nothing is noted for none.

    What is kept to compare with are digests. Servers of one store that are set differently each note, as they start,
    what is different in them.

    Args:
        records: Where the digests are kept.
        log: What is written into.
        settings: Values in force as they may be shown, by name: secrets masked.

    Raises:
        StoreError: it could not be written; it is noted the next time.
    """
    now = {name: hashlib.sha256(value.encode()).hexdigest()[:32] for name, value in settings.items()}
    found = await records.get(KIND, INSTALLATION, _KEY)
    before = {} if found is None else found.value
    changed = tuple(sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name)))
    if not changed:
        return ()
    line = LogNoted(
        actor="local",
        action="settings.changed",
        object="settings",
        rule="host",
        reason="the first start" if found is None else "",
        details={"keys": [] if found is None else list(changed)},
    )
    await log.note(INSTALLATION, line)  # first: after a crash it is noted twice, and never not at all
    await records.put(Record(kind=KIND, tenant=INSTALLATION, key=_KEY, value=now))
    return changed
