"""Which of several documents holds today: drafts, superseded ones and older versions of the same thing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from pathlib import PurePosixPath
from typing import Final

import msgspec

from collegium.domain.text import terms

_HEAD: Final = 900
"""Characters of a document in which its status and dates are looked for."""
_VOID: Final = re.compile(
    r"\bdraft\b|\bnot (?:yet )?approved\b|\bdo not use\b|\bsuperseded\b|\bdeprecated\b|\bobsolete\b"
    r"|\bwithdrawn\b|\barchived\b"
    r"|\breplaced by\b|\bno longer (?:in force|valid|current)\b|\bout of date\b|\bold version\b",
    re.IGNORECASE,
)
_SUPERSEDES: Final = re.compile(r"\b(?:supersedes|replaces)\b", re.IGNORECASE)
_DATE: Final = re.compile(r"\b((?:19|20)\d{2})(?:-(\d{2})(?:-(\d{2}))?)?\b")
_VERSION: Final = re.compile(r"\b(?:v|version|rev|revision)[ .]?(\d+(?:\.\d+)*)\b", re.IGNORECASE)
_COPY_WORDS_TEXT: Final = """
    draft final old new copy version rev revision v current archive archived superseded wip tmp
"""
_COPY_WORDS: Final = frozenset(_COPY_WORDS_TEXT.split())
_ASKED_OLD: Final = re.compile(
    r"\b(?:draft|superseded|previous(?:ly)?|former(?:ly)?|old|older|earlier|obsolete|used to|has changed"
    r"|what changed|changed since|compared? (?:to|with)|history of|last year)\b",
    re.IGNORECASE,
)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a document says of itself: whether it is void (a draft, superseded ...), its newest date and its family.

    Documents of one ``family`` are versions of the same thing: their names differ only in dates, numbers and
    words such as draft.
    """

    is_void: bool
    years: frozenset[int]
    newest: date
    version: tuple[int, ...]
    family: frozenset[str]


def standing(document: str, text: str) -> Standing:
    """The standing of a document, from its path and the first lines of its text."""
    head = text[:_HEAD]
    name = PurePosixPath(document).stem
    named = set(terms(name.replace("_", " ")))
    family = frozenset(term for term in named if not term[0].isdigit() and term not in _COPY_WORDS)
    dates = [_as_date(match) for match in _DATE.finditer(f"{name.replace('_', ' ')}\n{head}")]
    version = _VERSION.search(f"{name} {head}")
    void_name = bool({"draft", "archiv", "obsolet", "superse", "supersed", "deprec"} & named)
    status = "\n".join(line for line in head.splitlines()[:12] if not _SUPERSEDES.search(line))
    return Standing(
        is_void=void_name or _VOID.search(status) is not None,
        years=frozenset(int(y) for y in re.findall(r"(?:19|20)\d{2}", name)),
        newest=max((d for d in dates if d is not None), default=date.min),
        version=tuple(int(n) for n in version.group(1).split(".")) if version else (),
        family=family,
    )


def outdated(question: str, standings: Mapping[str, Standing]) -> frozenset[str]:
    """Documents that give way: void ones, and older versions of a document that is there too.

    None of them when the question asks for the past (``previous``, ``draft``, or a year in their names).
    """
    if _ASKED_OLD.search(question):
        return frozenset()
    asked = {int(year) for year in re.findall(r"\b(?:19|20)\d{2}\b", question)}
    gone = {document for document, s in standings.items() if s.is_void and not s.years & asked}
    for document, mine in standings.items():
        for other, theirs in standings.items():
            if other == document or not mine.family or mine.family != theirs.family or mine.years & asked:
                continue
            suffix = PurePosixPath(document).suffix == PurePosixPath(other).suffix
            versions = bool(mine.years and theirs.years) or bool(mine.version and theirs.version)
            if versions and suffix and (theirs.newest, theirs.version) > (mine.newest, mine.version):
                gone.add(document)
    return frozenset(gone) if len(gone) < len(standings) else frozenset()


def _as_date(match: re.Match[str]) -> date | None:
    year, month, day = match.groups()
    try:
        return date(int(year), int(month or 1), int(day or 1))
    except ValueError:
        return None
