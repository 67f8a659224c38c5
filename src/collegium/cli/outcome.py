"""How a run's end is handed out: as a page or a document, as files, as an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from collegium.cli.text import one_line
from collegium.domain.errors import EXIT_CODES, CollegiumError, UsageError
from collegium.domain.report import RunReport

if TYPE_CHECKING:
    from collegium.app import Collegium
    from collegium.cli.session import Session
    from collegium.domain.tool import Artifact

STATUS_EXITS = {"succeeded": 0, "partial": 0, "failed": 1, "waiting": 3, "limited": 4, "cancelled": 130}


def exit_of(report: RunReport) -> int:
    """The exit code for a run: by its status; a failure that came from outside has the code of its error.

    So a wrong key ends with 2 and a model that cannot be reached with 5, as they do before a run has begun.
    """
    if report.status == "failed" and report.error is not None:
        return _error_exits().get(report.error, STATUS_EXITS["failed"])
    return STATUS_EXITS.get(report.status, 0)


def hand_out(session: Session, report: RunReport, extra: dict[str, Any] | None = None) -> int:
    """Prints the report, as a page or as the one JSON document; returns the exit code."""
    if session.is_json:
        session.emit({**msgspec.to_builtins(report), **(extra or {})})
    else:
        from collegium.cli.answer import print_report

        print_report(session.out, report)
    return exit_of(report)


async def copy_artifacts(app: Collegium, artifacts: tuple[Artifact, ...], *, tenant: str, out: Path) -> list[str]:
    """Writes the files of a run below ``out`` and returns their paths; files of the same name are replaced."""
    written = []
    for artifact in artifacts:
        path = PurePosixPath(artifact.path)
        if path.is_absolute() or ".." in path.parts:
            raise UsageError(
                f"the file {artifact.path!r} would lie outside {out} and was not written", path=artifact.path
            )
        data = await app.stores.blobs.get(tenant, artifact.sha256)
        try:
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_bytes(data)
        except OSError as error:
            raise UsageError(
                f"{out / path} cannot be written: {error.strerror}; choose another folder for --out",
                path=str(out / path),
            ) from error
        written.append(str(out / path))
    return written


def tell_copied(session: Session, written: list[str]) -> None:
    """Says where files were copied to."""
    for path in written:
        session.tell(f"wrote {one_line(path)}")


def _error_exits() -> dict[str, int]:
    def tree(kind: type[CollegiumError]) -> Iterator[type[CollegiumError]]:
        yield kind
        for below in kind.__subclasses__():
            yield from tree(below)

    return {k.code: next(EXIT_CODES[c] for c in k.__mro__ if c in EXIT_CODES) for k in tree(CollegiumError)}
