"""Settings to a working Collegium: the one place that names concrete adapters."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from collegium.adapters.clock import SystemClock
from collegium.agents.roster import Roster, builtin_agents, builtin_prompt, parse
from collegium.app import Collegium, Stores
from collegium.config import Settings, load_settings
from collegium.domain.agent import Agent
from collegium.domain.errors import UnreadableInput, UsageError
from collegium.domain.ids import Ids
from collegium.ports import Embedder, Models, Scorer
from collegium.runtime.room import IndexingProgress, Rooms
from collegium.runtime.worker import Team
from collegium.tools.builtin import builtin_tools
from collegium.tools.definition import Tool
from collegium.tools.toolbox import Toolbox

PullProgress = Callable[[int, int | None], None]
"""``(bytes so far, bytes in all or None)`` while a model is fetched."""


@asynccontextmanager
async def open_collegium(
    settings: Settings | None = None,
    *,
    tools: Sequence[Tool] = (),
    agents: Sequence[Agent] = (),
    scope: str = "own",
    model: str | None = None,
    record: Path | None = None,
    replay: Path | None = None,
    on_indexing: IndexingProgress | None = None,
    on_pull: PullProgress | None = None,
) -> AsyncIterator[Collegium]:
    """A working Collegium on the embedded default: one process, SQLite.

    Leaving the block parks what is being worked on; it goes on with ``resume``.

    Args:
        settings: Where things are and how much of them; read from file and environment when not given.
        tools: Own tools beside the built-in ones.
        agents: Own agents; one with the name of a built-in agent replaces it.
        scope: Whose runs this process works on, see ``Collegium``.
        model: Name of the default model; chosen from settings, keys and what runs on this machine when not given.
        record: Write every model call to this cassette.
        replay: Answer every model call from this cassette; needs no key and no network.

    Raises:
        UsageError: settings that cannot be.
        StoreError: the store cannot be opened.
    """
    settings = settings or load_settings(None, os.environ, {})
    clock = SystemClock()
    ids = Ids(lambda: time.time_ns() // 1_000_000)
    stores, close = _stores(settings)
    try:
        await stores.presence.dead()  # the folder is readable, or the error comes now
        models = _models(settings, stores, clock=clock, on_pull=on_pull, record=record, replay=replay)
        team = Team(
            roster=Roster((*builtin_agents(), *_declared(settings), *agents)),
            models=models,
            toolbox=Toolbox((*builtin_tools(), *tools)),
            scorer=_scorer(),
            rooms=_rooms(settings, stores, on_indexing),
        )
        app = Collegium(
            stores,
            team,
            inputs=_inputs(settings),
            clock=clock,
            ids=ids,
            default_model=model or await default_model(settings, os.environ),
            scope=scope,
            concurrency=settings.worker.concurrency,
        )
        await app.start()
        try:
            yield app
        finally:
            await app.aclose()
    finally:
        await close()
