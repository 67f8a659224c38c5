"""Work folders on disk: ``<root>/<run>/work``."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from collegium.adapters.tools.folder_rules import LIMITS, FolderLimits, check_room, run_folder
from collegium.domain.errors import (
    CollegiumError,
    NotFound,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    ToolError,
)
from collegium.tools.path import work_path

_TEMPORARY: Final = ".writing-"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)


class FolderWorkspaces:
    """Gives each run a folder below ``root``. Whoever can start a run owns its folder: mode 0700.

    Args:
        root: The data folder's ``runs``; made when the first run needs it.
        limits: How much one run may keep.
    """

    def __init__(self, root: Path, limits: FolderLimits = LIMITS) -> None:
        self._root = root
        self._limits = limits

    async def open(self, tenant: str, run: str) -> FolderWorkspace:
        """The folder of ``run`` (ids are unique across tenants), made if it is not there. Raises ``StoreError``."""
        folder = self._root / run_folder(run) / "work"
        with _told("the work folder", folder):
            await asyncio.to_thread(_make, folder)
        return FolderWorkspace(folder, self._limits)

    async def remove(self, tenant: str, run: str) -> bool:
        """Whether there was a folder of ``run`` to remove; links in it are removed, not followed."""
        folder = self._root / run_folder(run)
        if folder.is_symlink() or not folder.is_dir():
            return False
        with _told("the work folder", folder):
            await asyncio.to_thread(shutil.rmtree, folder)
        return True


class FolderWorkspace:
    """One run's folder.

    Every name of a path is opened relative to the folder before it and no symbolic link is ever followed, so
    that a link that appears between the check and the use leads nowhere either.
    """

    def __init__(self, folder: Path, limits: FolderLimits = LIMITS) -> None:
        self._folder = folder
        self._limits = limits

    async def list(self) -> tuple[str, ...]:
        """Paths of all files, sorted; links and what is no plain file are left out."""
        return await asyncio.to_thread(self._list)

    async def read(self, path: str) -> bytes:
        """A file's bytes. Raises ``NotFound``, ``ToolError`` for a path that leads out, ``StoreError``."""
        return await asyncio.to_thread(self._read, work_path(path))

    async def write(self, path: str, data: bytes) -> None:
        """Creates or replaces a file, all of it or nothing, and returns when it would survive a power cut.

        A crash leaves the old file, and perhaps a ``.writing-`` file that is never listed.

        Raises:
            ToolError: The path leads out or runs through a file, or the run would keep more than it may.
            StoreFull: The disk is full; the old file is as it was.
        """
        await asyncio.to_thread(self._write, work_path(path), data)

    def _list(self) -> tuple[str, ...]:
        return tuple(sorted(path for path, _ in self._files()))

    def _files(self) -> Iterator[tuple[str, int]]:
        if not self._folder.exists():  # removed by its owner
            return
        with _told("the work folder", self._folder):
            for parent, _, names, descriptor in os.fwalk(self._folder, follow_symlinks=False):
                prefix = Path(parent).relative_to(self._folder)
                for name in names:
                    about = _about(name, descriptor)
                    if about and stat.S_ISREG(about.st_mode) and not name.startswith(_TEMPORARY):
                        yield (prefix / name).as_posix(), about.st_size

    def _read(self, names: tuple[str, ...]) -> bytes:
        path = "/".join(names)
        with _told(path, self._folder), self._parent(names, make=False) as parent:
            # O_NONBLOCK: opening a pipe must not wait for somebody to write into it.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(names[-1], flags, dir_fd=parent), "rb") as file:
                about = os.fstat(file.fileno())
                if not stat.S_ISREG(about.st_mode):
                    raise NotFound(f"{path} is no file", path=path)
                if about.st_size > self._limits.file_bytes:
                    raise ToolError(f"{path} has {about.st_size:,} bytes, at most {self._limits.file_bytes:,} are read")
                return file.read()

    def _write(self, names: tuple[str, ...], data: bytes) -> None:
        path = "/".join(names)
        if names[-1].startswith(_TEMPORARY):
            raise ToolError(f"{path}: names that start with {_TEMPORARY} are taken; use another", path=path)
        check_room(dict(self._files()), path, len(data), self._limits)
        with _told(path, self._folder), self._parent(names, make=True) as parent:
            _refuse_other(names[-1], parent, path)
            temporary = _TEMPORARY + secrets.token_hex(8)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=parent), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, names[-1], src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                _remove(temporary, parent)
                raise
            os.fsync(parent)

    @contextmanager
    def _parent(self, names: tuple[str, ...], *, make: bool) -> Iterator[int]:
        """An open descriptor of the folder that holds the file, reached without following a link."""
        if make:
            _make(self._folder)
        descriptor = os.open(self._folder, _FOLDER)
        try:
            for depth, name in enumerate(names[:-1], start=1):
                inner = _enter(name, descriptor, "/".join(names[:depth]), make=make)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)


def _make(folder: Path) -> None:
    """Makes the folder of a run, and sees to it that a power cut does not take it away with the files in it."""
    if folder.is_dir():
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for parent in (folder.parent, folder.parent.parent):
        descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _about(name: str, parent: int) -> os.stat_result | None:
    """What stands under ``name``, itself, not what it points to; None for nothing."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _enter(name: str, parent: int, path: str, *, make: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
    except NotADirectoryError as error:  # a file, or a link, which O_NOFOLLOW does not open as a folder
        raise ToolError(f"{path} is a file or a link, not a folder; use another path", path=path) from error
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
        os.fsync(parent)
    except FileExistsError:  # made by a parallel task a moment ago
        pass
    return os.open(name, _FOLDER, dir_fd=parent)


def _refuse_other(name: str, parent: int, path: str) -> None:
    """Only a plain file is replaced."""
    about = _about(name, parent)
    if about is None:
        return
    if stat.S_ISDIR(about.st_mode):
        raise ToolError(f"{path} is a folder; name a file in it", path=path)
    if not stat.S_ISREG(about.st_mode):
        raise ToolError(f"{path} is a link or no plain file; use another path", path=path)


def _remove(name: str, parent: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except OSError:  # the first error is the one to report; the file is never listed
        return


@contextmanager
def _told(path: str, folder: Path) -> Iterator[None]:
    """Turns what the system says into our errors."""
    try:
        yield
    except CollegiumError:
        raise
    except OSError as error:
        raise told(error, path, folder) from error


def told(error: OSError, path: str, folder: Path) -> CollegiumError:
    """Our error for an ``OSError`` about ``path`` in ``folder``."""
    if error.errno == errno.ENOENT:
        return NotFound(f"there is no file {path} in the work folder", path=path)
    if error.errno == errno.ELOOP:
        return ToolError(f"{path} is a link; links are not followed, use the file itself", path=path)
    if error.errno == errno.ENAMETOOLONG:
        return ToolError(f"{path} is too long a name for this disk; use a shorter one", path=path)
    if error.errno == errno.EISDIR:
        return NotFound(f"{path} is a folder, not a file", path=path)
    why = f"{path} cannot be used in {folder}: {error.strerror}"
    if error.errno in _FULL:
        return StoreFull(f"{why}; free some space, nothing that was written before is lost", path=path)
    kind: type[StoreError] = StoreReadOnly if error.errno in _READ_ONLY else StoreUnavailable
    return kind(f"{why}; check the folder and its permissions", path=path)
