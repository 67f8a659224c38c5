"""Work folders keep to the port, and the one on disk to its own promises."""

import asyncio
import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from collegium.adapters.memory.workspace import MemoryWorkspaces
from collegium.adapters.tools.folder_rules import FolderLimits
from collegium.adapters.tools.workspace import FolderWorkspace, FolderWorkspaces, told
from collegium.domain.errors import NotFound, StoreFull, StoreReadOnly, StoreUnavailable, ToolError
from collegium.ports import Workspaces
from collegium.testing.conformance.workspace import WorkspaceConformance

SMALL = FolderLimits(file_bytes=100, total_bytes=150, files=3)


class TestFolder(WorkspaceConformance):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Workspaces]:
        with TemporaryDirectory() as root:
            yield FolderWorkspaces(Path(root) / "runs")


class TestMemory(WorkspaceConformance):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[Workspaces]:
        yield MemoryWorkspaces()


@pytest.fixture
async def work(tmp_path: Path) -> FolderWorkspace:
    return await FolderWorkspaces(tmp_path / "runs").open("t", "run_1")


@pytest.fixture
def folder(tmp_path: Path, work: FolderWorkspace) -> Path:
    return tmp_path / "runs" / "run_1" / "work"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    path.mkdir()
    (path / "secret.txt").write_text("secret")
    return path


@pytest.fixture
def links(folder: Path, outside: Path) -> None:
    (folder / "in").mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "in" / "link").symlink_to(outside)
    (folder / "file.txt").symlink_to(outside / "secret.txt")
    (folder / "dangling.txt").symlink_to(outside / "new.txt")


def replace(folder: Path, *, by: Path | None = None) -> None:
    folder.rmdir()
    if by is not None:
        folder.symlink_to(by)


def abandon(folder: Path) -> None:
    """What a worker leaves that dies between writing and renaming."""
    (folder / ".writing-0123").write_bytes(b"half")


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


async def test_files_lie_where_the_user_looks_for_them(work: FolderWorkspace, folder: Path):
    await work.write("a/b.txt", b"1")
    assert contents(folder) == {"a/b.txt": b"1"}
    assert os.stat(folder).st_mode & 0o777 == 0o700  # noqa: PTH116


@pytest.mark.parametrize("path", ["link/secret.txt", "file.txt", "in/link/secret.txt", "dangling.txt"])
@pytest.mark.usefixtures("links")
async def test_no_link_is_followed(work: FolderWorkspace, outside: Path, path: str):
    for call in (work.read(path), work.write(path, b"overwritten")):
        with pytest.raises(ToolError, match="link"):
            await call
    assert await work.list() == ()
    assert contents(outside) == {"secret.txt": b"secret"}


async def test_a_link_in_place_of_the_whole_folder_is_not_followed(work: FolderWorkspace, folder: Path, outside: Path):
    replace(folder, by=outside)
    for call in (work.read("secret.txt"), work.write("new.txt", b"x")):
        with pytest.raises((StoreUnavailable, ToolError)):
            await call
    assert contents(outside) == {"secret.txt": b"secret"}


async def test_a_folder_that_was_removed_is_made_again(work: FolderWorkspace, folder: Path):
    replace(folder)
    assert await work.list() == ()
    await work.write("a.txt", b"1")
    assert await work.read("a.txt") == b"1"


async def test_a_pipe_is_no_file_and_does_not_hang(work: FolderWorkspace, folder: Path):
    os.mkfifo(folder / "pipe")
    with pytest.raises(NotFound):
        await asyncio.wait_for(work.read("pipe"), 10)
    with pytest.raises(ToolError):
        await asyncio.wait_for(work.write("pipe", b"x"), 10)
    assert await work.list() == ()


async def test_what_a_crash_left_behind_is_never_listed(work: FolderWorkspace, folder: Path):
    abandon(folder)
    await work.write("a.txt", b"1")
    assert await work.list() == ("a.txt",)
    with pytest.raises(ToolError, match="are taken"):
        await work.write(".writing-0123", b"x")


@pytest.mark.parametrize("kind", ["folder", "memory"])
async def test_a_run_keeps_no_more_than_it_may(tmp_path: Path, kind: str):
    workspaces: Workspaces = FolderWorkspaces(tmp_path, SMALL) if kind == "folder" else MemoryWorkspaces(SMALL)
    work = await workspaces.open("t", "run_1")
    await work.write("a", b"x" * 100)
    for path, size, said in (("b", 101, "at most 100"), ("b", 51, "hold 151 bytes, at most 150")):
        with pytest.raises(ToolError, match=said):
            await work.write(path, b"x" * size)
    await work.write("a", b"x" * 50)  # what it replaces does not count
    await work.write("b", b"")
    await work.write("c", b"")
    with pytest.raises(ToolError, match="has 3 files, at most 3"):
        await work.write("d", b"")
    await work.write("c", b"again")
    assert await work.list() == ("a", "b", "c")


def test_a_full_disk_is_told_and_the_old_file_stands(tmp_path: Path):
    """A limit on the size of files fails in the same place as a full disk, and needs no disk to be filled."""
    script = """
        import asyncio, resource, sys
        from pathlib import Path
        from collegium.adapters.tools.workspace import FolderWorkspaces
        from collegium.domain.errors import StoreFull

        async def main():
            work = await FolderWorkspaces(Path(sys.argv[1])).open("t", "run_1")
            await work.write("a.txt", b"old")
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
            try:
                await work.write("a.txt", b"x" * 5000)
            except StoreFull as error:
                print(error)
            assert await work.read("a.txt") == b"old"
            assert await work.list() == ("a.txt",)

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "a.txt cannot be used" in done.stdout
    assert "free some space" in done.stdout
    assert [p.name for p in (tmp_path / "run_1" / "work").iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EROFS, StoreReadOnly),
        (errno.EACCES, StoreReadOnly),
        (errno.EIO, StoreUnavailable),
        (errno.ENOENT, NotFound),
        (errno.ELOOP, ToolError),
        (errno.ENAMETOOLONG, ToolError),
    ],
)
def test_what_the_system_says_in_our_words(number: int, kind: type[Exception]):
    error = told(OSError(number, os.strerror(number)), "a.txt", Path("/data"))
    assert type(error) is kind
    assert "a.txt" in str(error)
