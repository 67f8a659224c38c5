"""Gives the team a tool of your own. A typed function is all it needs; a write is never called twice.

Run it with a model that can call tools: COLLEGIUM_MODEL=openai:NAME .venv/bin/python examples/own_tool.py
"""

import asyncio

from collegium import Plan, Task, ToolContext, open_collegium, tool


# snippet: tool
@tool(effect="write", capabilities=["operate"])
async def open_ticket(title: str, severity: int, context: ToolContext) -> str:
    """Open a ticket for the team on call.

    Args:
        title: What is wrong, in one line.
        severity: 1 (page somebody) to 4 (whenever).
        context: The call's own world; no part of what the model is shown.
    """
    # context.key is the same for every try of this very call: hand it to the far side, and it can refuse a repeat.
    return f"Opened ticket {context.key[:8] if context.key else '?'} with severity {severity}: {title}"


# end snippet


async def main() -> None:
    """Has one task carried out with the tool and prints what the ledger knows of it."""
    # snippet: plan
    plan = Plan(tasks=(Task(id="report", title="Report the outage", capability="operate", instructions=GOAL),))
    async with open_collegium(tools=[open_ticket]) as c:
        run = await c.submit(GOAL, plan=plan)
        result = await run.result()
    # end snippet
    print(result.status, result.answer.text if result.answer else result.reason)
    async with open_collegium(scope="none") as c:
        async for event in c.run(run.id).events():
            if event.type.startswith("tool."):
                print(event.seq, event.type, event.body)
    if result.status != "succeeded":
        raise SystemExit(1)


GOAL = "The label printer in Oslo is down. Open a ticket with severity 2."

if __name__ == "__main__":
    asyncio.run(main())
