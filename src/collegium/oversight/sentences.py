"""An answer taken apart into what it claims: sentences with their offsets and the sources they name."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

from collegium.domain.sentences import sentences
from collegium.domain.text import terms

_MARKER: Final = re.compile(r"\s?\[(\d{1,3}(?:\s?[,;]\s?\d{1,3})*)\]")
_LEAD: Final = re.compile(r"^\s*(?:[-*+\u2022\u2013]|\d{1,3}[.)]|>)\s+")
_RULE: Final = re.compile(r"[\s|:=*_-]*")
_TALK: Final = re.compile(
    r"(?:hello|hi|sure|certainly|of course|thanks?|thank you|great|i hope|let me know|please let|here"
    r" (?:is|are)|in summary|sources?\b|references?\b)",
    re.IGNORECASE,
)
_ABSENCE: Final = re.compile(
    r"\b(?:do(?:es)? not|did not|could not|cannot|don['\u2019]t|doesn['\u2019]t|couldn['\u2019]t"
    r"|can['\u2019]t|unable to)\s+"
    r"(?:say|mention|state|find|found|contain|answer|tell|specify|be found|determine|provide|include|verify)\b"
    r"|\b(?:no (?:answer|information|mention|document|evidence)|not (?:found|mentioned|stated|specified)"
    r" in|nothing (?:about|in the documents|was found))\b",
    re.IGNORECASE,
)


class AnswerSentence(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence of an answer: ``answer[start:end]``; it begins at ``body``, behind a list mark.

    ``text`` is without list marks and source markers.

    ``sources`` are the numbers of its ``[n]`` markers. ``is_claim`` is False for headings, questions, small
    talk and lead-ins; ``is_absence`` is True for "the documents do not say", which no passage can prove.
    """

    start: int
    end: int
    body: int
    text: str
    sources: tuple[int, ...] = ()
    is_claim: bool = True
    is_absence: bool = False


@lru_cache(maxsize=256)
def answer_sentences(answer: str) -> tuple[AnswerSentence, ...]:
    """The sentences of ``answer`` in order; a marker after the full stop belongs to the sentence before it."""
    spans: list[tuple[int, int]] = []
    for start, end in sentences(answer):
        markers = _leading_markers(answer, start, end)
        if markers and spans and not answer[spans[-1][1] : start].strip(" "):
            spans[-1] = (spans[-1][0], markers)
            start = markers + len(answer[markers:end]) - len(answer[markers:end].lstrip())
        if start < end:
            spans.append((start, end))
    return tuple(_sentence(answer, start, end) for start, end in spans)


def _leading_markers(answer: str, start: int, end: int) -> int:
    """Where the markers at the beginning of a sentence end; 0 without any."""
    at = start
    while (match := _MARKER.match(answer, at, end)) is not None:
        at = match.end()
    return at if at > start else 0


def _sentence(answer: str, start: int, end: int) -> AnswerSentence:
    raw = answer[start:end]
    sources = tuple(int(number) for match in _MARKER.finditer(raw) for number in re.findall(r"\d+", match.group(1)))
    mark = _LEAD.match(raw)
    text = _LEAD.sub("", _MARKER.sub("", raw)).strip()
    plain = text.strip("*_` ")
    talk = _TALK.match(plain) is not None and not any(c.isdigit() for c in plain)
    is_claim = not (
        plain.startswith("#")
        or plain.endswith(("?", ":"))
        or _RULE.fullmatch(plain)
        or (talk and not sources)
        or not terms(plain)
    )
    return AnswerSentence(
        start=start,
        end=end,
        body=start + (mark.end() if mark else 0),
        text=text,
        sources=tuple(dict.fromkeys(sources)),
        is_claim=is_claim,
        is_absence=is_claim and _ABSENCE.search(plain) is not None,
    )
