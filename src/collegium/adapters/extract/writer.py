"""Builds a readable text and its blocks at the same time: for formats whose text is not the file."""

from __future__ import annotations

from collegium.domain.document import Block, BlockKind


class TextWriter:
    """Collects blocks; each stands on lines of its own, with a blank line before what is no table row or list item."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self._last: BlockKind | None = None
        self._path: list[tuple[int, str]] = []
        self._blocks: list[Block] = []
        self.title = ""

    def add(self, text: str, kind: BlockKind = "prose", *, columns: tuple[str, ...] = ()) -> None:
        """Appends a block; nothing for blank text."""
        text = text.strip()
        if not text:
            return
        close = kind == self._last and kind in {"table", "list"}
        self._put("" if self._last is None else "\n" if close else "\n\n")
        start = self._length
        self._put(text)
        headings = tuple(name for _, name in self._path)
        self._blocks.append(Block(start=start, end=self._length, kind=kind, headings=headings, columns=columns))
        self._last = kind

    def heading(self, text: str, level: int) -> None:
        """Appends a heading and stands what follows under it."""
        name = " ".join(text.split())
        if name:
            self._path = [(depth, above) for depth, above in self._path if depth < level] + [(level, name)]
            self.title = self.title or name
            self.add(name, "heading")

    def row(self, row: tuple[str, ...], columns: tuple[str, ...]) -> None:
        """Appends a table row as ``a | b | c``."""
        self.add(" | ".join(" ".join(cell.split()) for cell in row), "table", columns=columns)

    def finish(self) -> tuple[str, tuple[Block, ...]]:
        """The whole text and its blocks."""
        return "".join(self._pieces), tuple(self._blocks)

    def _put(self, piece: str) -> None:
        self._pieces.append(piece)
        self._length += len(piece)
