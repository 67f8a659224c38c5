"""Lists of runs and of their files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from collegium.cli.find import find_run, heads
from collegium.cli.past import tombstone_document, tombstone_of
from collegium.cli.text import ago, count, one_line, seconds, short_id, size, usd
from collegium.domain.head import HeadQuery
from collegium.domain.report import report

if TYPE_CHECKING:
    from collegium.app import Collegium
    from collegium.cli.session import Session
    from collegium.domain.run import RunState
    from collegium.domain.tombstone import Tombstone

_STYLES = {"succeeded": "green", "partial": "yellow", "failed": "bold red", "limited": "yellow", "running": "cyan"}


async def list_runs(
    session: Session, *, statuses: tuple[str, ...], project: str | None, limit: int, after: str | None
) -> int:
    """Prints the newest runs."""
    async with session.open() as app:
        behind = None if after is None else await find_run(app, after, may_be_pruned=True)
        query = HeadQuery(
            tenant="default",
            statuses=frozenset(statuses) or None,
            projects=None if project is None else frozenset({project}),
            after=behind,
            limit=limit + 1,
            may_lag=True,
        )
        states: list[RunState | Tombstone] = []
        async for head in heads(app, query):
            states.append(await _state(app, head.run))
            if len(states) > limit:
                break
    following = _id(states[limit - 1]) if len(states) > limit else None
    states = states[:limit]
    if session.is_json:
        session.emit({"items": [_item(session, s) for s in states], "next": following})
        return 0
    if not states:
        is_any = not statuses and project is None
        print('There is no run yet: collegium run "..." makes one.' if is_any else "There is no such run.")
        return 0
    _print_runs(session, states)
    if following is not None:
        session.tell(f"more: collegium runs ls --after {short_id(following)}")
    return 0


async def _state(app: Collegium, run: str) -> RunState | Tombstone:
    """The run, or what is left of it."""
    return await tombstone_of(app, run) or await app.state(run)


def _id(state: RunState | Tombstone) -> str:
    from collegium.domain.run import RunState

    return state.id if isinstance(state, RunState) else state.run


def _print_runs(session: Session, states: list[RunState | Tombstone]) -> None:
    from collegium.cli.columns import Cell, print_columns
    from collegium.domain.tombstone import Tombstone

    rows: list[tuple[Cell, ...]] = []
    for state in states:
        if isinstance(state, Tombstone):
            rows.append((
                (short_id(state.run), "cyan"),
                (state.status, _STYLES.get(state.status, "")),
                (ago(state.submitted_at, session.now()), "dim"),
                (seconds((state.finished_at - state.submitted_at).total_seconds()), "dim"),
                ("", "dim"),
                "(pruned)",
            ))  # fmt: skip
            continue
        made = report(state, session.now())
        took = seconds(made.seconds) if state.finished is not None else ""
        rows.append((
            (short_id(state.id), "cyan"),
            (state.status, _STYLES.get(state.status, "")),
            (ago(state.submitted_at, session.now()), "dim"),
            (took, "dim"),
            (usd(made.usage.cost_usd), "dim"),
            state.goal.text,
        ))  # fmt: skip
    header = ("run", "status", "started", "took", "cost", "goal")
    print_columns(session.out, header, rows, right=("started", "took", "cost"), is_cut=True)


def _item(session: Session, state: RunState | Tombstone) -> dict[str, Any]:
    from collegium.domain.tombstone import Tombstone

    if isinstance(state, Tombstone):
        return tombstone_document(state)
    made = report(state, session.now())
    return {
        "run_id": state.id,
        "status": state.status,
        "goal": state.goal.text,
        "model": state.goal.model,
        "principal": state.goal.principal,
        "project": state.goal.project,
        "submitted_at": state.submitted_at,
        "seconds": made.seconds,
        "usage": made.usage,
    }


async def list_files(session: Session, text: str, out: Path | None) -> int:
    """Prints a run's inputs and what it wrote; copies the latter to ``out``."""
    from collegium.cli.outcome import copy_artifacts, tell_copied

    async with session.open() as app:
        state = await app.state(await find_run(app, text))
        artifacts = {a.path: a for t in state.tasks.values() if t.result is not None for a in t.result.artifacts}
        made = report(state, session.now())
        written: list[str] = []
        if out is not None:
            written = await copy_artifacts(app, tuple(artifacts.values()), tenant=state.tenant, out=out)
    if session.is_json:
        document = {"run_id": state.id, "inputs": state.goal.files, "skipped": made.files.skipped}
        session.emit(msgspec.to_builtins(document | {"artifacts": list(artifacts.values()), "written": written}))
        return 0
    print(f"{count(len(artifacts), 'file')} written")
    for artifact in artifacts.values():
        print(f"  {one_line(artifact.path)}  {size(artifact.size_bytes)}")
    print(f"{count(len(state.goal.files), 'input')}")
    for file in state.goal.files:
        print(f"  {one_line(file.path)}  {size(file.size_bytes)}")
    for skipped in made.files.skipped:
        print(f"  {one_line(skipped.path)}  not used: {one_line(skipped.reason)}")
    tell_copied(session, written)
    return 0
