"""Reads input files and folders from disk, for ``ports.Inputs``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from collegium.domain.document import GivenFile, SkippedFile
from collegium.domain.errors import UnreadableInput

MAX_FILES = 20_000
MAX_FILE_BYTES = 50 * 1024 * 1024
_HIDDEN = frozenset({"__pycache__", "node_modules"})


class DiskInputs:
    """Files by path; a folder stands for every file below it, hidden ones and links out of it left aside.

    A file's path in answers is relative to the folder that was named, or its name when the file itself was named; two
    of
    the same name are told apart by the folder in front.

    Args:
        max_files: More files than this are refused as a whole: most likely a wrong folder was named.
        max_file_bytes: A larger file is skipped.
    """

    def __init__(self, *, max_files: int = MAX_FILES, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        self._max_files = max_files
        self._max_file_bytes = max_file_bytes

    async def collect(self, paths: Sequence[str]) -> AsyncIterator[GivenFile | SkippedFile]:
        """See ``ports.Inputs``."""
        found = await asyncio.to_thread(self._find, paths)
        for name, path in found:
            yield await asyncio.to_thread(self._read, name, path)

    def _find(self, paths: Sequence[str]) -> list[tuple[str, Path]]:
        found: dict[str, Path] = {}
        for given in paths:
            root = Path(given).expanduser()
            if not root.exists():
                raise UnreadableInput(f"there is no file or folder {given}: check the path after --files", path=given)
            for path in [root] if root.is_file() else self._walk(root):
                name = path.name if root.is_file() else path.relative_to(root).as_posix()
                if found.get(name, path) != path:
                    name = f"{root.parent.name if root.is_file() else root.name}/{name}"
                found[name] = path
                if len(found) > self._max_files:
                    raise UnreadableInput(
                        f"{given} holds more than {self._max_files:,} files: name a smaller folder, or raise "
                        "inputs.max_files (COLLEGIUM_INPUTS__MAX_FILES)",
                        path=given,
                    )
        return sorted(found.items())

    def _walk(self, folder: Path) -> Iterator[Path]:
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise UnreadableInput(f"the folder {folder} cannot be read: {error.strerror}", path=str(folder)) from error
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _HIDDEN or entry.is_symlink():
                continue
            if entry.is_dir():
                yield from self._walk(entry)
            elif entry.is_file():
                yield entry

    def _read(self, name: str, path: Path) -> GivenFile | SkippedFile:
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = name.encode("utf-8", "replace").decode()
            return SkippedFile(path=shown, reason="its name is not UTF-8: rename it")
        try:
            size = path.stat().st_size
            if size > self._max_file_bytes:
                cap = self._max_file_bytes // 1_048_576
                what = f"it has {size / 1_048_576:,.0f} MiB and the cap is {cap} MiB"
                return SkippedFile(path=name, reason=f"{what}: split it, or raise inputs.max_file_bytes")
            return GivenFile(path=name, data=path.read_bytes())
        except OSError as error:
            return SkippedFile(path=name, reason=f"it cannot be read: {error.strerror}")
