"""Tools, as data: what they are called, what they take, and what calling them does to the world."""

from __future__ import annotations

from typing import Literal

import msgspec

from collegium.domain.chat import Json, ToolSpec

Effect = Literal["pure", "read", "idempotent_write", "write"]
"""``idempotent_write`` only where the far side deduplicates by our key."""


class ToolDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a tool. ``version`` changes whenever its code, description or schema does."""

    name: str
    description: str
    parameters: Json
    effect: Effect
    version: str
    capabilities: tuple[str, ...] = ()
    timeout_s: float = 30.0
    asks: bool = False
    """Whether a person has to allow every call of it."""
    is_team: bool = False
    """Whether it reaches colleagues (``ask``, ``share``, ``inbox``): granted by its name, never by a pattern."""
    scope: str = ""
    """The right that whoever asked for the run has to have; empty for none."""

    @property
    def spec(self) -> ToolSpec:
        """What a model is told of it."""
        return ToolSpec(name=self.name, description=self.description, parameters=self.parameters)


class ToolResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a call gave: ``text`` for the agent, ``data`` for programs. A failed call says why in ``text``."""

    text: str
    is_ok: bool = True
    data: Json | None = None


class Artifact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file a run wrote: ``path`` is relative to the run's work folder; the bytes are the blob ``sha256``."""

    path: str
    size_bytes: int
    sha256: str
    task: str
