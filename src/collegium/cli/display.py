"""Progress on standard error: a live tree on a terminal, a line for each change everywhere else."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, RenderableType
from rich.live import Live

from collegium.cli.lines import change
from collegium.cli.tree import FRAMES_PER_S, draw, glyphs_for
from collegium.cli.view import RunView
from collegium.domain.event import Event

LINES_PER_PROGRESS = 10
"""Progress in a log is told in so many steps at most."""


class Display(AbstractContextManager["Display"], Protocol):
    """Shows how a run goes on, as long as it is entered."""

    def take(self, event: Event) -> None:
        """Shows what the event changes."""

    def note(self, activity: str) -> None:
        """Says what is being done while there is no run yet."""

    def indexed(self, run: str, done: int, total: int, path: str) -> None:
        """Shows how far the reading of files is."""

    def pulled(self, done: int, total: int | None) -> None:
        """Shows how far the fetching of a model is."""


def display_for(console: Console, view: RunView) -> Display:
    """The display that suits ``console``."""
    return LiveDisplay(console, view) if console.is_terminal else LineDisplay(console, view)


class LiveDisplay(Display):
    """A tree that is drawn anew eight times a second; its last state stays on the screen."""

    def __init__(self, console: Console, view: RunView) -> None:
        self._view = view
        self._console = console
        self._glyphs = glyphs_for(console.encoding)
        self._is_final = False
        self._stack = ExitStack()
        self._live = Live(
            console=console,
            get_renderable=self._draw,
            refresh_per_second=FRAMES_PER_S,
            redirect_stdout=False,
            transient=False,
        )

    def __enter__(self) -> Self:
        self._stack.enter_context(self._live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_final = True
        self._stack.close()

    def take(self, event: Event) -> None:
        """Folds the event; the next frame shows it."""
        self._view.take(event)

    def note(self, activity: str) -> None:
        """Puts the activity beside the spinner."""
        self._view.activity = activity

    def indexed(self, run: str, done: int, total: int, path: str) -> None:
        """Moves the bar."""
        self._view.indexed(run, done, total, path)

    def pulled(self, done: int, total: int | None) -> None:
        """Moves the bar."""
        self._view.pulled(done, total)

    def _draw(self) -> RenderableType:
        height = self._console.size.height
        return draw(
            self._view, width=self._console.width, height=height - 1, glyphs=self._glyphs, is_final=self._is_final
        )


class LineDisplay(Display):
    """One line for each change, for logs and pipes."""

    def __init__(self, console: Console, view: RunView) -> None:
        self._view = view
        self._console = console
        self._glyphs = glyphs_for(console.encoding)
        self._told: dict[str, int] = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stderr.flush()

    def take(self, event: Event) -> None:
        """Prints what the event changes, where a person would want to know."""
        self._view.take(event)
        line = change(self._view, event, self._glyphs)
        if line:
            self._print(line)

    def note(self, activity: str) -> None:
        """Keeps quiet: what takes long tells of itself."""
        self._view.activity = activity

    def indexed(self, run: str, done: int, total: int, path: str) -> None:
        """Prints a line now and then."""
        if self._is_due("indexing", done, total):
            self._print(f"reading {done}/{total} files")

    def pulled(self, done: int, total: int | None) -> None:
        """Prints a line now and then."""
        if total is not None and self._is_due("pull", done, total):
            self._print(f"fetching the model: {done * 100 // total}%")

    def _is_due(self, what: str, done: int, total: int) -> bool:
        step = done * LINES_PER_PROGRESS // max(total, 1)
        if self._told.get(what, -1) >= step:
            return False
        self._told[what] = step
        return True

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)
