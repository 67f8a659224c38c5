"""The library: files are read once, cited under this run's names, and one bad file fails no other."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from collegium.adapters.embedders.static import StaticEmbedder
from collegium.adapters.extract.extractor import FileExtractor
from collegium.adapters.memory.blobs import MemoryBlobs
from collegium.adapters.memory.index import MemoryIndex
from collegium.adapters.memory.records import MemoryRecords
from collegium.adapters.sqlite.index import SqliteIndex
from collegium.domain.document import InputFile
from collegium.domain.errors import NotFound
from collegium.knowledge.library import Library

FILES = {
    "pay.md": b"# Pay\n\nThe bonus is EUR 320 a week.\n",
    "sub/leave.txt": b"LEAVE\n\nEverybody has 28 days of leave.\n",
    "teams.csv": b"team,lead\nHarbour,Priya Raman\nBallast,Marisol Quintero\n",
}


class CountingExtractor(FileExtractor):
    def __init__(self):
        super().__init__()
        self.paths = []

    async def extract(self, path, data):
        self.paths.append(path)
        return await super().extract(path, data)


class House:
    """A library over memory, or over a SQLite index."""

    def __init__(self, index=None, embedder=None):
        self.blobs, self.records, self.index = MemoryBlobs(), MemoryRecords(), index or MemoryIndex()
        self.extractor = CountingExtractor()
        self.library = Library(self.index, embedder, extractor=self.extractor, blobs=self.blobs, records=self.records)

    def files(self, contents, tenant="acme"):
        return [
            InputFile(path=path, sha256=self.blobs.put(tenant, data), size_bytes=len(data))
            for path, data in contents.items()
        ]

    async def open(self, contents, tenant="acme", **options):
        return await self.library.open(tenant, self.files(contents, tenant), **options)


@asynccontextmanager
async def sqlite_house(path):
    index = SqliteIndex(path / "index.db")
    yield House(index, StaticEmbedder())
    await index.aclose()


async def test_files_are_found_with_exact_places():
    house = House()
    knowledge = await house.open(FILES)
    assert knowledge.documents == ("pay.md", "sub/leave.txt", "teams.csv")
    assert knowledge.skipped == ()
    for query, path in {"bonus": "pay.md", "days of leave": "sub/leave.txt", "who leads Ballast": "teams.csv"}.items():
        (first, *_) = await knowledge.search(query)
        assert first.chunk.document == path
        text = await knowledge.text(path)
        assert text == FILES[path].decode()
        assert text[first.chunk.start : first.chunk.end] == first.chunk.text
    assert await knowledge.search("  ") == ()


async def test_meaning_is_searched_with_an_embedder(tmp_path):
    async with sqlite_house(tmp_path) as house:
        knowledge = await house.open(FILES)
        assert (await knowledge.search("salary"))[0].chunk.document == "pay.md"
        assert (await knowledge.search("vacation"))[0].chunk.document == "sub/leave.txt"


async def test_a_file_is_read_once_per_content():
    house = House()
    await house.open(FILES)
    assert sorted(house.extractor.paths) == sorted(FILES)
    await house.open(FILES)
    knowledge = await house.open({"elsewhere/pay.md": FILES["pay.md"]})
    assert await knowledge.text("elsewhere/pay.md") == FILES["pay.md"].decode()
    assert len(house.extractor.paths) == len(FILES)


async def test_the_same_content_is_cited_under_the_name_of_this_run():
    house = House()
    await house.open({"old/pay.md": FILES["pay.md"]})
    knowledge = await house.open({"new/pay.md": FILES["pay.md"], "copy.md": FILES["pay.md"]})
    documents = {passage.chunk.document for passage in await knowledge.search("bonus")}
    assert documents <= {"new/pay.md", "copy.md"}
    assert documents
    assert {passage.chunk.sha256 for passage in await knowledge.search("bonus")} == {house.files(FILES)[0].sha256}


async def test_the_same_bytes_read_in_two_ways_have_their_own_places():
    page = b"<html><body><p>The bonus is EUR 320.</p></body></html>"
    house = House()
    knowledge = await house.open({"a.html": page, "a.txt": page})
    for passage in await knowledge.search("bonus"):
        chunk = passage.chunk
        assert (await knowledge.text(chunk.document))[chunk.start : chunk.end] == chunk.text


async def test_a_run_sees_only_its_files_and_a_tenant_only_its_own():
    house = House()
    await house.open(FILES)
    one = await house.open({"pay.md": FILES["pay.md"]})
    assert {p.chunk.document for p in await one.search("bonus leave team")} == {"pay.md"}
    with pytest.raises(NotFound, match=r"teams\.csv"):
        await one.text("teams.csv")
    other = await house.open({"x.md": b"# Other\n\nNothing about it.\n"}, tenant="globex")
    assert {p.chunk.document for p in await other.search("bonus leave nothing")} == {"x.md"}


async def test_bad_files_fail_no_others():
    house = House()
    bad = {"a.bin": bytes(range(256)), "b.pdf": b"%PDF-1.4 broken", "c.md": b"", "d.png": b"\x89PNG"}
    files = [*house.files(FILES | bad), InputFile(path="gone.md", sha256="0" * 64, size_bytes=3)]
    knowledge = await house.library.open("acme", files)
    assert knowledge.documents == tuple(FILES)
    assert [skipped.path for skipped in knowledge.skipped] == ["a.bin", "b.pdf", "c.md", "d.png", "gone.md"]
    assert all(len(skipped.reason) > 8 for skipped in knowledge.skipped)
    assert (await knowledge.search("bonus"))[0].chunk.document == "pay.md"


async def test_nothing_usable_is_no_error():
    knowledge = await House().open({"a.png": b"x"})
    assert knowledge.documents == ()
    assert await knowledge.search("anything") == ()
    assert (await House().open({})).documents == ()


async def test_opening_at_once_gives_the_same(tmp_path):
    async with sqlite_house(tmp_path) as house:
        opened = await asyncio.gather(*(house.open(FILES) for _ in range(6)))
        found = [await knowledge.search("bonus leave lead") for knowledge in opened]
        assert all(passages == found[0] for passages in found)
        assert len({passage.chunk.id for passage in found[0]}) == len(found[0])


async def test_a_deleted_index_or_extraction_is_made_again():
    house = House()
    await house.open(FILES)
    house.index._namespaces.clear()
    assert (await (await house.open(FILES)).search("bonus"))[0].chunk.document == "pay.md"
    assert len(house.extractor.paths) == len(FILES)
    record = (await house.records.find("extraction", "acme"))[0]
    await house.blobs.delete("acme", record.value["blob"])
    house.index._namespaces.clear()
    assert len((await house.open(FILES)).documents) == len(FILES)
    assert len(house.extractor.paths) == len(FILES) + 1


async def test_progress_counts_every_file():
    house, seen = House(), []
    await house.open(FILES | {"bad.png": b"x"}, progress=lambda *step: seen.append(step))
    assert [step[0] for step in seen] == [1, 2, 3, 4]
    assert {step[1] for step in seen} == {4}
    assert {step[2] for step in seen} == {*FILES, "bad.png"}


async def test_two_thousand_files(tmp_path):
    async with sqlite_house(tmp_path) as house:
        many = {
            f"n/{n // 100}/note-{n}.md": f"# Note {n}\n\nTicket {n * 7} is closed.\n".encode() for n in range(2_000)
        }
        knowledge = await house.open(many)
        assert len(knowledge.documents) == 2_000
        assert (await knowledge.search("ticket 9359"))[0].chunk.document == "n/13/note-1337.md"
