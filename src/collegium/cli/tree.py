"""The plan of a run as a tree with state, agent, time, tokens and cost, drawn with rich."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from collegium.cli.outline import ASCII_BRANCHES, Branches, outline
from collegium.cli.text import count, one_line, seconds, short_id, short_schedule, size, tokens, usd
from collegium.cli.view import Progress, RunView
from collegium.domain.plan import Task
from collegium.domain.schedule import schedule_of
from collegium.domain.task import TaskState
from collegium.domain.usage import Usage

FRAMES_PER_S = 8
BAR_WIDTH = 28
MIN_TITLE = 20
MAX_AGENT = 16
GAP = 2
FIGURES = (6, 9, 7)
"""Least widths of elapsed time, tokens and cost: columns that stand still while the numbers grow."""


class Glyphs(NamedTuple):
    """The signs of a terminal that can show them, and of one that cannot."""

    states: dict[str, tuple[str, str]]
    spinner: str
    branches: Branches
    dot: str
    ellipsis: str
    above: str


_STYLES = {
    "pending": "dim", "ready": "dim", "running": "cyan", "parked": "yellow", "succeeded": "green", "failed": "bold red",
    "skipped": "dim", "quarantined": "bold red",
}  # fmt: skip


def _states(signs: str) -> dict[str, tuple[str, str]]:
    return {state: (sign, _STYLES[state]) for state, sign in zip(_STYLES, signs, strict=True)}


UNICODE = Glyphs(_states("○○●◌✓✗»!"), "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", Branches(), " · ", "…", "↑")
ASCII = Glyphs(_states("..*~+x-!"), "|/-\\", ASCII_BRANCHES, " | ", "...", "^")


def glyphs_for(encoding: str | None) -> Glyphs:
    """The signs that ``encoding`` can carry."""
    try:
        "⠋○✓├".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def draw(view: RunView, *, width: int, height: int, glyphs: Glyphs = UNICODE, is_final: bool = False) -> RenderableType:
    """Everything that is known of the run, at most ``height`` lines."""
    parts: list[RenderableType] = list(_heading(view, width, glyphs))
    if not is_final:
        parts += _progress(view, glyphs)
    if view.state is not None and view.state.tasks:
        if is_final:
            glyphs = glyphs._replace(spinner=glyphs.states["running"][0])
        parts.append(_tree(view, view.state.tasks, width=width, height=max(4, height - len(parts) - 2), glyphs=glyphs))
        if not is_final:
            parts.append(Text(_total(view, glyphs), style="dim"))
    return Group(*parts)


def cut(text: str, width: int, ellipsis: str = "…") -> str:
    """``text`` on one line of at most ``width`` cells."""
    line = one_line(text)
    if cell_len(line) <= width:
        return line
    while line and cell_len(line) > width - len(ellipsis):
        line = line[:-1]
    return line.rstrip() + ellipsis


def _heading(view: RunView, width: int, glyphs: Glyphs) -> Iterable[Text]:
    if view.state is None:
        return
    state = view.state
    yield Text(cut(state.goal.text, width, glyphs.ellipsis), style="bold")
    facts = [state.goal.model, count(len(state.goal.files), "file") if state.goal.files else "", short_id(state.id)]
    schedule = schedule_of(state.goal.principal)
    facts.append("" if schedule is None else f"schedule {short_schedule(schedule)}")
    yield Text(cut(glyphs.dot.join(f for f in facts if f), width, glyphs.ellipsis), style="dim")


def _progress(view: RunView, glyphs: Glyphs) -> Iterable[RenderableType]:
    if view.pull is not None:
        done, total, _ = view.pull
        amount = size(done) if total is None else f"{size(done)} of {size(total)}"
        yield _bar("fetching the model", view.pull, amount)
    elif view.state is None:
        yield Text.assemble((_spin(glyphs), "cyan"), f" {one_line(view.activity or 'starting')}")
    if view.indexing is not None:
        done, total, path = view.indexing
        yield _bar("reading files", view.indexing, f"{done}/{total}  {one_line(path)}")


def _bar(label: str, progress: Progress, amount: str) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(min_width=len(label), no_wrap=True)
    grid.add_column(width=BAR_WIDTH)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    bar = ProgressBar(total=progress.total, completed=progress.done, width=BAR_WIDTH, pulse=progress.total is None)
    grid.add_row(Text(label), bar, Text(amount, style="dim"))
    return grid


def _tree(view: RunView, tasks: Mapping[str, TaskState], *, width: int, height: int, glyphs: Glyphs) -> Group:
    lines = outline([_with_asks(t.task, tasks) for t in tasks.values()], glyphs.branches)
    hidden = 0
    if len(lines) > height:
        # A screen has only so many lines: what is settled well is the least interesting.
        kept = [x for x in lines if tasks[x.task].status not in ("succeeded", "pending")][: height - 1]
        hidden, lines = len(lines) - len(kept), tuple(kept)
    has_cost = any(view.usage(t).cost_usd for t in tasks.values())
    rows = [_row(view, tasks[x.task], x.guide, glyphs, is_first=x.is_first) for x in lines]
    longest = max((row[0].cell_len for row in rows), default=MIN_TITLE)
    agent = min(MAX_AGENT, max((row[1].cell_len for row in rows), default=0))
    figures = [
        max(least, *(row[2 + i].cell_len for row in rows))
        for i, least in enumerate(FIGURES if has_cost else FIGURES[:-1])
    ]
    room = width - agent - sum(figures) - GAP * (len(figures) + 1)
    widths = (max(MIN_TITLE, min(longest, room)), agent, *figures)
    drawn = [_joined(row, widths) for row in rows]
    if hidden:
        drawn.append(Text(f"{glyphs.branches.blank}and {count(hidden, 'task')} not shown", style="dim"))
    return Group(*drawn)


def _with_asks(task: Task, tasks: Mapping[str, TaskState]) -> Task:
    """``task`` as one that also needs what it has asked colleagues for."""
    asked = tuple(name for name, t in tasks.items() if t.asked is not None and t.asked.by == task.id)
    return msgspec.structs.replace(task, depends_on=(*task.depends_on, *asked)) if asked else task


def _joined(row: Sequence[Text], widths: Sequence[int]) -> Text:
    """The cells side by side: title and agent flush left, figures flush right."""
    line = Text(no_wrap=True, overflow="ellipsis")
    for position, (cell, width) in enumerate(zip(row, widths, strict=False)):
        cell.truncate(width, overflow="ellipsis")
        blank = " " * (width - cell.cell_len)
        line.append(blank if position > 1 else "").append_text(cell)
        line.append(" " * GAP if position > 1 else blank + " " * GAP)
    line.rstrip()
    return line


def _row(
    view: RunView, task: TaskState, guide: str, glyphs: Glyphs, *, is_first: bool
) -> tuple[Text, Text, Text, Text, Text]:
    sign, style = glyphs.states[task.status]
    if task.status == "running":
        sign = _spin(glyphs)
    title = Text.assemble((guide, "dim"), (sign, style), " ")
    nothing = Text("")
    if not is_first:
        # It stands above already, with its figures: a task that several others need.
        title = Text(f"{guide}{glyphs.above} {one_line(task.task.title)}", style="dim")
        return title, nothing, nothing, nothing, nothing
    title.append(one_line(task.task.title), style="dim" if task.status in ("pending", "skipped") else "")
    if task.status in ("failed", "parked", "quarantined", "skipped"):
        why = task.reason or task.error or task.park or ""
        title.append(f"  {one_line(why)}", style=style)
    elapsed, usage = view.seconds(task), view.usage(task)
    return (
        title,
        Text(one_line(task.agent or ""), style="dim"),
        Text("" if elapsed is None else seconds(elapsed), style="dim"),
        Text(tokens(usage.tokens) if usage.tokens else "", style="dim"),
        Text(usd(usage.cost_usd) if usage.cost_usd else "", style="dim"),
    )


def _total(view: RunView, glyphs: Glyphs) -> str:
    return glyphs.dot.join((seconds(view.elapsed_s), *spent(view.total)))


def spent(usage: Usage) -> tuple[str, ...]:
    """Tokens and cost in words; nothing where nothing was spent."""
    return (tokens(usage.tokens), usd(usage.cost_usd)) if usage.tokens else ()


def _spin(glyphs: Glyphs) -> str:
    # A drawing has no memory of the last one: the frame follows from the time.
    return glyphs.spinner[int(time.monotonic() * FRAMES_PER_S) % len(glyphs.spinner)]
