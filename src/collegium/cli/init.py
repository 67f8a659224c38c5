"""``collegium init``."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from collegium.cli.options import command
from collegium.cli.session import Session, pass_session
from collegium.domain.errors import UsageError


@command("init")
@click.argument("dir", type=click.Path(path_type=Path), default=Path(), required=False)
@pass_session
def init(session: Session, dir: Path) -> int:  # noqa: A002  the name in the help
    """Start a project in DIR (here by default): collegium.toml, agents/example.toml and a README.

    Nothing that is there already is changed.
    """
    made, kept = [], []
    for name, source in starter():
        target = dir / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                out.write(source.read_bytes())
            made.append(str(target))
        except FileExistsError:
            kept.append(str(target))
        except OSError as error:
            raise UsageError(
                f"{target} cannot be made: {error.strerror}; choose another folder", path=str(target)
            ) from error
    if session.is_json:
        session.emit({"dir": str(dir), "made": made, "kept": kept})
        return 0
    for path in made:
        print(f"made  {path}")
    for path in kept:
        print(f"kept  {path} (it was there)")
    where = "" if dir == Path() else f"cd {dir} && "
    session.tell(f'next: {where}collegium run "What is in these files?" --files .')
    return 0


def starter() -> list[tuple[str, Traversable]]:
    """The files of a new project, by their path in it."""
    root = files("collegium.cli") / "starter"

    def walk(folder: Traversable, before: str) -> list[tuple[str, Traversable]]:
        found: list[tuple[str, Traversable]] = []
        for entry in sorted(folder.iterdir(), key=lambda e: e.name):
            name = f"{before}{entry.name}"
            found += walk(entry, f"{name}/") if entry.is_dir() else [(name, entry)]
        return found

    return walk(root, "")
