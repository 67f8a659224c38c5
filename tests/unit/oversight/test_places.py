from __future__ import annotations

from collegium.adapters.scorers.lexical import LexicalScorer
from collegium.domain.document import Chunk
from collegium.oversight.grounding import check

TEXT = "The flag hides the option at first.\n\n## Feature flags\n\nThe flag ferry-avoidance is on for all customers."


async def test_a_place_never_reaches_across_a_heading() -> None:
    chunk = Chunk(id="c", document="a.md", sha256="0", start=0, end=len(TEXT), text=TEXT)
    claim = "The flag hides the option at first and the feature flag ferry-avoidance is on for all customers."
    for verdict in await check(claim, [chunk], LexicalScorer()):
        for citation in verdict.citations:
            assert "#" not in citation.quote
            assert TEXT[citation.start : citation.end] == citation.quote
