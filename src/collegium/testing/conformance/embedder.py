"""What every ``Embedder`` does."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import pytest

from collegium.ports import Embedder


def cosine(one: Sequence[float], two: Sequence[float]) -> float:
    """Of L2-normalised vectors."""
    return float(sum(a * b for a, b in zip(one, two, strict=True)))


@pytest.mark.asyncio
class EmbedderConformance(ABC):
    """Subclass it as ``Test...`` and implement ``make``."""

    @abstractmethod
    def make(self) -> Embedder:
        """An embedder."""

    async def test_one_vector_per_text_in_order(self) -> None:
        embedder = self.make()
        together = await embedder.embed(["a cat", "the invoice", "a cat"])
        assert [len(vector) for vector in together] == [embedder.dim] * 3
        alone = await embedder.embed(["the invoice"])
        assert cosine(together[0], together[2]) == pytest.approx(1, abs=1e-5)
        assert cosine(together[1], alone[0]) == pytest.approx(1, abs=1e-4)

    async def test_vectors_have_length_one(self) -> None:
        for vector in await self.make().embed(["a", "A much longer text. " * 200, "\u4f60\u597d", "\U0001f600 42"]):
            assert math.sqrt(cosine(vector, vector)) == pytest.approx(1, abs=1e-4)

    async def test_nothing_gives_nothing(self) -> None:
        assert len(await self.make().embed([])) == 0

    async def test_an_empty_text_is_no_error(self) -> None:
        (vector,) = await self.make().embed([""])
        assert len(vector) == self.make().dim
        assert all(math.isfinite(x) for x in vector)

    async def test_what_means_the_same_is_nearer(self) -> None:
        one, two, far = await self.make().embed(
            ["the salary is paid monthly", "employees receive their wages each month", "a dog chases a ball"]
        )
        assert cosine(one, two) > cosine(one, far)

    async def test_the_space_has_a_stable_name(self) -> None:
        assert self.make().space == self.make().space
        assert self.make().space.strip()

    async def test_many_at_once(self) -> None:
        embedder = self.make()
        results = await asyncio.gather(*(embedder.embed([f"text {n}", "shared"]) for n in range(20)))
        assert all(cosine(result[1], results[0][1]) > 0.999 for result in results)
        assert len(await embedder.embed([f"text number {n}" for n in range(700)])) == 700
