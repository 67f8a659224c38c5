"""What an agent is shown: its prompt, its task, and the results it builds on, within the model's context."""

from __future__ import annotations

from collections.abc import Sequence

from collegium.agents.desk import Desk
from collegium.domain.chat import ChatMessage, estimate_tokens
from collegium.domain.document import Chunk
from collegium.domain.tool import Artifact

SHARE_FOR_PASSAGES = 0.6
"""Of the model's context; the rest is for the prompt, the conversation and the reply."""


def opening(desk: Desk) -> tuple[ChatMessage, ...]:
    """System and user message with which a conversation starts."""
    parts = [desk.question]
    if desk.earlier:
        parts.append(f"It goes on from this earlier answer:\n{desk.earlier}")
    if desk.done:
        listed = "\n".join(f"- {d}" for d in desk.done)
        parts.append(f"This was done before, by others. It stands and is not to be done again:\n{listed}")
    parts += [f"Result of {name}:\n{r.text}" for name, r in desk.inputs.items() if r.text]
    room = int(desk.model.profile.context_tokens * SHARE_FOR_PASSAGES)
    passages = fitting([e.chunk for e in desk.evidence], room)
    if passages:
        parts.append(f"Passages:\n\n{numbered(passages)}")
    return (
        ChatMessage(role="system", text=desk.agent.prompt),
        ChatMessage(role="user", text="\n\n".join(parts)),
    )


def fitting(chunks: Sequence[Chunk], room_tokens: int) -> tuple[Chunk, ...]:
    """The first ``chunks`` that fit into ``room_tokens``; at least one."""
    kept: list[Chunk] = []
    for chunk in chunks:
        room_tokens -= estimate_tokens(chunk.text) + estimate_tokens(chunk.context) + 16
        if room_tokens < 0 and kept:
            break
        kept.append(chunk)
    return tuple(kept)


def numbered(chunks: Sequence[Chunk]) -> str:
    """Passages as agents are shown them: ``[n] document (context)`` and the text. Numbers start at 1."""
    return "\n\n".join(
        f"[{n}] {c.document}{f' ({c.context})' if c.context else ''}\n{c.text}" for n, c in enumerate(chunks, start=1)
    )


def saved(desk: Desk) -> tuple[Artifact, ...]:
    """The files this task has written, the last version of each."""
    files: dict[str, Artifact] = {}
    for turn in (*desk.talk.left, *desk.talk.turns):
        for _, finished in sorted(turn.finished.items()):
            data = finished.result.data
            if finished.tool == "write_file" and finished.result.is_ok and data is not None:
                files[data["path"]] = Artifact(
                    path=data["path"], size_bytes=data["size_bytes"], sha256=data["sha256"], task=desk.task.id
                )
    return tuple(files.values())
