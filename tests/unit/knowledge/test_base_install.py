"""Search by words, quoting and grounding work where numpy and the document libraries are not installed."""

import subprocess
import sys

PROGRAM = """
import asyncio, sys
from pathlib import Path
for name in ("numpy", "tokenizers", "wordllama", "selectolax", "pypdfium2", "docx"):
    sys.modules[name] = None
from collegium.adapters.extract.extractor import FileExtractor
from collegium.adapters.memory.blobs import MemoryBlobs
from collegium.adapters.memory.records import MemoryRecords
from collegium.adapters.scorers.lexical import LexicalScorer
from collegium.adapters.sqlite.index import SqliteIndex
from collegium.domain.document import InputFile
from collegium.knowledge.extractive import select
from collegium.knowledge.library import Library
from collegium.knowledge.retrieval import gather
from collegium.oversight.grounding import check

async def main():
    blobs = MemoryBlobs()
    contents = {"a.md": b"# Pay\\n\\nThe bonus is EUR 320 a week.\\n", "b.html": b"<p>hello</p>"}
    files = [InputFile(path=p, sha256=blobs.put("t", d), size_bytes=len(d)) for p, d in contents.items()]
    index = SqliteIndex(Path(sys.argv[1]))
    library = Library(index, None, extractor=FileExtractor(), blobs=blobs, records=MemoryRecords())
    knowledge = await library.open("t", files)
    question = "How much is the bonus paid a week?"
    passages = await gather(knowledge, question)
    (quote,) = await select(question, passages)
    (claim,) = await check(quote.text, [p.chunk for p in passages], LexicalScorer())
    print(quote.quote, "|", claim.verdict, "|", knowledge.skipped[0].reason)
    await index.aclose()

asyncio.run(main())
"""


def test_nothing_needs_the_local_extra(tmp_path):
    run = [sys.executable, "-c", PROGRAM, str(tmp_path / "index.db")]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    quote, verdict, reason = done.stdout.strip().split(" | ")
    assert quote.endswith("The bonus is EUR 320 a week.")
    assert verdict == "supported"
    assert "pip install 'collegium[local]'" in reason
