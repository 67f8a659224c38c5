"""Grounding: each sentence gets a verdict and an exact place, and what is not borne out is repaired."""

import pytest

from collegium.adapters.scorers.lexical import LexicalScorer
from collegium.domain.document import Chunk
from collegium.domain.facts import dates, denies, names, quantities
from collegium.oversight.grounding import UNVERIFIED, check, repair

KEPT = "Nightly backups of ledger-db are kept for 35 days."
LEADS = "Priya Raman leads Harbour since 2 May 2024."
TEXTS = {
    "backup.md": f"{KEPT} They are stored in Porto. Restores are not allowed on Fridays.",
    "teams.md": f"{LEADS} Harbour looks after the edge.",
}
EVIDENCE = [
    Chunk(id=f"c-{path}", document=path, sha256=path, start=100, end=100 + len(text), text=text, context="Handbook")
    for path, text in TEXTS.items()
]


async def verdicts(answer):
    claims = await check(answer, EVIDENCE, LexicalScorer())
    for number, claim in enumerate(claims):
        for citation in claim.citations:
            text = TEXTS[citation.document]
            assert citation.quote == text[citation.start - 100 : citation.end - 100]
            assert citation.claim == number
            assert citation.chunk_id == f"c-{citation.document}"
    return claims


@pytest.mark.parametrize(
    ("sentence", "verdict", "quote"),
    [
        (KEPT, "supported", KEPT),
        ("Priya Raman leads Harbour. [2]", "supported", LEADS),
        ("Nightly backups of ledger-db are kept for 40 days [1].", "contradicted", KEPT),
        ("Restores are allowed on Fridays.", "contradicted", "Restores are not allowed on Fridays."),
        ("Priya Raman leads Harbour since 9 June 2024.", "contradicted", LEADS),
        ("The moon is made of cheese.", "unsupported", None),
        ("The documents do not say who owns the moon.", "unverifiable", None),
        ("Is there more?", "unverifiable", None),
    ],
)
async def test_each_sentence_gets_a_verdict(sentence, verdict, quote):
    (claim,) = await verdicts(sentence)
    assert claim.verdict == verdict
    assert [citation.quote for citation in claim.citations] == ([] if quote is None else [quote])
    assert "[" not in claim.text


async def test_the_passage_that_is_named_is_preferred():
    same = [
        *EVIDENCE,
        Chunk(id="copy", document="copy.md", sha256="x", start=0, end=26, text="Priya Raman leads Harbour."),
    ]
    (claim,) = await check("Priya Raman leads Harbour [3].", same, LexicalScorer())
    assert claim.citations[0].document == "copy.md"


async def test_a_wrong_marker_is_no_excuse():
    (claim,) = await verdicts("They are stored in Porto [9].")
    assert claim.verdict == "supported"
    assert claim.citations[0].document == "backup.md"


async def test_without_evidence_nothing_is_supported():
    claims = await check("One thing is so. Another is not.", [], LexicalScorer())
    assert [claim.verdict for claim in claims] == ["unsupported", "unsupported"]
    assert await check("", EVIDENCE, LexicalScorer()) == ()


async def test_repair_quotes_or_marks():
    answer = "Result:\n- Nightly backups of ledger-db are kept for 40 days [1].\n- The moon is made of cheese.\nDone?"
    claims = await verdicts(answer)
    assert repair(answer, claims) == (
        "Result:\n- Nightly backups of ledger-db are kept for 35 days.\n"
        f"- The moon is made of cheese. {UNVERIFIED}\nDone?"
    )
    assert repair(answer, claims, replace=False).count(UNVERIFIED) == 2
    good = "Priya Raman leads Harbour [2]."
    assert repair(good, await verdicts(good)) == good


async def test_a_quote_is_not_given_twice():
    answer = "Restores are not allowed on Fridays. Restores are allowed on Fridays."
    assert repair(answer, await verdicts(answer)) == "Restores are not allowed on Fridays. "


async def test_what_is_repaired_holds():
    answer = "Nightly backups of ledger-db are kept for 40 days. Priya Raman leads Harbour since 9 June 2024."
    repaired = repair(answer, await verdicts(answer))
    assert [claim.verdict for claim in await verdicts(repaired)] == ["supported", "supported"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("EUR 38,600 and \u20ac 5.50", [("38600", "eur"), ("5.5", "eur")]),
        ("40 percent, 40%, 1.5 million users", [("40", "%"), ("40", "%"), ("1500000", "")]),
        ("six days or 6 days", [("6", "day"), ("6", "day")]),
        ("on 22 April 2026 at 09:00 we had 3 outages", [("3", "outag")]),
        ("version 1.2.3", [("1.2.3", "")]),
        ("no numbers", []),
    ],
)
def test_quantities(text, expected):
    assert [tuple(quantity) for quantity in quantities(text)] == expected


def test_dates_names_and_denials():
    assert dates("22 April 2026, 2026-04-22, April 22nd, at 9:05") == ("2026-04-22", "2026-04-22", "-04-22", "09:05")
    assert names("The team of Priya Raman uses AWS.") == {"priya", "raman", "aws"}
    assert denies("It isn't so.")
    assert not denies("It is so.")
