"""What every ``Workspaces`` does: one folder per run, files whole or not at all, and no path that leads out."""

from __future__ import annotations

import asyncio
import posixpath
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collegium.domain.errors import NotFound, ToolError
from collegium.ports import Workspaces

PIECES = ("a", "b.txt", "..", ".", "", "/", "~", "C:", "\\", "\0", "\n", " ", "...", "\u00e9", "\u202e", "x" * 300)
"""Parts of paths that have led out of folders before."""

REFUSED = (
    "", ".", "/", "/etc/passwd", "//x", "~/x", "C:/x", "C:x", "..", "../x", "a/../../x", "a/..", "..\\x", "a\\b",
    "a//b", "a/", "a\0b", "a\nb", "a\ud800", "x" * 256, "a/" * 600 + "b", "a/" * 100 + "b",
)  # fmt: skip
"""Paths that name no file in the folder, and must be told so."""


@pytest.mark.asyncio
class WorkspaceConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``. Needs Hypothesis, too."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Workspaces]:
        """Work folders with nothing in them, closed at exit."""

    async def test_a_new_folder_is_empty(self) -> None:
        """There is nothing in it, and nothing to read."""
        async with self.open() as workspaces:
            work = await workspaces.open("t", "run_1")
            assert await work.list() == ()
            with pytest.raises(NotFound):
                await work.read("a.txt")

    async def test_what_was_written_is_read(self) -> None:
        """Bytes come back as they were, whatever they are."""
        async with self.open() as workspaces:
            work = await workspaces.open("t", "run_1")
            files = {"z.bin": bytes(range(256)), "a/b/c.md": b"", "a/b.md": "\u00e9".encode(), "\u00fc x.md": b"\r\n"}
            for path, data in files.items():
                await work.write(path, data)
            assert {path: await work.read(path) for path in files} == files
            assert await work.list() == tuple(sorted(files))

    async def test_writing_again_replaces(self) -> None:
        """The last write stands, the same write twice is one, and a shorter file has no tail of the longer."""
        async with self.open() as workspaces:
            work = await workspaces.open("t", "run_1")
            for data in (b"long and old", b"new", b"new"):
                await work.write("a.txt", data)
            assert (await work.read("a.txt"), await work.list()) == (b"new", ("a.txt",))

    async def test_a_folder_opened_again_is_the_same(self) -> None:
        """A new attempt finds what the old one wrote."""
        async with self.open() as workspaces:
            await (await workspaces.open("t", "run_1")).write("a.txt", b"1")
            assert await (await workspaces.open("t", "run_1")).read("a.txt") == b"1"

    async def test_runs_never_see_each_other(self) -> None:
        """Each run has a folder of its own, and no path leads from one to the other."""
        async with self.open() as workspaces:
            one, other = await workspaces.open("t", "run_1"), await workspaces.open("t", "run_2")
            await one.write("a.txt", b"1")
            assert await other.list() == ()
            with pytest.raises(NotFound):
                await other.read("a.txt")
            for path in ("../run_1/a.txt", "../../run_1/work/a.txt"):
                with pytest.raises(ToolError):
                    await other.read(path)

    @pytest.mark.parametrize("run", ["", ".", "..", "a/b", "../x", "/x", "a\0", "x" * 300])
    async def test_a_run_is_no_path(self, run: str) -> None:
        """Something that is no run id opens nothing."""
        async with self.open() as workspaces:
            with pytest.raises(ValueError, match="is no run id"):
                await workspaces.open("t", run)

    @pytest.mark.parametrize("path", REFUSED)
    async def test_a_path_that_leads_elsewhere_is_refused(self, path: str) -> None:
        """For reading and for writing, with a reason, and nothing is left behind."""
        async with self.open() as workspaces:
            work = await workspaces.open("t", "run_1")
            with pytest.raises(ToolError, match="is refused"):
                await work.write(path, b"x")
            with pytest.raises(ToolError, match="is refused"):
                await work.read(path)
            assert await work.list() == ()

    @settings(max_examples=60, suppress_health_check=[HealthCheck.differing_executors])
    @given(path=st.lists(st.sampled_from(PIECES), max_size=5).map("/".join) | st.text(max_size=12))
    async def test_any_path_is_below_the_folder_or_refused(self, path: str) -> None:
        """What is taken is listed under its own, normal name, and read under the name it was written with."""
        async with self.open() as workspaces:
            work = await workspaces.open("t", "run_1")
            before = await work.list()
            try:
                await work.write(path, b"x")
            except ToolError:
                assert await work.list() == before
                return
            added = posixpath.normpath(path)
            assert added.split("/")[0] not in ("..", "")
            assert set(await work.list()) == {*before, added}
            assert await work.read(path) == b"x"

    async def test_a_file_is_no_folder_and_a_folder_no_file(self) -> None:
        """Neither silently becomes the other."""
        async with self.open() as workspaces:
            work = await workspaces.open("t", "run_1")
            await work.write("a/b.txt", b"1")
            for path in ("a", "a/b.txt/c"):
                with pytest.raises(ToolError):
                    await work.write(path, b"2")
            for path in ("a", "a/b.txt/c", "a/none"):
                with pytest.raises((NotFound, ToolError)):
                    await work.read(path)
            assert (await work.list(), await work.read("a/b.txt")) == (("a/b.txt",), b"1")

    async def test_parallel_writers_leave_one_whole_file(self) -> None:
        """A file is all of one write or all of another."""
        async with self.open() as workspaces:
            work = await workspaces.open("t", "run_1")
            texts = [bytes([n]) * 5_000 for n in range(8)]
            await asyncio.gather(*(work.write("deep/er/a.bin", text) for text in texts))
            assert await work.read("deep/er/a.bin") in texts
            assert await work.list() == ("deep/er/a.bin",)
