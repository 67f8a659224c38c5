"""The extractor: chooses the format, keeps the time, and says clearly what could not be read and why."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec

from collegium.adapters.extract.decode import decode
from collegium.adapters.extract.jsontext import json_blocks, jsonl_blocks
from collegium.adapters.extract.kinds import MEDIA_TYPES, PLAIN, kind_by_name, kind_of
from collegium.adapters.extract.lines import text_blocks
from collegium.adapters.extract.markdown import markdown_blocks
from collegium.adapters.extract.office import docx_text, pdf_text
from collegium.adapters.extract.source import source_blocks
from collegium.adapters.extract.tables import table_blocks
from collegium.domain.document import Block, Extraction
from collegium.domain.errors import UnreadableInput

Blocks = tuple[Block, ...]
_VERSION: Final = "1"
_LIBRARIES: Final = {"html": "selectolax", "pdf": "pypdfium2", "docx": "python-docx"}
READERS: Final = {kind: Path(__file__).with_name(f"{kind}_reader.py") for kind in ("pdf", "docx")}
"""Programs that read a format in a process of their own."""
_PLAIN_BLOCKS: Final[dict[str, Callable[[str], tuple[str, Blocks]]]] = {
    "markdown": markdown_blocks,
    "text": text_blocks,
    "csv": table_blocks,
    "json": json_blocks,
    "jsonl": jsonl_blocks,
    "source": source_blocks,
}
_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "SYSTEMROOT", "TMPDIR")
"""What a reader is told of this process: no keys, for what it reads may be hostile."""
_LARGE_BYTES: Final = 50_000
"""Files below this are read without leaving the event loop: a thread would cost more."""


class FileExtractor:
    """Implements ``ports.Extractor`` for Markdown, text, HTML, PDF, DOCX, CSV, JSON and source code.

    PDF and DOCX are read by a program of their own, so that broken files end that program and not this
    process, and so that the time cap holds. Plain formats need no optional library.

    Args:
        max_bytes: Larger files are refused.
        timeout_s: A file that takes longer is given up.
        at_once: How many PDF and DOCX files are read at once.
        readers: The program per format; it gets the file on standard input.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 50 << 20,
        timeout_s: float = 60.0,
        at_once: int = 2,
        readers: Mapping[str, Path] = READERS,
    ) -> None:
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._gate = asyncio.Semaphore(at_once)
        self._readers = readers

    def variant(self, path: str) -> str:
        """The format that the name tells, the version of this code and of the library that reads it."""
        kind = kind_by_name(path) or "other"
        library = _LIBRARIES.get(kind)
        return f"{kind}/{_VERSION}" + (f"/{library}-{_installed(library)}" if library else "")

    async def extract(self, path: str, data: bytes) -> Extraction:
        """Text and structure of a file. Raises ``UnreadableInput`` saying what is wrong with it and what to do."""
        if not data:
            raise _unreadable(path, "it is empty")
        if len(data) > self._max_bytes:
            raise _unreadable(
                path, f"it has {len(data) / 1e6:,.1f} MB, more than the {self._max_bytes / 1e6:,.0f} MB that are read"
            )
        try:
            kind = kind_of(path, data)
            text, title, blocks = await self._read(path, kind, data)
        except ValueError as error:
            raise _unreadable(path, str(error)) from None
        if not text.strip():
            raise _unreadable(path, _no_text(kind))
        library = _LIBRARIES.get(kind)
        extractor = f"{kind}/{_VERSION}" + (f"/{library}-{_installed(library)}" if library else "")
        return Extraction(
            text=text,
            title=" ".join(title.split())[:200],
            media_type=MEDIA_TYPES[kind],
            blocks=blocks,
            extractor=extractor,
        )

    async def _read(self, path: str, kind: str, data: bytes) -> tuple[str, str, Blocks]:
        if kind in self._readers:
            async with self._gate:
                reply = await self._run_reader(path, kind, data)
            return pdf_text(reply) if kind == "pdf" else docx_text(reply)
        read = _read_plain if kind in PLAIN else _read_html
        if len(data) < _LARGE_BYTES:
            return read(kind, data)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.to_thread(read, kind, data)
        except TimeoutError:
            raise ValueError(f"reading it took longer than {self._timeout_s:g} s") from None

    async def _run_reader(self, path: str, kind: str, data: bytes) -> dict[str, Any]:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-B", str(self._readers[kind]),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._timeout_s):
                out, _ = await child.communicate(data)
        except TimeoutError:
            raise ValueError(f"reading it took longer than {self._timeout_s:g} s") from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode != 0 or not out:
            raise ValueError(f"it is broken: its reader ended with code {child.returncode}")
        reply: dict[str, Any] = msgspec.json.decode(out)
        if "missing" in reply:
            raise _missing(path, kind)
        if "error" in reply:
            raise ValueError(reply["error"])
        return reply


def _read_plain(kind: str, data: bytes) -> tuple[str, str, Blocks]:
    text = decode(data)
    try:
        title, blocks = _PLAIN_BLOCKS[kind](text)
    except (ValueError, RecursionError):  # what only calls itself JSON or CSV is still text that can be searched
        title, blocks = text_blocks(text)
    return text, title, blocks


def _read_html(kind: str, data: bytes) -> tuple[str, str, Blocks]:
    try:
        from collegium.adapters.extract.html import html_text
    except ImportError:
        raise _missing("", kind) from None
    return html_text(decode(data))


def _installed(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "none"


def _no_text(kind: str) -> str:
    if kind == "pdf":
        return "it holds no text, only pictures of pages (a scan?); give a copy with a text layer"
    return "there is no text in it"


def _missing(path: str, kind: str) -> UnreadableInput:
    reason = (
        f"{kind.upper()} files need the package {_LIBRARIES[kind]}; install it with: pip install 'collegium[local]'"
    )
    return UnreadableInput(f"{path}: {reason}" if path else reason, path=path, reason=reason, extra="local")


def _unreadable(path: str, reason: str) -> UnreadableInput:
    return UnreadableInput(f"{path} cannot be read: {reason}", path=path, reason=reason)
