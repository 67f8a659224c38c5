"""What somebody who begins where others failed has to know: what stands, what failed and why, what was done."""

from __future__ import annotations

from collegium.agents.desk import Setback
from collegium.domain.run import RunState
from collegium.tools.ledger import Ledger

MAX_CHARS = 400


def setback_of(state: RunState, task: str) -> Setback | None:
    """What the planning task ``task`` plans on from; None for any other task."""
    failed = state.replans.get(task)
    if failed is None:
        return None
    kept = [t for t in state.planned if t.status == "succeeded" or t.is_open or t.status == "parked"]
    return Setback(
        kept=tuple(t.task for t in kept),
        results={t.task.id: _short(t.result.text) or "done" for t in kept if t.result is not None},
        failed={
            f"{state.tasks[f].task.title} ({f})": state.tasks[f].reason or state.tasks[f].error or "" for f in failed
        },
    )


def done_by_others(ledger: Ledger, task: str) -> tuple[str, ...]:
    """The writes of the run that have happened, and those of which nobody knows, one line each."""
    lines = [f"{e.tool} in task {e.task}: {_short(e.result.text)}" for e in ledger.finished_writes() if e.result]
    unknown = [e for e in ledger.entries.values() if e.state in ("open", "unknown") and e.task != task]
    return (*lines, *(f"{e.tool} in task {e.task}: it may or may not have happened" for e in unknown))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]} ..."
