"""Intake: the files given with a goal become blobs before the goal is accepted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from collegium.domain.document import GivenFile, InputFile, SkippedFile
from collegium.domain.errors import UnreadableInput
from collegium.ports import Blobs, Inputs

_FLUSH_EVERY_BYTES = 16 * 1024 * 1024


class Intake:
    """Takes files by path or by content."""

    def __init__(self, inputs: Inputs, blobs: Blobs) -> None:
        self._inputs = inputs
        self._blobs = blobs

    async def take(
        self, files: Sequence[str | GivenFile], tenant: str
    ) -> tuple[tuple[InputFile, ...], tuple[SkippedFile, ...]]:
        """The files as a goal names them, and those that cannot be used; durable with the next barrier.

        Raises UnreadableInput when files were given and none of them can be used.
        """
        taken: list[InputFile] = []
        skipped: list[SkippedFile] = []
        pending = 0
        async for item in self._read(files):
            if isinstance(item, SkippedFile):
                skipped.append(item)
                continue
            sha256 = self._blobs.put(tenant, item.data)
            taken.append(InputFile(path=item.path, sha256=sha256, size_bytes=len(item.data)))
            pending += len(item.data)
            if pending > _FLUSH_EVERY_BYTES:
                # What waits to be written is held in memory.
                await self._blobs.flush()
                pending = 0
        if files and not taken:
            raise UnreadableInput(_nothing_usable(skipped), skipped=tuple(skipped))
        return tuple(taken), tuple(skipped)

    async def _read(self, files: Sequence[str | GivenFile]) -> AsyncIterator[GivenFile | SkippedFile]:
        for file in files:
            if isinstance(file, GivenFile):
                yield file
        paths = [f for f in files if isinstance(f, str)]
        if paths:
            async for item in self._inputs.collect(paths):
                yield item


def _nothing_usable(skipped: Sequence[SkippedFile]) -> str:
    if not skipped:
        return "the folders given by --files hold no files"
    shown = "; ".join(f"{s.path}: {s.reason}" for s in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return f"none of the {len(skipped)} given files can be used: {shown}{more}"
