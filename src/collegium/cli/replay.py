"""``collegium runs replay``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collegium.runtime.export import Checked, Export
    from collegium.runtime.replay import Replayed

_SHOWN = 5


@command("replay")
@click.argument("run", metavar="RUN|FILE")
@click.option("--agents", metavar="FILE", type=click.Path(path_type=Path), help="Agents beside the built-in ones.")
@click.option("--pinned", "is_pinned", is_flag=True, help="With the agents and tools that the run began with.")
@pass_session
def replay(session: Session, run: str, agents: Path | None, *, is_pinned: bool) -> int:
    """Run a recorded run again and compare: no model is asked, no tool is called, no key or network is needed.

    What models replied, tools gave and people said comes from the journal. The replay is done with the agents there
    are now: a changed prompt, agent or tool asks for something that is not recorded, which is shown with a diff, and
    the exit code is 1. FILE is what `runs export` has written.
    """
    return session.execute(_replay(session, run, agents, is_pinned=is_pinned))


async def _replay(session: Session, text: str, agents: Path | None, *, is_pinned: bool) -> int:
    from collegium.cli.wanted import with_agents
    from collegium.wiring import check_export, replay_export

    exported = await _exported(session, text)
    checked = check_export(session.settings, exported)
    settings = with_agents(session.settings, agents)
    result = await replay_export(settings, exported, is_pinned=is_pinned)
    is_fine = result.is_same and checked.chain != "broken"
    if session.is_json:
        import msgspec

        document = msgspec.to_builtins(result)
        session.emit({**document, "is_same": result.is_same, "chain": msgspec.to_builtins(checked)})
    else:
        _print(session, result, checked)
    return 0 if is_fine else 1


async def _exported(session: Session, text: str) -> Export:
    """The run as an export: read from a file, asked of a server, or made from the store."""
    from collegium.runtime.export import parse

    if (read := _read(Path(text))) is not None:
        return read
    if session.server is not None:
        from collegium.cli.remote import client, find

        async with client(session) as server:
            run = await find(server, text)
            pieces = [piece async for piece in server.export(run)]
        return parse(b"".join(pieces).splitlines(keepends=True), source=text)
    from collegium.cli.find import find_run
    from collegium.wiring import export_run

    async with session.open() as app:
        run = await find_run(app, text)
        return parse([line async for line in export_run(app, session.settings, run, tenant="default")], source=text)


def _read(path: Path) -> Export | None:
    """The export in a file; None where there is no such file."""
    from collegium.runtime.export import parse

    if not path.is_file():
        return None
    with path.open("rb") as file:
        return parse(file, source=str(path))


def _print(session: Session, result: Replayed, checked: Checked) -> None:
    from collegium.cli.text import count, one_line, short_id

    if result.miss is not None:
        print(result.miss)
        print()
    for difference in result.comparison.differences[:_SHOWN]:
        where = "the run" if difference.task is None else f"task {difference.task!r}"
        print(f"{where}, event {difference.place}:")
        print(f"  recorded  {one_line(difference.recorded or 'nothing')[:2_000]}")
        print(f"  replayed  {one_line(difference.replayed or 'nothing')[:2_000]}")
    chain = {
        "intact": f"intact, {count(checked.events, 'event')}",
        "broken": f"BROKEN at event {checked.seq} of {checked.run}",
        "other key": "made under another key: it cannot be verified here",
    }[checked.chain]
    rows = [
        ("run", f"{short_id(result.run)}, {result.status}"),
        ("chain", chain),
        ("events compared", str(result.comparison.events)),
        ("differences", str(len(result.comparison.differences))),
        ("answer", "identical" if result.is_answer_identical else "not the same"),
        ("from the journal", f"{result.replies} model replies, {result.results} tool results"),
        ("models asked", str(result.model_calls)),
        ("tools called", str(result.tool_calls)),
    ]
    for name, value in rows:
        session.out.print(f"{name:<17} {value}", soft_wrap=True)
