"""A file from a URL, in parts if need be: what was fetched before an interruption is kept and gone on from."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import aiohttp

from collegium.adapters.models import http_errors
from collegium.domain.errors import ModelUnavailable, UnreadableInput, UsageError

_CHUNK = 1024 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=60)


async def download(url: str, target: Path, *, sha256: str, progress: Callable[[int, int | None], None]) -> None:
    """Puts the file at ``url`` to ``target``, verified, at once.

    What has come is in ``.NAME.part``; another call asks only for the rest of it (``Range``), and begins again where
    the server does not give parts.

    Raises:
        UsageError: the server does not have the file.
        ModelUnavailable: the connection failed; call again to go on.
        UnreadableInput: the whole file has another hash; it was deleted.

    Source: RFC 9110, section 14 (range requests).
    """
    part = target.with_name(f".{target.name}.part")
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False) as session:
            await _fetch(session, url, part, progress)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ModelUnavailable(
            f"{http_errors.transport_error(error, where=url, model='').message}; {_size(part):,} bytes are kept: "
            "pull again to go on",
            url=url,
        ) from error
    actual = await asyncio.to_thread(_hash, part)
    if actual != sha256:
        part.unlink()
        raise UnreadableInput(
            f"{url} gave another file than expected: SHA-256 {actual} instead of {sha256}; it was deleted", url=url
        )
    part.replace(target)


async def _fetch(
    session: aiohttp.ClientSession, url: str, part: Path, progress: Callable[[int, int | None], None]
) -> None:
    done = _size(part)
    headers = {"Range": f"bytes={done}-", "Accept-Encoding": "identity"} if done else {"Accept-Encoding": "identity"}
    async with session.get(url, headers=headers) as response:
        if response.status == 416:  # the part is already as long as the file, or longer: the hash tells
            return
        if response.status not in (200, 206):
            raise _refused(response.status, url)
        if response.status == 200:
            done = 0
        rest = response.content_length
        total = None if rest is None else done + rest
        with part.open("ab" if done else "wb") as file:
            async for chunk in response.content.iter_chunked(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
            file.flush()
            os.fsync(file.fileno())


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _refused(status: int, url: str) -> UsageError | ModelUnavailable:
    if status == 429 or status >= 500:
        return ModelUnavailable(f"{url} answered {status}; pull again later", url=url)
    return UsageError(f"{url} answered {status}: there is no such file, or it is not public", url=url)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
