"""Work folders in memory: for tests, simulations and runs that leave nothing behind."""

from __future__ import annotations

from collegium.adapters.tools.folder_rules import LIMITS, FolderLimits, check_room, run_folder
from collegium.domain.errors import NotFound, ToolError
from collegium.tools.path import work_path


class MemoryWorkspaces:
    """Gives each run a folder that lives as long as this object."""

    def __init__(self, limits: FolderLimits = LIMITS) -> None:
        self._limits = limits
        self._folders: dict[str, MemoryWorkspace] = {}

    async def open(self, tenant: str, run: str) -> MemoryWorkspace:
        """The folder of ``run``, made if it is not there."""
        return self._folders.setdefault(run_folder(run), MemoryWorkspace(self._limits))

    async def remove(self, tenant: str, run: str) -> bool:
        """Whether there was a folder of ``run`` to remove."""
        return self._folders.pop(run_folder(run), None) is not None


class MemoryWorkspace:
    """One run's folder."""

    def __init__(self, limits: FolderLimits = LIMITS) -> None:
        self._limits = limits
        self._files: dict[str, bytes] = {}

    async def list(self) -> tuple[str, ...]:
        """Paths of all files, sorted."""
        return tuple(sorted(self._files))

    async def read(self, path: str) -> bytes:
        """A file's bytes. Raises ``NotFound``, or ``ToolError`` for a path that leads out."""
        name = "/".join(work_path(path))
        if name not in self._files:
            raise NotFound(f"there is no file {name} in the work folder", path=name)
        return self._files[name]

    async def write(self, path: str, data: bytes) -> None:
        """Creates or replaces a file. Raises ``ToolError`` for a path that leads out, or too much data."""
        names = work_path(path)
        name = "/".join(names)
        for depth in range(1, len(names)):
            if (folder := "/".join(names[:depth])) in self._files:
                raise ToolError(f"{folder} is a file, not a folder; use another path", path=folder)
        if any(other.startswith(f"{name}/") for other in self._files):
            raise ToolError(f"{name} is a folder; name a file in it", path=name)
        check_room({path: len(held) for path, held in self._files.items()}, name, len(data), self._limits)
        self._files[name] = bytes(data)
