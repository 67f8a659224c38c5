"""What a tool is given beside the model's arguments."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import msgspec

from collegium.ports import Retriever, Workspace


class Posted(msgspec.Struct, frozen=True, kw_only=True):
    """What a colleague has shared; ``is_private``: with the reader's agent alone."""

    id: str
    agent: str
    task: str
    text: str
    is_private: bool


class Board(Protocol):
    """What colleagues share within one run, as one task sees it."""

    @property
    def agents(self) -> Collection[str]:
        """Who can be written to."""
        ...

    async def take(self, *, limit: int, max_chars: int) -> tuple[tuple[Posted, ...], int]:
        """The next messages that this task has not read yet, oldest first, and how many are left; each once.

        One message is given whatever its length, further ones while all stay within ``max_chars``.
        """
        ...


class ToolContext(msgspec.Struct, frozen=True, kw_only=True):
    """The world of one call, already scoped to its run; a parameter annotated with it receives it.

    Attributes:
        key: Idempotency key of a write (``tools.canonical.idempotency_key``), None for ``pure`` and ``read``
            tools. It never passes through the model. A write hands it to the far side, so that the same call
            twice is one effect.
        retriever: The run's input files and collections.
        workspace: The run's own work folder.
        board: What colleagues share; None outside a run.
    """

    tenant: str
    run: str
    task: str
    key: str | None
    retriever: Retriever
    workspace: Workspace
    board: Board | None = None
