"""Results: what a task gives to the next one, and a run to its user."""

from __future__ import annotations

import msgspec

from collegium.domain.chat import Json
from collegium.domain.document import Chunk, Citation
from collegium.domain.plan import Plan
from collegium.domain.policy import ActionClaim, Claim
from collegium.domain.tool import Artifact


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A passage a researcher found worth handing on. ``score`` is comparable within one result only."""

    chunk: Chunk
    score: float


class TaskResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a task produced: some of these, depending on the agent's kind. Large ones go to blobs by themselves."""

    text: str = ""
    evidence: tuple[Evidence, ...] = ()
    plan: Plan | None = None
    claims: tuple[Claim, ...] = ()
    actions: tuple[ActionClaim, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    data: Json | None = None
    notes: tuple[str, ...] = ()
    """Remarks for a person: why a model's plan was not taken, which files could not be used."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a run hands out."""

    text: str
    citations: tuple[Citation, ...] = ()
    claims: tuple[Claim, ...] = ()
    actions: tuple[ActionClaim, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    data: Json | None = None
