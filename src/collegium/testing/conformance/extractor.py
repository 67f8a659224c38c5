"""What every ``Extractor`` does with formats that need no library; rich formats are up to the adapter."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

import pytest

from collegium.domain.document import Extraction
from collegium.domain.errors import UnreadableInput
from collegium.ports import Extractor

PLAIN: dict[str, str] = {
    "a.md": "# Title\r\n\r\nFirst line\r\nsecond line.\r\n\r\n| a | b |\r\n| - | - |\r\n| 1 | 2 |\r\n",
    "b.txt": "TITLE\n\nSome text \u2026 with \u00fcml\u00e4uts.\n\n\n  indented\n",
    "c.csv": 'name,age\n"Doe, J.",41\n"two\nlines",7\n',
    "d.json": '{"a": [1, 2, {"b": "\\u00e9"}], "c": null}',
    "e.py": "def f(x):\n    return x\n\n\nclass A:\n    pass\n",
    "f.unknown": "what is this? plain text.\n",
    "g": "no suffix either\n",
}


def check_blocks(extraction: Extraction) -> None:
    """Asserts that blocks are in order, inside the text, apart from each other, and hold something."""
    last = 0
    for block in extraction.blocks:
        assert last <= block.start < block.end <= len(extraction.text)
        assert extraction.text[block.start : block.end].strip()
        last = block.end


@pytest.mark.asyncio
class ExtractorConformance(ABC):
    """Subclass it as ``Test...`` and implement ``make``."""

    @abstractmethod
    def make(self) -> Extractor:
        """An extractor."""

    @pytest.mark.parametrize("path", sorted(PLAIN))
    async def test_plain_text_is_unchanged(self, path: str) -> None:
        extraction = await self.make().extract(path, PLAIN[path].encode())
        assert extraction.text == PLAIN[path]
        check_blocks(extraction)
        assert extraction.blocks

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
    async def test_encodings(self, encoding: str) -> None:
        text = "# H\u00e9llo\r\n\r\nna\u00efve caf\u00e9 \u20ac 5\r\n"
        extraction = await self.make().extract("a.md", text.encode(encoding))
        assert extraction.text == text
        assert extraction.title == "H\u00e9llo"

    @pytest.mark.parametrize(
        ("path", "data"),
        [
            ("empty.md", b""),
            ("blank.txt", b" \n\t\n"),
            ("binary.txt", b"\x00\x01\x02binary\xff\xfe" * 20),
            ("binary.unknown", bytes(range(256)) * 4),
            ("picture.png", b"\x89PNG\r\n\x1a\n" + b"x" * 50),
            ("archive.zip", b"PK\x03\x04" + b"x" * 50),
            ("half.md", b"\xff\xfea"),
        ],
    )
    async def test_what_cannot_be_read_says_why(self, path: str, data: bytes) -> None:
        with pytest.raises(UnreadableInput) as caught:
            await self.make().extract(path, data)
        assert path in str(caught.value)
        reason = caught.value.fields["reason"]
        assert isinstance(reason, str)
        assert len(reason) > 8

    async def test_broken_structure_is_still_text(self) -> None:
        for path, text in {"a.json": '{"a": [1, 2', "b.jsonl": '{"a": 1}\nnot json\n', "c.csv": 'a,"b\n'}.items():
            extraction = await self.make().extract(path, text.encode())
            assert extraction.text == text
            check_blocks(extraction)

    async def test_the_same_file_gives_the_same(self) -> None:
        extractor = self.make()
        data = PLAIN["a.md"].encode()
        first, second = await asyncio.gather(extractor.extract("a.md", data), extractor.extract("a.md", data))
        assert first == second
        assert extractor.variant("a.md") == self.make().variant("x/y/other.md")
        assert extractor.variant("a.md") != extractor.variant("a.csv")
