"""The log says which settings are others than at the last start, and never what they are."""

from __future__ import annotations

import msgspec

from collegium.adapters.memory.records import MemoryRecords
from collegium.config import Settings, explain
from collegium.domain.deed import INSTALLATION
from collegium.runtime.admin_log import AdminLog
from collegium.runtime.settings_log import KIND, note_settings
from collegium.testing.harness import team
from tests.unit.stores.moved import working


def shown(**changes: object) -> dict[str, str]:
    return {row.key: str(row.value) for row in explain(Settings.model_validate(changes))}


async def test_names_of_what_changed_enter_the_log_and_no_values():
    async with team(working()) as app:
        records, log = MemoryRecords(), AdminLog(app.stores.journal, now=app.now)
        plain = shown(store="postgresql://ann:s3cret-word-of-ann@db/one")
        assert await note_settings(records, log, plain)
        assert await note_settings(records, log, plain) == ()
        changed = {**plain, "store": "postgresql://ann:****@db/two", "server.port": "1", "OPENAI_API_KEY": "****abcd"}
        assert await note_settings(records, log, changed) == ("OPENAI_API_KEY", "server.port", "store")
        first, second = [deed async for deed in log.lines(INSTALLATION)]
        assert (first.action, first.reason, first.details) == ("settings.changed", "the first start", {"keys": []})
        assert second.details == {"keys": ["OPENAI_API_KEY", "server.port", "store"]}
        (kept,) = await records.find(KIND, INSTALLATION)
        text = msgspec.json.encode([first, second, kept.value]).decode()
        assert "s3cret" not in text
        assert "db/two" not in text
