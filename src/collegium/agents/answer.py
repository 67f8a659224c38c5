"""The text of an answer: what each sentence rests on, written behind it."""

from __future__ import annotations

from collections.abc import Sequence

from collegium.domain.policy import Claim
from collegium.oversight.grounding import UNVERIFIED
from collegium.oversight.sentences import answer_sentences

NOT_FOUND = "The documents do not say."


def with_marks(text: str, claims: Sequence[Claim]) -> str:
    """``text`` with the marks ``[n]`` of its claims' citations behind each sentence.

    Citations are numbered through all claims in order, from 1. A sentence that nothing bears out is followed by
    ``(unverified)``, so that a reader never takes it for a checked one. ``claims`` are those of ``text``'s sentences.
    """
    pieces: list[str] = []
    last = number = 0
    for sentence, claim in zip(answer_sentences(text), claims, strict=True):
        lead = text[sentence.start : sentence.body]
        marks = "".join(f"[{number + n}]" for n in range(1, len(claim.citations) + 1))
        number += len(claim.citations)
        said = sentence.text.removesuffix(UNVERIFIED).rstrip()
        doubt = f" {UNVERIFIED}" if claim.verdict in ("unsupported", "contradicted") else ""
        pieces += [text[last : sentence.start], lead, said, doubt, f" {marks}" if marks else ""]
        last = sentence.end
    pieces.append(text[last:])
    return "".join(pieces).strip()


def from_quotes(claims: Sequence[Claim]) -> str:
    """The text of an answer that consists of quotes: one plain, several as a list, each with its mark."""
    number = 0
    lines: list[str] = []
    for claim in claims:
        marks = "".join(f"[{number + n}]" for n in range(1, len(claim.citations) + 1))
        number += len(claim.citations)
        lines.append(f"{claim.text} {marks}".rstrip())
    return lines[0] if len(lines) == 1 else "\n".join(f"- {line}" if "[" in line else line for line in lines)
