"""A run's journal, built by hand, and a terminal to draw on."""

import io
import logging
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from logging.handlers import RotatingFileHandler
from pathlib import Path

import pytest
from rich.console import Console

from collegium.cli.view import RunView
from collegium.domain import body as b
from collegium.domain.chat import ChatMessage
from collegium.domain.document import InputFile
from collegium.domain.event import BODIES, Event
from collegium.domain.goal import Goal
from collegium.domain.plan import Plan, Task
from collegium.domain.result import TaskResult
from collegium.domain.usage import Usage

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
RUN = "run_01a202f7ed5e7000bfb9c1bb9296a5a700"
TYPES = {body: name for name, body in BODIES.items()}


class Story:
    """Tells a run event by event, into a view."""

    def __init__(self) -> None:
        self.at = START
        self.seq = 0
        self.events: list[Event] = []
        self.view = RunView(lambda: self.at)

    def tell(self, body: b.Body, task: str | None = None, *, attempt: int | None = 1, after_s: float = 0.0) -> Event:
        self.at += timedelta(seconds=after_s)
        self.seq += 1
        event = Event(
            id=f"evt_{self.seq}", tenant="default", run=RUN, seq=self.seq, type=TYPES[type(body)], v=1, at=self.at,
            body=body, mac="", task=task, attempt=attempt if task else None,
        )  # fmt: skip
        self.events.append(event)
        self.view.take(event)
        return event

    def submitted(self, goal: str = "Who owns the payments service?") -> Event:
        files = (InputFile(path="a.md", sha256="0" * 64, size_bytes=3),)
        return self.tell(b.RunSubmitted(goal=Goal(text=goal, files=files, model="scripted:x.toml")))

    def planned(self, *tasks: Task) -> Event:
        plan = Plan(tasks=tasks or (FIND, WRITE), template="answer@1")
        self.ready("plan")
        self.settled("plan", TaskResult(plan=plan))
        return self.tell(b.RunPlanned(plan=plan, source="template"))

    def ready(self, task: str, agent: str = "planner") -> Event:
        self.tell(b.TaskReady(), task)
        self.tell(b.TaskRouted(agent=agent, reason="the only one"), task)
        return self.tell(b.TaskStarted(worker="wrk_1", agent=agent, agent_version="1", model="scripted:x.toml"), task)

    def stepped(self, task: str, usage: Usage) -> Event:
        said = ChatMessage(role="assistant", text="Ann.")
        body = b.StepProposed(
            step=1, added=(), reply=said, finish="stop", model="m", usage=usage, request_sha256="0" * 64
        )
        return self.tell(body, task)

    def settled(self, task: str, result: TaskResult | None = None, *, usage: Usage | None = None) -> Event:
        return self.tell(b.TaskSettled(outcome="succeeded", result=result, usage=usage or Usage()), task)


FIND = Task(id="find", title="Find evidence", capability="research")
WRITE = Task(id="write", title="Write the answer", capability="write", depends_on=("find",))


@pytest.fixture
def story() -> Story:
    """A run that was not submitted yet."""
    return Story()


def terminal(width: int = 80, *, is_terminal: bool = True) -> Console:
    """A console that keeps what it is given; ``drawn`` reads it."""
    return Console(
        file=io.StringIO(), width=width, force_terminal=is_terminal, color_system=None, highlight=False, markup=False,
        legacy_windows=False, _environ={},
    )  # fmt: skip


def drawn(console: Console) -> str:
    """What was printed on ``console``, without styles."""
    file = console.file
    assert isinstance(file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to stand in; what a command changes in the process is changed back."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path))
    handler, raises = signal.getsignal(signal.SIGTERM), logging.raiseExceptions
    yield here
    signal.signal(signal.SIGTERM, handler)
    logging.raiseExceptions = raises
    for log in [h for h in logging.root.handlers if isinstance(h, RotatingFileHandler)]:
        logging.root.removeHandler(log)
        log.close()


SCRIPT = """
ordered = false
[[step]]
times = "any"
reply = "Ann owns the payments service."
"""


@pytest.fixture
def project(place: Path) -> Path:
    """A folder with two documents, a script of a model, a schema, and the name of the script as the default model."""
    (place / "docs").mkdir()
    (place / "docs" / "owners.md").write_text("# Owners\n\nThe owner of the payments service is Ann.\n")
    (place / "docs" / "photo.bin").write_bytes(bytes(range(256)))
    (place / "script.toml").write_text(SCRIPT)
    (place / "collegium.toml").write_text('model = "scripted:script.toml"\n')
    return place
