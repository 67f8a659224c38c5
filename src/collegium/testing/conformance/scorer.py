"""What every grounding ``Scorer`` does."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytest

from collegium.ports import Scorer

PREMISE = (
    "Nightly backups of the ledger database are kept for 35 days. They are stored in Porto. "
    "Priya Raman leads the platform team. Restores are not allowed on Fridays."
)


@pytest.mark.asyncio
class ScorerConformance(ABC):
    """Subclass it as ``Test...`` and implement ``make``."""

    @abstractmethod
    def make(self) -> Scorer:
        """A scorer."""

    async def test_one_score_per_pair_in_order(self) -> None:
        pairs = [(PREMISE, "Backups are stored in Porto."), (PREMISE, "Whales are mammals."), (PREMISE, PREMISE)]
        scores = await self.make().score(pairs)
        assert len(scores) == 3
        assert all(0 <= score <= 1 for score in scores)
        assert scores[0] > scores[1]
        alone = [(await self.make().score([pair]))[0] for pair in pairs]
        assert list(scores) == pytest.approx(alone, abs=1e-4)

    async def test_nothing_gives_nothing(self) -> None:
        assert len(await self.make().score([])) == 0

    async def test_what_stands_there_is_supported(self) -> None:
        for claim in (
            "Nightly backups of the ledger database are kept for 35 days.",
            "Priya Raman leads the platform team.",
        ):
            (score,) = await self.make().score([(PREMISE, claim)])
            assert score >= 0.5, claim

    async def test_changed_facts_score_lower(self) -> None:
        for true, false in (
            ("Nightly backups are kept for 35 days.", "Nightly backups are kept for 90 days."),
            ("Priya Raman leads the platform team.", "Olek Dravnik leads the platform team."),
            ("Restores are not allowed on Fridays.", "Restores are allowed on Fridays."),
        ):
            right, wrong = await self.make().score([(PREMISE, true), (PREMISE, false)])
            assert right > wrong, false

    async def test_odd_texts_are_no_error(self) -> None:
        scores = await self.make().score(
            [("", "x y z"), (PREMISE, ""), ("", ""), ("\u4f60\u597d", "\U0001f600 !?"), ("a" * 5_000, "a")]
        )
        assert all(0 <= score <= 1 for score in scores)

    async def test_it_has_a_name(self) -> None:
        assert self.make().name == self.make().name
        assert self.make().name.strip()
