"""Which format a file is read as, by its name first and its bytes second."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

MEDIA_TYPES: Final[dict[str, str]] = {
    "markdown": "text/markdown",
    "text": "text/plain",
    "csv": "text/csv",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "source": "text/x-source",
    "html": "text/html",
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
"""Formats that can be read, with their media types."""

PLAIN: Final = frozenset({"markdown", "text", "csv", "json", "jsonl", "source"})
"""Formats whose extracted text is the decoded file."""

_SUFFIXES: Final[dict[str, str]] = {
    suffix: kind
    for kind, suffixes in {
        "markdown": "md markdown mdown mkd mdx qmd rmd",
        "text": "txt text log rst adoc asciidoc org tex srt vtt eml",
        "csv": "csv tsv tab",
        "json": "json geojson ipynb webmanifest",
        "jsonl": "jsonl ndjson",
        "source": """
            py pyi js mjs cjs jsx ts tsx java kt kts scala c h cc cpp cxx hpp cs go rs rb php swift m mm sh bash zsh
            fish ps1 bat sql r jl lua pl pm ex exs erl hs ml clj dart groovy gradle tf hcl proto graphql css scss
            less vue svelte yaml yml toml ini cfg conf properties env xml xsd svg dockerfile makefile cmake""",
        "html": "html htm xhtml",
        "pdf": "pdf",
        "docx": "docx docm dotx",
    }.items()
    for suffix in suffixes.split()
}
_UNREADABLE: Final[dict[str, str]] = {
    suffix: what
    for what, suffixes in {
        "a picture; pictures are not read": "png jpg jpeg gif webp bmp ico tif tiff heic avif",
        "sound or film; it is not read": "mp3 wav ogg flac m4a mp4 mkv mov avi webm",
        "an archive; unpack it and give the files": "zip gz tgz bz2 xz zst 7z rar tar jar whl",
        "a spreadsheet; save it as CSV": "xls xlsx xlsm ods numbers",
        "a presentation; save it as PDF": "ppt pptx odp key",
        "an old or foreign word processor's format; save it as DOCX or PDF": "doc odt rtf pages wpd",
        "an e-book; save it as PDF or HTML": "epub mobi azw3",
        "a program or a library": "exe dll so dylib a o pyc class wasm bin",
        "a database": "db sqlite sqlite3 mdb parquet feather",
        "a model's weights": "gguf safetensors onnx pt pth",
    }.items()
    for suffix in suffixes.split()
}
_MAGIC: Final = (
    (b"%PDF-", "pdf"),
    (b"<!doctype html", "html"),
    (b"<html", "html"),
)


def kind_by_name(path: str) -> str | None:
    """The format that the name of ``path`` tells, or None."""
    name = PurePosixPath(path.replace("\\", "/")).name.lower()
    suffix = name.rpartition(".")[2]
    return _SUFFIXES.get(suffix)


def kind_of(path: str, data: bytes) -> str:
    """The format to read ``data`` as; unknown names are looked at, and read as text if they hold text.

    Raises ValueError with a reason for formats that are known and not read.
    """
    head = data[:1024].lstrip().lower()
    sniffed = next((kind for magic, kind in _MAGIC if head.startswith(magic.lower())), None)
    if sniffed == "pdf":
        return "pdf"
    known = kind_by_name(path)
    if known is not None:
        return known
    suffix = PurePosixPath(path.replace("\\", "/")).name.lower().rpartition(".")[2]
    if suffix in _UNREADABLE:
        raise ValueError(f"it is {_UNREADABLE[suffix]}")
    return sniffed or "text"
