"""The checks of ``collegium doctor``: each says what it found, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import sys
from collections import defaultdict
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from collegium.cli.finding import Check
from collegium.cli.server_checks import servers
from collegium.cli.text import count, size
from collegium.domain.errors import CollegiumError

if TYPE_CHECKING:
    from collegium.cli.session import Session
    from collegium.config import Settings

LOW_BYTES, TOO_LOW_BYTES = 1 << 30, 100 << 20
CONNECT_S = 2.0
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+).*?extra\s*==\s*['\"]([a-z]+)['\"]")


async def check_all(session: Session) -> list[Check]:
    """All checks, in the order in which they depend on each other."""
    checks = [python(), sqlite()]
    try:
        settings = session.settings
    except CollegiumError as error:
        return [*checks, Check("settings", "fail", error.message, "mend the file or variable that is named"), *extras()]
    file = settings.config_file
    checks.append(Check("settings", "ok", str(file) if file else "defaults and environment, no collegium.toml here"))
    checks += [data_dir(settings), await store(session, settings), *await servers(settings), chain(settings)]
    checks += extras()
    return [*checks, await model(settings), keys(settings)]


def python() -> Check:
    """The interpreter."""
    return Check("python", "ok", f"{platform.python_version()} at {sys.executable}")


def sqlite() -> Check:
    """SQLite as this interpreter was built with it: search by words needs FTS5."""
    connection = _sqlite().connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
    except _sqlite().OperationalError:
        return Check("sqlite", "fail", f"{_sqlite().sqlite_version} without FTS5", "use a Python whose SQLite has FTS5")
    finally:
        connection.close()
    return Check("sqlite", "ok", f"{_sqlite().sqlite_version} with FTS5")


def data_dir(settings: Settings) -> Check:
    """Whether the data folder can be written, and has room."""
    folder = settings.data_dir
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        advice = "make it writable, or choose another: --data-dir DIR or COLLEGIUM_DATA_DIR"
        return Check("data folder", "fail", f"{folder} cannot be written ({existing} is in the way)", advice)
    free = shutil.disk_usage(existing).free
    found = f"{folder}, {size(free)} free" + ("" if folder.exists() else ", made with the first run")
    if free < LOW_BYTES:
        return Check("data folder", "fail" if free < TOO_LOW_BYTES else "warn", found, "make room on that disk")
    return Check("data folder", "ok", found)


async def store(session: Session, settings: Settings) -> Check:
    """Whether the store opens, and is whole."""
    from collegium.cli.past import tombstone_of
    from collegium.config import shown_url
    from collegium.wiring.file_keys import store_damage

    scheme, path = _sqlite_path(settings.store)
    place = str(path) if scheme == "sqlite" else shown_url(settings.store)
    if scheme == "sqlite" and not path.exists():
        return Check("store", "ok", f"{path}, made with the first run")
    try:
        async with session.open() as app:
            newest = await app.runs()
            for head in newest[:20]:
                if await tombstone_of(app, head.run) is None:
                    await app.state(head.run)
                bad = None if app.stores.archive is None else await app.stores.archive.verify(head.run)
                if bad is not None:
                    return Check("store", "fail", f"{head.run} was changed at event {bad}", "collegium runs check")
    except CollegiumError as error:
        act = "start it" if error.retryable else "restore it from a backup"
        return Check("store", "fail", error.message, f"{act}, or choose another with --store")
    problem = await asyncio.to_thread(store_damage, settings, path) if scheme == "sqlite" else ""
    if problem:
        return Check("store", "fail", f"{path} is damaged: {problem}", "restore it from a backup")
    runs = "100 runs or more" if len(newest) >= 100 else count(len(newest), "run")
    return Check("store", "ok", f"{place}, whole, {runs}")


def chain(settings: Settings) -> Check:
    """Whether the journal's chain has a key of its own."""
    path = settings.journal.chain_key_file
    if path is None:
        return Check(
            "journal",
            "warn",
            "its chain has no secret key: it shows accidents, not forgery",
            "head -c 32 /dev/urandom | base64 > chain.key, and name it as journal.chain_key_file (new stores only)",
        )
    if not os.access(path, os.R_OK):
        return Check("journal", "fail", f"the chain key file {path} cannot be read", "check journal.chain_key_file")
    return Check("journal", "ok", f"chained with the key in {path}")


def extras() -> list[Check]:
    """Which extras are installed, with the versions of what they bring."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for line in metadata.requires("collegium") or ():
        match = _REQUIREMENT.match(line)
        if match and match[2] != "all":
            wanted[match[2]].append(match[1])
    checks, missing = [], []
    for extra, names in wanted.items():
        versions = {name: _version(name) for name in names}
        if all(versions.values()):
            checks.append(Check(f"[{extra}]", "ok", ", ".join(f"{n} {v}" for n, v in versions.items())))
        elif extra == "local":
            lacks = ", ".join(name for name, v in versions.items() if not v)
            found = f"lacks {lacks}: no local model, no search by meaning, no PDF or DOCX"
            checks.append(Check("[local]", "warn", found, "pip install 'collegium[local]'"))
        else:
            missing.append(extra)
    if missing:
        checks.append(Check("other extras", "ok", f"not installed: {', '.join(missing)}"))
    return checks


async def model(settings: Settings) -> Check:
    """The model that is meant when none is named, and whether it is to be had."""
    from collegium.wiring import default_model, has_local_extra, local_models

    try:
        name = await default_model(settings)
    except CollegiumError as error:
        return Check("model", "fail", error.message, "set a key, or name a model: --model or COLLEGIUM_MODEL")
    provider, _, rest = name.partition(":")
    if provider == "local":
        if not has_local_extra():
            advice = "pip install 'collegium[local]', or set a key, or name a server with --model"
            return Check("model", "fail", f"{name} needs the extra [local]", advice)
        here = {m.name: m for m in local_models(settings)}.get(rest)
        if here is not None and here.path is None:
            found = f"{name} is not here yet; the first run fetches it ({size(here.size_bytes)})"
            return Check("model", "warn", found, f"collegium models pull {rest}")
        return Check("model", "ok", f"{name}, free, on this machine")
    if provider == "openai-compatible":
        url = rest.rpartition("@")[2]
        if not await _answers(url):
            return Check("model", "fail", f"{name}: nothing answers at {url}", "start the server, or correct the URL")
        return Check("model", "ok", f"{name} answers")
    return Check("model", "ok", name, f"collegium models test {name} asks it, for a fraction of a cent")


def keys(settings: Settings) -> Check:
    """Which providers' keys are set."""
    from collegium.config import KEY_VARIABLES, explain

    rows = [row for row in explain(settings) if row.key in KEY_VARIABLES]
    if not rows:
        return Check("keys", "ok", "none set: only local models and servers of your own can be asked")
    return Check("keys", "ok", ", ".join(f"{row.key} {row.value}" for row in rows))


def _sqlite_path(store: str) -> tuple[str, Path]:
    scheme, _, rest = store.partition(":///")
    return scheme, Path(rest).expanduser()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _sqlite() -> Any:
    # The interpreter's own part is looked at, not used as a store: that is for adapters alone.
    return import_module("sqlite3")


async def _answers(url: str) -> bool:
    """Whether somebody accepts connections there; nothing is sent."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
