"""Documents, their chunks, and places in them."""

from __future__ import annotations

from typing import Literal

import msgspec


class InputFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file given with a goal; its bytes are the blob ``sha256``.

    ``path`` is relative to the root that was given, with /.
    """

    path: str
    sha256: str
    size_bytes: int


class SkippedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that could not be used, and why, for a person."""

    path: str
    reason: str


BlockKind = Literal["prose", "heading", "list", "table", "code"]


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A structural piece of an extracted text: ``text[start:end]`` of the document.

    ``headings`` are the titles it stands under, outermost first; for a table row ``columns`` names its cells in order.
    """

    start: int
    end: int
    kind: BlockKind = "prose"
    headings: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


class Extraction(msgspec.Struct, frozen=True, kw_only=True):
    """The text of a file and its structure. For plain-text formats ``text`` is the decoded file, unchanged.

    ``title`` is empty when the content has none. ``blocks`` are in order and do not overlap.
    """

    text: str
    title: str
    media_type: str
    blocks: tuple[Block, ...]
    extractor: str


class Chunk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A passage that is indexed: ``text`` equals the document's extracted text from ``start`` to ``end``.

    ``id`` is made of the document's hash, the chunker's version and the offsets: the same file always gives the same
    ids.
    ``context`` (title and headings) is indexed and shown with the text but is no part of it. A chunk of ``table`` kind
    holds
    whole rows, one per line or one JSON record; ``columns`` name their cells in order.
    """

    id: str
    document: str
    sha256: str
    start: int
    end: int
    text: str
    context: str = ""
    kind: BlockKind = "prose"
    columns: tuple[str, ...] = ()


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk that was found, with its score (higher is better; comparable within one search only)."""

    chunk: Chunk
    score: float


class Citation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place in a document: ``quote`` equals the extracted text from ``start`` to ``end`` (characters)."""

    document: str
    chunk_id: str
    start: int
    end: int
    quote: str
    claim: int | None = None
    """Index of the claim it supports, in the answer's list of claims."""


class GivenFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it was read from where the user named it, before it is a blob."""

    path: str
    data: bytes
