"""Power cuts: of a recorded trace, what a disk that loses un-synced bytes may have kept at any moment of it.

What was synced is there. Of what was not, ``Loss`` says what survives: nothing, everything, the first part, any of the
writes, any of their sectors. Where a file had grown over lost sectors there are zeros or rubbish.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from tests.chaos.recorded_disk import Op

SECTOR_BYTES = 512
Loss = Literal["nothing", "everything", "prefix", "writes", "sectors", "rubbish"]
"""What survives of un-synced bytes; ``rubbish`` is ``sectors`` with rubbish instead of zeros in new places."""
LOSSES: tuple[Loss, ...] = get_args(Loss)


@dataclass
class _File:
    synced: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, Op]] = field(default_factory=list)


class Platter:
    """The disk while a trace goes by; ``cut`` may be asked at any moment and changes nothing.

    Names are synced apart from contents: SQLite syncs the folder with the first sync of each journal or WAL it opens,
    and never when it deletes one. Until then a new file may be missing, and a deleted one may be back.
    """

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._synced_names: dict[str, _File] = {}
        self._fresh: set[bytes] = set()

    def take(self, index: int, op: Op) -> None:
        """The next operation of the trace."""
        match op.what:
            case "open":
                self._files.setdefault(op.path, _File())
                if not op.path.endswith(".db"):
                    self._fresh.add(op.data)
            case "write" | "truncate":
                self._files[op.path].pending.append((index, op))
            case "sync":
                self._sync(op)
            case "delete":
                self._files.pop(op.path, None)

    def cut(self, rng: random.Random, loss: Loss) -> Iterator[tuple[str, bytes]]:
        """Path and content of every file that is left."""
        for path in sorted(self._files.keys() | self._synced_names.keys()):
            old, new = self._synced_names.get(path), self._files.get(path)
            if loss == "nothing":
                file = old
            elif loss == "everything":
                file = new
            else:
                file = rng.choice((old, new))
            if file is not None:
                yield path, bytes(_surviving(file, rng, loss))

    def _sync(self, op: Op) -> None:
        file = self._files[op.path]
        for index, written in file.pending:
            if index < op.offset:
                _apply(file.synced, written.offset, written.data, written.what)
        file.pending = [(i, o) for i, o in file.pending if i >= op.offset]
        if op.data in self._fresh:
            self._fresh.discard(op.data)
            self._synced_names = dict(self._files)


def _surviving(file: _File, rng: random.Random, loss: Loss) -> bytearray:
    left = bytearray(file.synced)
    pending = [op for _, op in file.pending]
    if loss == "nothing":
        return left
    if loss == "prefix":
        pending = pending[: rng.randint(0, len(pending))]
    elif loss in ("writes", "sectors", "rubbish"):
        pending = [op for op in pending if rng.random() < 0.5]
    for op in pending:
        if loss in ("sectors", "rubbish") and op.what == "write":
            _apply_sectors(left, op, rng, is_rubbish=loss == "rubbish")
        else:
            _apply(left, op.offset, op.data, op.what)
    return left


def _apply(content: bytearray, offset: int, data: bytes, what: str) -> None:
    if what == "truncate":
        content[offset:] = b"" if len(content) > offset else bytes(offset - len(content))
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _apply_sectors(content: bytearray, op: Op, rng: random.Random, *, is_rubbish: bool) -> None:
    at, end = op.offset, op.offset + len(op.data)
    while at < end:
        stop = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if rng.random() < 0.6:
            _apply(content, at, op.data[at - op.offset : stop - op.offset], "write")
        elif at >= len(content):
            _apply(content, at, rng.randbytes(stop - at) if is_rubbish else bytes(stop - at), "write")
        at = stop


def images(ops: Sequence[Op], rng: random.Random, count: int) -> Iterator[tuple[int, Loss, dict[str, bytes]]]:
    """What ``count`` power cuts at random moments of ``ops`` leave: the moment, the loss, the files by name."""
    moments = sorted(rng.randint(1, len(ops)) for _ in range(count))
    platter, taken = Platter(), 0
    for number, moment in enumerate(moments):
        while taken < moment:
            platter.take(taken, ops[taken])
            taken += 1
        loss = LOSSES[number % len(LOSSES)]
        yield moment, loss, {Path(path).name: data for path, data in platter.cut(rng, loss)}
