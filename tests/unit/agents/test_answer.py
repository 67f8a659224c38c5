from __future__ import annotations

from collegium.agents.answer import from_quotes, with_marks
from collegium.domain.document import Citation
from collegium.domain.policy import Claim


def cited(*quotes: str) -> tuple[Citation, ...]:
    return tuple(Citation(document="a.md", chunk_id="c", start=0, end=len(q), quote=q) for q in quotes)


def claim(text: str, *quotes: str, verdict: str = "supported") -> Claim:
    return Claim(text=text, verdict=verdict, score=1.0, citations=cited(*quotes))  # type: ignore[arg-type]


def test_marks_count_through_all_citations_and_the_layout_stays() -> None:
    text = "Ada owns it [3]. It has two parts.\n\n- one part [1][2]\n- the other"
    claims = (claim("Ada owns it.", "x"), claim("It has two parts."), claim("one part", "y", "z"), claim("the other"))
    assert with_marks(text, claims) == "Ada owns it. [1] It has two parts.\n\n- one part [2][3]\n- the other"


def test_what_nothing_bears_out_is_marked_once() -> None:
    text = "Ada owns it. Gus is a walrus. (unverified)"
    claims = (claim("Ada owns it.", "x"), claim("Gus is a walrus.", verdict="unsupported"))
    assert with_marks(text, claims).count("(unverified)") == 1


def test_several_quotes_make_a_list_and_one_stands_alone() -> None:
    assert from_quotes([claim("A.", "A.")]) == "A. [1]"
    assert from_quotes([claim("A.", "A."), claim("B.", "B.")]) == "- A. [1]\n- B. [2]"
