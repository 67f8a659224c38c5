"""Verdicts: what oversight says of claims, calls and results."""

from __future__ import annotations

from typing import Literal

import msgspec

from collegium.domain.document import Citation

ClaimVerdict = Literal["supported", "contradicted", "unsupported", "unverifiable"]
Origin = Literal["model", "extracted", "system"]


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One sentence of an answer and what the evidence says of it.

    ``score`` is the scorer's, 0 to 1. ``origin`` tells whether a model wrote the sentence, it was taken from a source
    word by word, or the system itself says it (such as "not found"), which needs no evidence.
    """

    text: str
    verdict: ClaimVerdict
    score: float
    citations: tuple[Citation, ...] = ()
    origin: Origin = "model"


class ActionClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something the answer says was done, and whether the ledger agrees."""

    text: str
    verdict: ClaimVerdict
    tool: str | None = None


class Judgement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the overseer says of a task's result."""

    decision: Literal["accept", "revise", "escalate"]
    claims: tuple[Claim, ...] = ()
    actions: tuple[ActionClaim, ...] = ()
    scorer: str = ""
    reasons: tuple[str, ...] = ()
