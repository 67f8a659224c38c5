"""A tool called by hand: a run with one task, whose model says nothing but this call.

So the call goes the way of every other one (arguments, ledger, work folder, journal), and what it did can be looked up.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from collegium.cli.text import visible
from collegium.domain import body as b
from collegium.domain.errors import CollegiumError
from collegium.domain.plan import Plan, Task
from collegium.domain.tool import ToolResult

if TYPE_CHECKING:
    from collegium.cli.session import Session


async def call_tool(session: Session, name: str, arguments: dict[str, Any], files: tuple[str, ...]) -> int:
    """Prints what the tool gave; returns 0 where it succeeded, else 1."""
    plan = Plan(tasks=(Task(id="call", title=f"Call {name}", capability="operate", tools=(name,), max_attempts=1),))
    with tempfile.TemporaryDirectory(prefix="collegium-") as folder:
        script = Path(folder) / "call.json"
        proposed = {"name": name, "arguments": arguments}
        script.write_bytes(msgspec.json.encode({"step": [{"tool_calls": [proposed]}, {"reply": "Done."}]}))
        async with session.open("own", model=f"scripted:{script}") as app:
            run = await app.submit(f"Call {name}", files=files, plan=plan)
            session.run = run.id
            result: ToolResult | None = None
            async for event in run.events():
                if isinstance(event.body, b.ToolFinished):
                    result = event.body.result
            report = await run.result()
    if result is None:
        raise CollegiumError(f"{name} was not called: {report.reason or report.status}", run_id=report.run_id)
    if session.is_json:
        session.emit(
            {"run_id": report.run_id, "tool": name, "result": _document(result), "artifacts": report.artifacts}
        )
    else:
        print(visible(result.text))
    return 0 if result.is_ok else 1


def _document(result: ToolResult) -> dict[str, Any]:
    return {"is_ok": result.is_ok, "text": result.text, "data": result.data}
