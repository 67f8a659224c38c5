"""What is to be seen of a run while it goes on: its state, folded from its events, and what no journal tells."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from collegium.domain import body as b
from collegium.domain.errors import NotFound
from collegium.domain.event import Event
from collegium.domain.run import RunState, apply
from collegium.domain.task import TaskState
from collegium.domain.usage import Usage

_CLOSES = (b.TaskParked, b.TaskLapsed, b.TaskSettled, b.TaskQuarantined)


class Progress(NamedTuple):
    """How far something is; ``total`` is None where nobody knows."""

    done: int
    total: int | None
    what: str = ""


class RunView:
    """Folds a run's events for a viewer.

    Attributes:
        state: The run's state, None before its first event.
        activity: What is being done while there is no run yet.
        indexing: Files read so far.
        pull: Bytes of a model fetched so far.
    """

    def __init__(self, now: Callable[[], datetime], *, model: str = "") -> None:
        self._now = now
        self._open: dict[str, Usage] = {}
        self.model = model
        self.state: RunState | None = None
        self.activity = ""
        self.indexing: Progress | None = None
        self.pull: Progress | None = None

    def take(self, event: Event) -> None:
        """Adds the next event."""
        self.state = apply(self.state, event)
        if isinstance(event.body, b.RunForked):
            self._open.clear()  # what the parent's attempts took is the parent's
        if event.task is None:
            return
        if isinstance(event.body, b.StepProposed):
            self._open[event.task] = self._open.get(event.task, Usage()) + event.body.usage
        elif isinstance(event.body, _CLOSES):
            # From here on the attempt's usage is part of the task's own.
            self._open.pop(event.task, None)

    def task(self, id_: str | None) -> TaskState:
        """The task of that id. Raises ``NotFound`` before its event was taken."""
        if self.state is None or id_ is None or id_ not in self.state.tasks:
            raise NotFound(f"there is no task {id_!r}", task=id_)
        return self.state.tasks[id_]

    def usage(self, task: TaskState) -> Usage:
        """What a task took so far, its open attempt included."""
        return task.usage + self._open.get(task.task.id, Usage())

    def seconds(self, task: TaskState) -> float | None:
        """From a task's first start to its end or to now; None when it was never started."""
        if task.started_at is None:
            return None
        return ((task.settled_at or self._now()) - task.started_at).total_seconds()

    @property
    def total(self) -> Usage:
        """What the run took so far."""
        return sum((self.usage(t) for t in self.state.tasks.values()), Usage()) if self.state else Usage()

    @property
    def elapsed_s(self) -> float:
        """From the run's start to its end or to now."""
        if self.state is None:
            return 0.0
        return ((self.state.finished_at or self._now()) - self.state.submitted_at).total_seconds()

    def indexed(self, run: str, done: int, total: int, path: str) -> None:
        """Told by the library while it reads the run's files."""
        self.indexing = Progress(done, total, path) if done < total else None

    def pulled(self, done: int, total: int | None) -> None:
        """Told while a model is fetched."""
        self.pull = Progress(done, total) if total is None or done < total else None
