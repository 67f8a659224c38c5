"""The board: what the agents of one run share, read from its journal; the bus has copies for whoever watches."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from collegium.agents.roster import Roster
from collegium.domain import body as b
from collegium.domain.event import Event
from collegium.domain.message import Message, board_topic, inbox_topic
from collegium.domain.run import RunState
from collegium.ports import Journal
from collegium.runtime.history import prefix
from collegium.runtime.scheduler import Scheduler
from collegium.tools.builtin.team import INBOX
from collegium.tools.context import Posted


class Board:
    """What one task may read of the messages of its run, and in whose name it writes.

    Messages of other runs are never among them, and so none of another tenant's: a message to an agent reaches the
    tasks that it works on in this run. What was read is in the task's results of ``inbox``: an attempt that takes over
    reads on behind it.

    Args:
        state: The run.
        task: The task that reads.
        agent: Who works on it.
        roster: Who can be written to.
    """

    def __init__(
        self, journal: Journal, scheduler: Scheduler, state: RunState, task: str, *, agent: str, roster: Roster
    ) -> None:
        self.agent = agent
        self.agents: Collection[str] = [a.name for a in roster]
        self._journal = journal
        self._scheduler = scheduler
        self._run = state.id
        self._tenant = state.tenant
        self._task = task
        self._is_fork = state.forked is not None
        self._messages: dict[str, Posted] = {}
        self._read: set[str] = set()
        self._sent: set[tuple[int, int]] = set()
        self._folded_to = 0

    async def take(self, *, limit: int, max_chars: int) -> tuple[tuple[Posted, ...], int]:
        """The next unread messages and how many are left; see ``tools.context.Board``."""
        await self._catch_up()
        # Nothing is waited for from here on: looks side by side are given different messages.
        waiting = [m for m in self._messages.values() if m.id not in self._read]
        taken: list[Posted] = []
        for message in waiting[:limit]:
            max_chars -= len(message.text)
            if max_chars < 0 and taken:
                break
            taken.append(message)
        self._read |= {m.id for m in taken}
        return tuple(taken), len(waiting) - len(taken)

    async def has_sent(self, step: int, call: int) -> bool:
        """Whether this call of the task has sent its message already; see ``agents.colleagues.Board``."""
        if self._is_fork:
            await self._catch_up()
        return (step, call) in self._sent

    async def publish(self, sent: b.MessageSent) -> None:
        """Puts a copy of a message that is in the journal on the bus."""
        await self._scheduler.post(
            Message(
                id=sent.message,
                topic=sent.topic,
                tenant=self._tenant,
                body={"run": self._run, "task": self._task, "agent": sent.agent, "text": sent.text},
            )
        )

    async def _catch_up(self) -> None:
        while events := await self._journal.read(self._run, after := self._folded_to):
            inherited: list[Event] = []
            if self._is_fork and after == 0:
                inherited = [e async for page in prefix(self._journal, events[0]) for e in page]
            if after == self._folded_to:  # nobody else has folded them meanwhile
                self._fold((*inherited, *events))
                self._folded_to = events[-1].seq

    def _fold(self, events: Iterable[Event]) -> None:
        for event in events:
            body = event.body
            if isinstance(body, b.MessageSent) and event.task == self._task:
                self._sent.add((body.step, body.call))
            elif isinstance(body, b.MessageSent):
                is_private = body.topic == inbox_topic(self.agent)
                if is_private or body.topic == board_topic(event.run):
                    self._messages[body.message] = Posted(
                        id=body.message, agent=body.agent, task=event.task or "", text=body.text, is_private=is_private
                    )
            elif isinstance(body, b.ToolFinished) and (event.task, body.tool) == (self._task, INBOX):
                self._read |= {str(m["id"]) for m in (body.result.data or {}).get("messages", ())}
