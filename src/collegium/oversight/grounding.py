"""Holds every sentence of an answer against the evidence: a verdict, a score, and the place that bears it out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from collegium.domain.document import Chunk, Citation
from collegium.domain.facts import agrees, dates, denies, quantities
from collegium.domain.policy import Claim, ClaimVerdict
from collegium.domain.sentences import sentences
from collegium.domain.text import rarity, terms
from collegium.oversight.sentences import AnswerSentence, answer_sentences
from collegium.ports import Scorer

UNVERIFIED: Final = "(unverified)"
"""What ``repair`` puts behind a sentence that no evidence supports."""


class Grounding(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of ``check``."""

    supported: float = 0.5
    """Least score of a supported sentence."""
    cited_bonus: float = 0.05
    """What a passage that the sentence itself names is ahead of others."""
    most_chunks: int = 6
    """Passages scored per sentence, those that share most words with it first."""
    same_topic: float = 0.6
    """Share of a sentence's words (numbers aside) from which a place speaks of the same and may contradict it."""
    window: int = 3
    """Most sentences of a citation."""


class _Place(msgspec.Struct, frozen=True):
    chunk: Chunk
    start: int
    end: int
    coverage: float


async def check(
    answer: str, evidence: Sequence[Chunk], scorer: Scorer, *, settings: Grounding | None = None
) -> tuple[Claim, ...]:
    """One claim per sentence of ``answer``, in order.

    ``[n]`` in a sentence names ``evidence[n - 1]``; such passages are tried first, then all others. A claim
    is ``supported`` with the best place (1 to 3 sentences) as citation; ``contradicted`` when the place that
    is nearest to it states another number, date or the opposite (with that place as citation);
    ``unsupported``; or ``unverifiable`` when it claims nothing a passage could bear out (headings, questions,
    "the documents do not say"), with score 0.
    """
    settings = settings or Grounding()
    found = answer_sentences(answer)
    bags = await _bags(evidence)
    weights = rarity(held for held, _ in bags)
    tried: list[tuple[int, Chunk]] = []
    for number, sentence in enumerate(found):
        if sentence.is_claim and not sentence.is_absence:
            tried += [(number, chunk) for chunk in _candidates(sentence, evidence, bags, weights, settings)]
    scores = await scorer.score([(_premise(chunk), found[number].text) for number, chunk in tried]) if tried else []
    claims: list[Claim] = []
    for number, sentence in enumerate(found):
        mine = [(chunk, score) for (n, chunk), score in zip(tried, scores, strict=True) if n == number]
        claims.append(_claim(number, sentence, mine, evidence, weights, settings))
    return tuple(claims)


def repair(answer: str, claims: Sequence[Claim], *, replace: bool = True) -> str:
    """``answer`` in which every unsupported or contradicted sentence gives way to the best quote, or is marked.

    With ``replace`` a sentence whose claim has a citation is replaced by that quote, word by word; others, and all of
    them without ``replace``, are followed by ``UNVERIFIED``. ``claims`` are those that ``check`` gave for this answer.
    """
    pieces: list[str] = []
    last = 0
    used: set[tuple[str, int, int]] = set()
    found = answer_sentences(answer)
    for claim in claims:
        used |= {(c.document, c.start, c.end) for c in claim.citations if claim.verdict == "supported"}
    for sentence, claim in zip(found, claims, strict=True):
        if claim.verdict not in {"unsupported", "contradicted"}:
            continue
        pieces.append(answer[last : sentence.start])
        place = next(((c.document, c.start, c.end) for c in claim.citations), None)
        if replace and place is not None:
            lead = answer[sentence.start : sentence.body]
            pieces.append("" if place in used else lead + " ".join(claim.citations[0].quote.split()))
            used.add(place)
        else:
            pieces.append(f"{answer[sentence.start : sentence.end]} {UNVERIFIED}")
        last = sentence.end
    pieces.append(answer[last:])
    return "".join(pieces)


async def _bags(evidence: Sequence[Chunk]) -> list[tuple[set[str], set[str]]]:
    """The terms of each passage, without and with its context.

    They are looked for once, not once for every sentence. A long task hands over megabytes of tool results: others get
    their turn between two passages, so that a worker that reads does not look like one that is dead.
    """
    bags: list[tuple[set[str], set[str]]] = []
    for chunk in evidence:
        if bags:
            await asyncio.sleep(0)
        held = set(terms(chunk.text))
        bags.append((held, held.union(terms(chunk.context)) if chunk.context else held))
    return bags


def _candidates(
    sentence: AnswerSentence,
    evidence: Sequence[Chunk],
    bags: Sequence[tuple[set[str], set[str]]],
    weights: dict[str, float],
    settings: Grounding,
) -> list[Chunk]:
    """The passages to score: those the sentence names, then those that share most with it."""
    named = [evidence[n - 1] for n in sentence.sources if 0 < n <= len(evidence)]
    wanted = set(terms(sentence.text))
    shared = sorted(
        ((sum(weights.get(t, 1.0) for t in sorted(wanted & held)), -n) for n, (_, held) in enumerate(bags)),
        reverse=True,
    )
    others = [evidence[-n] for share, n in shared if share > 0]
    return list({chunk.id: chunk for chunk in [*named, *others]}.values())[: max(settings.most_chunks, len(named))]


def _claim(
    number: int,
    sentence: AnswerSentence,
    scored: Sequence[tuple[Chunk, float]],
    evidence: Sequence[Chunk],
    weights: dict[str, float],
    settings: Grounding,
) -> Claim:
    if not sentence.is_claim or sentence.is_absence:
        return Claim(text=sentence.text, verdict="unverifiable", score=0.0)
    named = {evidence[n - 1].id for n in sentence.sources if 0 < n <= len(evidence)}
    ranked = sorted(scored, key=lambda item: -(item[1] + settings.cited_bonus * (item[0].id in named)))
    if not ranked:
        return Claim(text=sentence.text, verdict="unsupported", score=0.0)
    chunk, score = ranked[0]
    place = _best_place(sentence.text, [chunk], weights, settings.window)
    if score >= settings.supported and place is not None:
        return Claim(text=sentence.text, verdict="supported", score=score, citations=(_citation(place, number),))
    place = _best_place(sentence.text, [c for c, _ in ranked], weights, settings.window)
    if place is None or place.coverage < 0.35:
        return Claim(text=sentence.text, verdict="unsupported", score=score)
    quote = place.chunk.text[place.start - place.chunk.start : place.end - place.chunk.start]
    is_near = place.coverage >= settings.same_topic and _conflicts(sentence.text, quote)
    verdict: ClaimVerdict = "contradicted" if is_near else "unsupported"
    return Claim(text=sentence.text, verdict=verdict, score=score, citations=(_citation(place, number),))


def _best_place(claim: str, chunks: Sequence[Chunk], weights: dict[str, float], window: int) -> _Place | None:
    """The fewest sentences of one chunk that hold most of the claim's words."""
    claimed = terms(claim)
    topic = {term: weights.get(term, 1.0) for term in claimed if not term[0].isdigit()}
    wanted = {term: topic.get(term, 2.0) for term in claimed}
    total = sum(topic.values())
    best: tuple[float, _Place] | None = None
    for chunk in chunks:
        for start, end in _windows(chunk, window):
            held = wanted.keys() & set(terms(chunk.text[start:end]))
            coverage = sum(weight for term, weight in topic.items() if term in held) / total if total else 0.0
            value = sum(wanted[term] for term in held) - 0.0005 * (end - start)
            if held and (best is None or value > best[0]):
                best = (value, _Place(chunk, chunk.start + start, chunk.start + end, coverage))
    return None if best is None else best[1]


def _windows(chunk: Chunk, longest: int) -> Iterator[tuple[int, int]]:
    if chunk.kind == "table" and chunk.text.lstrip()[:1] in '{["':
        yield 0, len(chunk.text)
        return
    spans = sentences(chunk.text)
    for first in range(len(spans)):
        for last in range(first, min(first + longest, len(spans))):
            if chunk.text.startswith("#", spans[last][0]):
                break  # a heading says nothing, and a place never reaches across one
            yield spans[first][0], spans[last][1]


def _conflicts(claim: str, quote: str) -> bool:
    """Whether both speak of the same measure and differ, or one denies what the other says."""
    there = quantities(quote)
    for wanted in quantities(claim):
        same = {have.value for have in there if have.unit and have.unit == wanted.unit}
        if same and wanted.value not in same:
            return True
    known = frozenset(dates(quote))
    mine = dates(claim)
    if mine and known and not any(agrees(value, known) for value in mine):
        return True
    return denies(claim) != denies(quote)


def _premise(chunk: Chunk) -> str:
    return f"{chunk.context}\n\n{chunk.text}" if chunk.context else chunk.text


def _citation(place: _Place, number: int) -> Citation:
    start, end = place.start, place.end
    quote = place.chunk.text[start - place.chunk.start : end - place.chunk.start]
    return Citation(
        document=place.chunk.document, chunk_id=place.chunk.id, start=start, end=end, quote=quote, claim=number
    )
