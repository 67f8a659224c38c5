"""Chunks: exact offsets whatever the text, one heading at a time, rows whole, ids that stay."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from collegium.adapters.extract.extractor import FileExtractor
from collegium.domain.document import Block, Extraction
from collegium.domain.errors import UnreadableInput
from collegium.knowledge.chunking import LONGEST, chunks

LINES = st.sampled_from(
    [
        "# One", "## Two", "### Three", "Title\n=====", "", "", "A sentence. Another, e.g. this; v1.2.3 is out!",
        "- item one", "  continued", "1. first", "| a | b |", "| --- | --- |", "| 1 | two |", "```", "code(x)",
        "word " * 60, "x" * 2_000, "a,b,c", '{"a": [1, {"b": "c"}]}', "[{}, {}]", "def f():", "    return 1",
        "\u4f60\u597d\U0001f600", "\r", "> quote", "---", "\t", "key: value",
    ]
)  # fmt: skip
TEXTS = st.one_of(
    st.lists(LINES, min_size=1, max_size=40).flatmap(
        lambda ls: st.sampled_from(["\n", "\r\n"]).map(lambda n: n.join(ls))
    ),
    st.text(max_size=3_000),
)
NAMES = st.sampled_from(["a.md", "a.txt", "a.csv", "a.json", "a.jsonl", "a.py", "a.html"])


def extract(path, text):
    return asyncio.run(FileExtractor().extract(path, text.encode("utf-8", "surrogatepass")))


def cut(path, text, key="k" * 64):
    return chunks(extract(path, text), document=path, key=key)


@given(TEXTS, NAMES)
def test_a_chunk_is_the_text_between_its_offsets(text, path):
    try:
        extraction = extract(path, text)
    except UnreadableInput:
        return
    made = chunks(extraction, document=path, key="k" * 64)
    assert made
    last = 0
    for chunk in made:
        assert chunk.text == extraction.text[chunk.start : chunk.end]
        assert chunk.text.strip()
        assert chunk.start >= last
        assert len(chunk.text) <= LONGEST * (4 if chunk.kind == "table" else 1)
        last = chunk.end
    assert len({chunk.id for chunk in made}) == len(made)
    if path.endswith((".md", ".txt", ".csv", ".json", ".py")):
        assert extraction.text == text.removeprefix("\ufeff")


@given(TEXTS, st.lists(st.tuples(st.integers(0, 500), st.integers(1, 400)), max_size=12))
def test_any_blocks_give_exact_offsets(text, gaps):
    blocks, at = [], 0
    for skip, length in gaps:
        start, end = at + skip, min(at + skip + length, len(text))
        if start < end:
            blocks.append(Block(start=start, end=end))
        at = end
    extraction = Extraction(text=text, title="", media_type="text/plain", blocks=tuple(blocks), extractor="x")
    for chunk in chunks(extraction, document="d", key="k"):
        assert chunk.text == text[chunk.start : chunk.end]


def test_no_chunk_crosses_a_heading():
    text = "# Guide\n\nIntro text.\n\n## Pay\n\nEUR 5.\n\n## Leave\n\nTen days.\n"
    made = cut("g.md", text)
    assert [chunk.context for chunk in made] == ["Guide", "Guide > Pay", "Guide > Leave"]
    assert made[1].text == "## Pay\n\nEUR 5."


def test_long_sections_are_cut_at_sentences():
    text = "# T\n\n" + " ".join(f"This is sentence number {n} of a rather long paragraph." for n in range(60))
    made = cut("t.md", text)
    assert len(made) > 3
    assert all(chunk.text.rstrip().endswith(".") for chunk in made)
    assert all(chunk.context == "T" for chunk in made)
    assert all(len(chunk.text) >= 300 for chunk in made[1:-1])


def test_rows_know_their_columns():
    text = "service,team\n" + "".join(f"svc-{n},team {n}\n" for n in range(100))
    made = cut("services/service-catalogue.csv", text)
    assert made[0].context == "service catalogue"
    for chunk in made[1:]:
        assert chunk.columns == ("service", "team")
        assert chunk.context == "service catalogue\nservice | team"
        assert all(line.startswith("svc-") for line in chunk.text.splitlines())


def test_a_json_record_is_a_chunk():
    text = '{"version": 3, "alerts": [\n {"name": "lag", "page": 45},\n {"name":\n "disk", "page": 90}\n]}'
    made = cut("a.json", text)
    assert '"disk"' in made[-1].text
    assert made[-1].columns == ("name", "page")
    assert '"version": 3' in made[0].text


def test_the_same_file_has_the_same_ids_and_another_has_others():
    text = "# T\n\nBody.\n"
    assert cut("a.md", text) == cut("a.md", text)
    assert cut("a.md", text, key="one" * 9)[0].id != cut("a.md", text, key="two" * 9)[0].id


def test_a_document_of_headings_only_can_be_found():
    assert [chunk.text for chunk in cut("a.md", "# Only\n\n## Headings\n")] == ["# Only\n\n## Headings"]
