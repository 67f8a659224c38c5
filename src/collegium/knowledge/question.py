"""What a question asks: its parts, its words by weight, and the kind of thing that would answer it."""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from collegium.domain.text import terms

AnswerType = Literal["number", "duration", "time", "person", "any"]

_PART: Final = re.compile(
    r"(?<=[?.;!])\s+|[,;]?\s+(?:and|or|but)(?:\s+also)?\s+(?=(?:(?:by|on|in|at|from|to|for|until|within|with|of|after)\s+)?"
    r"(?:who|whom|whose|what|which|when|where|why|how)\b)|,\s+(?=(?:who|whose|what|which|when|where|why|how)\b)",
    re.IGNORECASE,
)
_ASKS: Final = re.compile(r"\b(?:who|whom|whose|what|which|when|where|why|how)\b|\?", re.IGNORECASE)
_TYPES: Final[tuple[tuple[AnswerType, re.Pattern[str]], ...]] = (
    (
        "duration",
        re.compile(
            r"\bhow (?:long|soon|fast|quickly|old|late|early|far ahead)\b"
            r"|\b(?:within|after) (?:what|which|how)\b|\bretention period\b|\bhow many (?:\w+ )?(?:seconds|minutes|hours|days|weeks|months|years)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "number",
        re.compile(
            r"\bhow (?:many|much|large|big|high|often|strongly|small|low|expensive|heavy|wide)\b|\bby how\b"
            r"|\b(?:what|which) (?:share|percentage|number|port|version|release|amount|price|cost|fee|limit|size|rate|threshold)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "time",
        re.compile(
            r"\bwhen\b|\b(?:what|which) (?:\w+ )?(?:day|weekday|date|time|month|year|week|hour|quarter)\b|\bsince (?:when|which)\b",
            re.IGNORECASE,
        ),
    ),
    ("person", re.compile(r"\b(?:who|whom|whose)\b|\bby name\b|\b(?:which|what) (?:person|colleague|engineer|manager)\b", re.IGNORECASE)),
)
_MONTHS: Final = "january|february|march|april|may|june|july|august|september|october|november|december"
_DAYS: Final = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_SMALL_NUMBERS: Final = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|half|quarter|third"
_ANSWERS: Final[dict[AnswerType, re.Pattern[str]]] = {
    "number": re.compile(rf"\d|\b(?:{_SMALL_NUMBERS}|none|never)\b", re.IGNORECASE),
    "duration": re.compile(
        rf"(?:\d|\b(?:{_SMALL_NUMBERS}|a|an|next|same|working)\b)[\w.,: -]{{0,20}}?\b(?:second|minute|hour|day|night|week|month|quarter|year|immediately"
        rf"|s|ms|min|h)s?\b|\bat once\b|\bimmediately\b|_(?:seconds|minutes|hours|days|ms)\b",
        re.IGNORECASE,
    ),
    "time": re.compile(
        rf"\b(?:{_MONTHS}|{_DAYS})s?\b|\d{{1,2}}[:.]\d{{2}}\b|\d{{4}}-\d{{2}}|\b(?:19|20)\d{{2}}\b|\b(?:noon|midnight|daily|nightly|weekly|monthly|quarterly|"
        r"yearly|every)\b",
        re.IGNORECASE,
    ),
    "person": re.compile(r"[A-Z][\w'\u2019-]+ (?:[A-Z]\. |van |von |de |da |del )?[A-Z][\w'\u2019-]+|\b[\w.]+@[\w.]+\b"),
}


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is asked: ``text`` of the question, its ``terms`` and those of the rest, which it may lean on."""

    text: str
    terms: tuple[str, ...]
    rest: tuple[str, ...]
    answer: AnswerType


def parts(question: str) -> tuple[Part, ...]:
    """The things that ``question`` asks, in order; at least one."""
    pieces = [piece.strip() for piece in _PART.split(question) if piece and piece.strip()]
    asking = [n for n, piece in enumerate(pieces) if _ASKS.search(piece)]
    if not asking:
        pieces, asking = [question.strip()], [0]
    whole = list(dict.fromkeys(terms(question)))
    found: list[Part] = []
    for n in asking:
        own = tuple(dict.fromkeys(terms(pieces[n])))
        found.append(
            Part(
                text=pieces[n],
                terms=own or tuple(whole),
                rest=tuple(term for term in whole if term not in own) if own else (),
                answer=_answer_type(pieces[n]),
            )
        )
    return tuple(found)


def answers(kind: AnswerType, text: str) -> bool:
    """Whether ``text`` holds something of the kind that is asked for."""
    return kind == "any" or _ANSWERS[kind].search(text) is not None


def _answer_type(text: str) -> AnswerType:
    """The kind that is asked for first."""
    found = [(match.start(), kind) for kind, pattern in _TYPES if (match := pattern.search(text))]
    return min(found)[1] if found else "any"
