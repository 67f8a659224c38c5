"""Language models behind any API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest


class Model(Protocol):
    """A language model behind any API, with the costs of its price table in the replies.

    Both calls raise the ``ModelError`` tree and nothing else; cancelling the awaiting task ends the call at the
    provider as far as its protocol allows.
    """

    @property
    def profile(self) -> ModelProfile:
        """What the model can do. Known without a network call."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply."""

    def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Pieces of text as they come; the last item is the whole ``ModelReply``, exactly as ``complete`` gives it."""

    async def aclose(self) -> None:
        """Releases connections; twice is harmless."""


class Models(Protocol):
    """Finds a model by its name (``openai:NAME``, ``local:PATH`` ...); connections are shared between callers."""

    async def open(self, name: str) -> Model:
        """The model, ready to be called. Raises ``UsageError`` (unknown, missing key or extra) or ``ModelError``."""

    async def aclose(self) -> None:
        """Closes every model that was opened."""
