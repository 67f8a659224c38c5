"""What every ``Index`` does."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

import pytest

from collegium.domain.document import Chunk
from collegium.ports import Index

TEXTS = {
    "cats": ("The cat sat on the mat and slept.", (1.0, 0.0, 0.0)),
    "dogs": ("A dog barked at the mailman all morning.", (0.8, 0.6, 0.0)),
    "ship": ("Deploying the release needs two approvals of the owning team.", (0.0, 1.0, 0.0)),
    "port": ("Backups are kept for 35 days; max_retries is 4 in version 1.2.3.", (0.0, 0.0, 1.0)),
}


def chunk(name: str, *, document: str | None = None, context: str = "", text: str | None = None) -> Chunk:
    """A chunk to be indexed; its document's hash is ``document``, by default its own name."""
    body = TEXTS[name][0] if text is None else text
    key = document or name
    return Chunk(
        id=f"{key}-{name}", document=f"{key}.md", sha256=key, start=3, end=3 + len(body), text=body, context=context
    )


async def fill(index: Index, namespace: str = "one", *, with_vectors: bool = True) -> None:
    """Indexes ``TEXTS``, each as a document of its own."""
    vectors = [vector for _, vector in TEXTS.values()] if with_vectors else None
    await index.upsert(namespace, [chunk(name) for name in TEXTS], vectors)


@pytest.mark.asyncio
class IndexConformance(ABC):
    """Subclass it as ``Test...`` and implement ``open``."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Index]:
        """An empty index, closed at exit."""

    def open_pair(self) -> AbstractAsyncContextManager[tuple[Index, Index]]:
        """Two adapters on one empty index, as two processes would have them."""
        pytest.skip("one process only")

    async def test_words_are_found_in_other_forms(self) -> None:
        async with self.open() as index:
            await fill(index, with_vectors=False)
            for query, expected in {
                "deployment approval": "ship",
                "backup": "port",
                "max retries": "port",
                "Version 1.2.3?": "port",
                "BARKING dogs": "dogs",
            }.items():
                found = await index.search("one", text=query)
                assert found[0].chunk.sha256 == expected, query

    async def test_what_is_found_is_what_was_put(self) -> None:
        async with self.open() as index:
            put = chunk("cats", context="Animals > Indoors")
            await index.upsert("one", [put], None)
            (found,) = await index.search("one", text="cat")
            assert found.chunk == put
            assert found.score > 0

    async def test_the_context_is_searched_too(self) -> None:
        async with self.open() as index:
            await index.upsert("one", [chunk("cats", context="Household > Pets"), chunk("dogs")], None)
            (found,) = await index.search("one", text="household pets")
            assert found.chunk.sha256 == "cats"

    async def test_nothing_matches_nothing(self) -> None:
        async with self.open() as index:
            assert await index.search("one", text="cat") == ()
            await fill(index)
            for query in ("zebra", "", "the of and", '"', "NEAR( OR * ^ -x:", "\x00"):
                assert await index.search("one", text=query) == (), query
            assert await index.search("one") == ()

    async def test_vectors_are_searched_by_cosine(self) -> None:
        async with self.open() as index:
            await fill(index)
            found = await index.search("one", vector=(1.0, 0.0, 0.0), limit=2)
            assert [passage.chunk.sha256 for passage in found] == ["cats", "dogs"]
            assert found[0].score >= found[1].score

    async def test_both_are_fused(self) -> None:
        async with self.open() as index:
            await fill(index)
            found = await index.search("one", text="cat", vector=(0.0, 0.0, 1.0))
            assert {passage.chunk.sha256 for passage in found[:2]} == {"cats", "port"}
            assert len({passage.chunk.id for passage in found}) == len(found)

    async def test_documents_restrict_before_ranking(self) -> None:
        async with self.open() as index:
            await fill(index)
            many = [chunk("cats", document=f"d{n}", text=f"cat number {n}") for n in range(40)]
            await index.upsert("one", many, [(1.0, 0.0, 0.0)] * 40)
            assert [p.chunk.sha256 for p in await index.search("one", text="cat", documents=["cats"], limit=1)] == [
                "cats"
            ]
            found = await index.search("one", vector=(1.0, 0.0, 0.0), documents=["port", "ship"], limit=2)
            assert {passage.chunk.sha256 for passage in found} == {"port", "ship"}
            assert await index.search("one", text="cat", documents=[]) == ()

    async def test_thousands_of_documents_restrict(self) -> None:
        async with self.open() as index:
            await fill(index)
            documents = [f"absent{n}" for n in range(3_000)] + ["ship"]
            assert await index.has("one", documents) == {"ship"}
            (found,) = await index.search("one", text="approvals", documents=documents)
            assert found.chunk.sha256 == "ship"

    async def test_the_limit_holds(self) -> None:
        async with self.open() as index:
            await fill(index)
            assert len(await index.search("one", vector=(1.0, 0.0, 0.0), limit=3)) == 3
            assert len(await index.search("one", vector=(1.0, 0.0, 0.0), limit=30)) == len(TEXTS)

    async def test_putting_again_replaces(self) -> None:
        async with self.open() as index:
            await fill(index)
            await fill(index)
            assert len(await index.search("one", vector=(1.0, 0.0, 0.0))) == len(TEXTS)
            changed = chunk("cats", text="Nothing about animals here, only zebras")
            await index.upsert("one", [changed], [(0.0, 0.0, 1.0)])
            assert await index.search("one", text="cat mat") == ()
            assert (await index.search("one", text="zebra"))[0].chunk == changed
            assert (await index.search("one", vector=(1.0, 0.0, 0.0)))[0].chunk.sha256 == "dogs"

    async def test_namespaces_do_not_see_each_other(self) -> None:
        async with self.open() as index:
            await fill(index, "one")
            alone = await index.search("one", text="cat")
            await index.upsert("two", [chunk("cats", document=f"x{n}") for n in range(50)], None)
            assert await index.search("one", text="cat") == alone
            assert await index.has("two", ["cats"]) == frozenset()
            await index.delete("two")
            assert await index.search("two", text="cat") == ()
            assert await index.search("one", text="cat") == alone

    async def test_documents_are_deleted(self) -> None:
        async with self.open() as index:
            await fill(index)
            await index.delete("one", ["cats", "unknown"])
            await index.delete("never", ["cats"])
            assert await index.has("one", list(TEXTS)) == {"dogs", "ship", "port"}
            assert await index.search("one", text="cat") == ()
            assert "cats" not in {p.chunk.sha256 for p in await index.search("one", vector=(1.0, 0.0, 0.0))}

    async def test_too_few_vectors_change_nothing(self) -> None:
        async with self.open() as index:
            with pytest.raises(ValueError, match="vectors"):
                await index.upsert("one", [chunk("cats"), chunk("dogs")], [(1.0, 0.0, 0.0)])
            assert await index.has("one", ["cats", "dogs"]) == frozenset()
            await index.upsert("one", [], None)

    async def test_equal_chunks_have_one_order(self) -> None:
        async with self.open() as index:
            same = [chunk("cats", document=f"d{n}") for n in (3, 1, 2)]
            await index.upsert("one", same, [(1.0, 0.0, 0.0)] * 3)
            first = await index.search("one", text="cat", vector=(1.0, 0.0, 0.0))
            assert [p.chunk.sha256 for p in first] == ["d1", "d2", "d3"]

    async def test_many_at_once(self) -> None:
        async with self.open() as index:
            async with asyncio.TaskGroup() as group:
                for number in range(12):
                    part = [chunk("cats", document=f"d{number}", text=f"cat {number}")]
                    group.create_task(index.upsert("one", part, [(1.0, 0.0, 0.0)]))
                    group.create_task(index.search("one", text="cat", vector=(1.0, 0.0, 0.0)))
            assert len(await index.has("one", [f"d{n}" for n in range(12)])) == 12

    async def test_two_processes_see_each_others_writes(self) -> None:
        async with self.open_pair() as (one, two):
            await fill(one)
            assert (await two.search("one", vector=(1.0, 0.0, 0.0), limit=1))[0].chunk.sha256 == "cats"
            await one.upsert("one", [chunk("cats", document="new")], [(0.99, 0.1, 0.0)])
            assert len(await two.search("one", vector=(1.0, 0.0, 0.0))) == len(TEXTS) + 1
            await one.delete("one", ["cats"])
            assert (await two.search("one", vector=(1.0, 0.0, 0.0), limit=1))[0].chunk.sha256 == "new"
            assert [p.chunk.sha256 for p in await two.search("one", text="cat")] == ["new"]
