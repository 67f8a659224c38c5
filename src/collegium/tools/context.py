"""What a tool is given beside the model's arguments."""

from __future__ import annotations

import msgspec

from collegium.ports import Retriever, Workspace


class ToolContext(msgspec.Struct, frozen=True, kw_only=True):
    """The world of one call, already scoped to its run; a parameter annotated with it receives it.

    Attributes:
        key: Idempotency key of a write (``tools.canonical.idempotency_key``), None for ``pure`` and ``read``
            tools. It never passes through the model. A write hands it to the far side, so that the same call
            twice is one effect.
        retriever: The run's input files and collections.
        workspace: The run's own work folder.
    """

    tenant: str
    run: str
    task: str
    key: str | None
    retriever: Retriever
    workspace: Workspace
