"""The world a tool is called in, made of real parts: a folder in memory, and texts that are searched by words."""

from collections.abc import Callable, Mapping

import pytest

from collegium.adapters.memory.workspace import MemoryWorkspace
from collegium.domain.document import Chunk, Passage
from collegium.domain.errors import NotFound
from collegium.tools.context import ToolContext

MakeContext = Callable[..., ToolContext]


class Texts:
    """A ``Retriever`` over whole texts: one chunk each, ranked by how many words of the query they hold."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = dict(texts)

    async def search(self, query: str, *, limit: int = 8) -> tuple[Passage, ...]:
        words = query.casefold().split()
        scored = [(sum(word in text.casefold() for word in words), path) for path, text in self._texts.items()]
        best = sorted((item for item in scored if item[0]), key=lambda item: (-item[0], item[1]))[:limit]
        return tuple(Passage(chunk=self._chunk(path), score=float(score)) for score, path in best)

    async def text(self, document: str) -> str:
        if document not in self._texts:
            raise NotFound(f"no document {document}")
        return self._texts[document]

    @property
    def documents(self) -> tuple[str, ...]:
        return tuple(self._texts)

    def _chunk(self, path: str) -> Chunk:
        text = self._texts[path]
        return Chunk(id=f"c-{path}", document=path, sha256="0" * 64, start=0, end=len(text), text=text)


@pytest.fixture
def make_context() -> MakeContext:
    def make(texts: Mapping[str, str] | None = None, *, key: str | None = None) -> ToolContext:
        return ToolContext(
            tenant="default",
            run="run_1",
            task="t1",
            key=key,
            retriever=Texts(texts or {}),
            workspace=MemoryWorkspace(),
        )

    return make


@pytest.fixture
def context(make_context: MakeContext) -> ToolContext:
    return make_context()
