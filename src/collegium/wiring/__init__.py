"""Settings to a working Collegium: the one place that names concrete adapters."""

from __future__ import annotations

import os
import platform
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from collegium import __version__
from collegium.adapters.clock import SystemClock
from collegium.adapters.entropy import PooledEntropy
from collegium.adapters.extract.extractor import FileExtractor
from collegium.adapters.folders import make_folder
from collegium.adapters.inputs import DiskInputs
from collegium.adapters.lone_processes import COMMAND as LONE_COMMAND
from collegium.adapters.lone_processes import LoneProcesses, Order, read_order
from collegium.adapters.memory.replay import replay
from collegium.adapters.models.cassette import CassetteModels
from collegium.adapters.models.catalogue import LocalModelInfo, list_models
from collegium.adapters.models.connections import Timeouts
from collegium.adapters.models.defaults import default_model_name, probe_loopback
from collegium.adapters.models.key_ring import ModelRate
from collegium.adapters.models.local import LocalSettings
from collegium.adapters.models.profiles import ProfileChange
from collegium.adapters.models.pull import pull
from collegium.adapters.models.registry import ModelRegistry, ModelSettings
from collegium.adapters.models.retrying import RetryPolicy
from collegium.adapters.scorers.lexical import LexicalScorer
from collegium.adapters.sqlite.index import SqliteIndex
from collegium.adapters.tools.workspace import FolderWorkspaces
from collegium.agents.roster import Roster, builtin_agents, builtin_prompt, parse
from collegium.app import Collegium, Scope, Stores
from collegium.config import Settings, load_settings
from collegium.config.limits import account_caps, run_limits
from collegium.config.secrets import redactor_of
from collegium.domain.agent import Agent
from collegium.domain.chain import PUBLIC_KEY
from collegium.domain.errors import StoreReadOnly, UnknownName, UsageError
from collegium.domain.ids import Ids
from collegium.domain.usage import Price
from collegium.knowledge.library import Library
from collegium.oversight.approvals import ApprovalPolicy
from collegium.oversight.asking import AskPolicy
from collegium.ports import Clock, Embedder, Models
from collegium.runtime.alone import SendOff
from collegium.runtime.cards import Place
from collegium.runtime.export import Checked, Export, export
from collegium.runtime.performer import Team
from collegium.runtime.privacy import Privacy
from collegium.runtime.replay import Replayed
from collegium.runtime.retention import Retention
from collegium.runtime.room import IndexingProgress, Rooms
from collegium.runtime.shares import Caps
from collegium.runtime.wishes import Wishes
from collegium.telemetry import Meter, teach_logs
from collegium.tools.builtin import builtin_tools
from collegium.tools.definition import Tool
from collegium.tools.toolbox import Toolbox
from collegium.wiring.file_keys import key_for_scratch
from collegium.wiring.stores import file_cache, open_stores

PullProgress = Callable[[int, int | None], None]
"""``(bytes so far, bytes in all or None)`` while a model is fetched."""


@asynccontextmanager
async def open_collegium(
    settings: Settings | None = None,
    *,
    tools: Sequence[Tool] = (),
    agents: Sequence[Agent] = (),
    scope: Scope = "own",
    model: str | None = None,
    record: Path | None = None,
    replay: Path | None = None,
    on_indexing: IndexingProgress | None = None,
    on_pull: PullProgress | None = None,
    alone: Sequence[str] | None = None,
    hands_over: bool | None = None,
    meter: Meter | None = None,
) -> AsyncIterator[Collegium]:
    """A working Collegium: on the embedded default (one process, SQLite), or on the stores that ``settings`` name.

    Leaving the block parks what is being worked on; it goes on with ``resume``.

    Args:
        settings: Where things are and how much of them; read from file and environment when not given.
        tools: Own tools beside the built-in ones.
        agents: Own agents; one with the name of a built-in agent replaces it.
        scope: Whose runs this process works on, see ``Collegium``.
        model: Name of the default model; chosen from settings, keys and what runs on this machine when not given.
        record: Write every model call to this cassette.
        replay: Answer every model call from this cassette; needs no key and no network.
        on_indexing: Told how far the reading of a run's files is.
        on_pull: Told how far the fetching of a local model is.
        alone: Command (program and arguments) that calls ``work_alone`` with its standard input and the same tools and
            agents. A task that has killed its worker twice runs in such a process. Without own tools and agents there
            is one already; with them and without a command, such a task waits until nothing else is worked on.
        hands_over: Whether another worker goes on at once with what is parked; as a rule with scope ``all``.
        meter: Where this process counts.

    Raises:
        UsageError: settings that cannot be.
        StoreError: the store cannot be opened.
    """
    settings = settings or load_settings(None, os.environ, {})
    clock, entropy = SystemClock(), PooledEntropy()
    redactor = redactor_of(settings, os.environ)
    teach_logs(redactor)
    _make_private(settings.data_dir)
    roster = Roster((*builtin_agents(), *_declared(settings), *agents))
    model = model or await default_model(settings)
    async with open_stores(settings, scope, clock=clock, chain_key=chain_key(settings), entropy=entropy) as stores:
        registry = _models(settings, clock, on_pull, stores)
        models: Models = registry
        if record is not None or replay is not None:
            models = CassetteModels(models, record=record, replay=replay)
        embedder = _embedder()
        team = Team(
            roster=roster,
            models=models,
            toolbox=Toolbox((*builtin_tools(), *tools), redactor=redactor),
            scorer=LexicalScorer(),
            embedder=embedder,
            rooms=_rooms(settings, stores, embedder, on_indexing),
            approvals=_approvals(settings),
            asks=AskPolicy(depth=settings.limits.ask_depth),
            limits=run_limits(settings.limits),
            caps=account_caps(settings.limits),
            shares=Caps(tenant_tasks=settings.limits.tenant_tasks, tenants=settings.limits.tasks_of),
            loaded=lambda: registry.loaded,
            other_model=settings.models.other,
            send_off=_send_off(
                settings,
                LONE_COMMAND if alone is None and not (tools or agents or record or replay) else alone,
                model,
                scope == "all" if hands_over is None else hands_over,
            ),
        )
        app = Collegium(
            stores,
            team,
            inputs=DiskInputs(max_files=settings.inputs.max_files, max_file_bytes=settings.inputs.max_file_bytes),
            clock=clock,
            ids=Ids(clock.now_ms, entropy, place=stores.place),
            default_model=model,
            scope=scope,
            concurrency=settings.worker.concurrency,
            grace_s=settings.worker.grace_s,
            hands_over=hands_over,
            capabilities=_known(settings.worker.capabilities, roster) if scope == "all" else (),
            place=Place(host=platform.node(), pid=os.getpid(), version=__version__),
            meter=meter,
        )
        if scope != "own":  # others look at the same runs
            wishes = Wishes(stores.bus, clock=clock)
            app.scheduler.hints.share(stores.bus, wishes, app.worker.id)
            app.worker.deltas.start(wishes)
        await app.start()
        try:
            yield app
        finally:
            await app.aclose()


async def work_alone(order: bytes, *, tools: Sequence[Tool] = (), agents: Sequence[Agent] = ()) -> None:
    """Works on the one attempt that ``order`` names, and returns when it has ended.

    Args:
        order: What a worker has written to the standard input of its ``alone`` command; see ``open_collegium``.
        tools: The same as the worker's.
        agents: The same as the worker's.
    """
    wanted = read_order(order)
    settings = Settings.model_validate(wanted.settings)
    async with open_collegium(
        settings, tools=tools, agents=agents, scope="none", model=wanted.model, hands_over=wanted.hands_over
    ) as app:
        await app.work_alone(wanted.run, wanted.task, wanted.attempt)


async def export_run(app: Collegium, settings: Settings, run: str, *, tenant: str) -> AsyncIterator[bytes]:
    """The lines of the export of ``run``; see ``runtime.export``."""
    async for line in export(run, app.stores, tenant=tenant, now=SystemClock().now(), key=chain_key(settings)):
        yield line


async def replay_export(
    settings: Settings, exported: Export, *, tools: Sequence[Tool] = (), agents: Sequence[Agent] = (), is_pinned: bool
) -> Replayed:
    """Runs an exported run again, with the present agents and definitions of tools unless ``is_pinned``.

    Its documents are searched alone first. Where that goes another way, once more among all that this machine has
    indexed, which is what the run was made with if it was made here.
    """

    async def once(index: Path) -> Replayed:
        return await replay(
            exported,
            agents=tuple(Roster((*builtin_agents(), *_declared(settings), *agents))),
            tools=(*builtin_tools(), *tools),
            scorer=LexicalScorer(),
            index=SqliteIndex(index, key_for_scratch(settings, shared)),
            embedder=_embedder(),
            is_pinned=is_pinned,
        )

    shared = settings.data_dir / "index.db"
    with TemporaryDirectory(prefix="collegium-replay-") as folder:
        alone = await once(Path(folder) / "index.db")
    if alone.is_same or not shared.is_file():
        return alone
    among = await once(shared)
    return among if among.is_same else alone


def check_export(settings: Settings, exported: Export) -> Checked:
    """Whether the events of an export are as they were written, as far as the chain key here can tell."""
    return exported.check(chain_key(settings))


def retention(app: Collegium, settings: Settings) -> Retention:
    """What prunes the runs of the store that ``app`` works on."""
    return Retention(app.stores, FolderWorkspaces(settings.data_dir / "runs"), clock=SystemClock())


def privacy(app: Collegium, settings: Settings) -> Privacy:
    """What finds, exports and erases what the stores of ``app`` hold of a principal."""
    return Privacy(
        app.stores,
        retention(app, settings),
        library=_library(settings, app.stores, _embedder()),
        now=app.now,
        redactor=redactor_of(settings, os.environ),
    )


async def default_model(settings: Settings) -> str:
    """The model for goals that name none: from the settings, a provider whose key is set, or this machine."""
    return settings.model or await default_model_name(os.environ, probe_loopback)


def local_models(settings: Settings) -> tuple[LocalModelInfo, ...]:
    """The local models of the catalogue and those that were fetched."""
    return list_models(settings.data_dir / "models")


async def pull_model(
    settings: Settings, name: str, *, sha256: str | None = None, on_pull: PullProgress | None = None
) -> Path:
    """Fetches a local model by its name in the catalogue or its URL; see ``adapters.models.pull``."""
    return await pull(
        name, models_dir=settings.data_dir / "models", clock=SystemClock(), sha256=sha256, progress=on_pull
    )


def has_local_extra() -> bool:
    """Whether ``[local]`` is installed: embeddings, document formats and the engine for local models."""
    return all(find_spec(name) is not None for name in ("numpy", "tokenizers", "wordllama", "xllamacpp"))


def read_agents(path: Path) -> tuple[Agent, ...]:
    """The agents declared in a TOML file; ``prompt_file`` is looked up beside it. Raises ``UsageError``."""

    def prompt(name: str) -> str:
        beside = path.parent / name
        if not beside.is_file():
            return builtin_prompt(name)
        return beside.read_text("utf-8").strip()

    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the agents file {path} cannot be read: {error}", path=str(path)) from error
    return parse(text, source=str(path), prompt=prompt)


def _declared(settings: Settings) -> tuple[Agent, ...]:
    return tuple(agent for path in settings.agents.files for agent in read_agents(path))


def check_capabilities(settings: Settings) -> None:
    """Raises ``UsageError`` where ``worker.capabilities`` names one that no agent has."""
    _known(settings.worker.capabilities, Roster((*builtin_agents(), *_declared(settings))))


def _known(capabilities: Sequence[str], roster: Roster) -> Sequence[str]:
    for capability in capabilities:
        if capability not in roster.capabilities:
            near = get_close_matches(capability, roster.capabilities, n=3) or roster.capabilities
            raise UnknownName(
                f"no agent has the capability {capability!r}; did you mean {', '.join(near)}?", capability=capability
            )
    return capabilities


def _make_private(folder: Path) -> None:
    """Makes the data folder, for this user alone: it holds copies of every document that was given."""
    try:
        make_folder(folder, mode=0o700)
    except OSError as error:
        raise StoreReadOnly(f"the data folder {folder} cannot be made: {error.strerror}", path=str(folder)) from error


def chain_key(settings: Settings) -> bytes:
    """The key of the chains: of the file that the settings name, else the public one. Raises ``UsageError``."""
    path = settings.journal.chain_key_file
    if path is None:
        return PUBLIC_KEY
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"the chain key file {path} cannot be read: {error.strerror}", path=str(path)) from error
    if len(key) < 32:
        raise UsageError(f"the chain key file {path} holds {len(key)} bytes and at least 32 are needed", path=str(path))
    return key


def _send_off(settings: Settings, command: Sequence[str] | None, model: str, hands_over: bool) -> SendOff | None:
    if command is None:
        return None
    order = Order(settings=settings.model_dump(mode="json"), model=model, hands_over=hands_over)
    return LoneProcesses(command, order, grace_s=2 * settings.worker.grace_s)


def _models(settings: Settings, clock: Clock, on_pull: PullProgress | None, stores: Stores) -> ModelRegistry:
    wanted = settings.models
    cache = (stores.cache or file_cache(settings, clock)) if wanted.cache else None
    return ModelRegistry(
        environ=os.environ,
        data_dir=settings.data_dir,
        clock=clock,
        random=random.random,
        settings=ModelSettings(
            profiles={n: ProfileChange(**p.model_dump()) for n, p in wanted.profiles.items()},
            prices={n: Price(**p.model_dump()) for n, p in wanted.prices.items()},
            rates={n: ModelRate(**r.model_dump()) for n, r in wanted.rates.items()},
            retry=RetryPolicy(attempts=wanted.max_attempts),
            timeouts=Timeouts(total_s=wanted.timeout_s),
            local=LocalSettings(context_tokens=wanted.context_tokens, idle_s=wanted.idle_s),
        ),
        cache=cache,
        quota=stores.quota,
        progress=on_pull,
    )


def _approvals(settings: Settings) -> ApprovalPolicy:
    wanted = settings.approvals
    return ApprovalPolicy(
        tools=tuple(wanted.tools),
        expires_s=wanted.expires_s,
        default=wanted.default,
        is_four_eyes=wanted.four_eyes,
        assignee=wanted.assignee,
        is_escalating=settings.oversight.escalate,
    )


def _rooms(
    settings: Settings, stores: Stores, embedder: Embedder | None, on_indexing: IndexingProgress | None
) -> Rooms:
    workspaces = FolderWorkspaces(settings.data_dir / "runs")
    return Rooms(_library(settings, stores, embedder), workspaces, stores.blobs, on_indexing=on_indexing)


def _library(settings: Settings, stores: Stores, embedder: Embedder | None) -> Library:
    path = settings.data_dir / "index.db"
    return Library(
        SqliteIndex(path, key_for_scratch(settings, path)),
        embedder,
        extractor=FileExtractor(max_bytes=settings.inputs.max_file_bytes),
        blobs=stores.blobs,
        records=stores.records,
    )


def _embedder() -> Embedder | None:
    """The packaged static model; without ``[local]`` search goes by words alone."""
    if find_spec("numpy") is None or find_spec("tokenizers") is None or find_spec("wordllama") is None:
        return None
    from collegium.adapters.embedders.static import StaticEmbedder

    return StaticEmbedder()
