"""A tool that asks a person before every call, and a program that answers.

Run it with a model that can call tools: COLLEGIUM_MODEL=openai:NAME .venv/bin/python examples/ask_first.py
"""

import asyncio

from collegium import Plan, Task, open_collegium, tool


# snippet: asks
@tool(effect="write", capabilities=["operate"], asks=True)
async def refund(order: str, amount: float) -> str:
    """Refund an order.

    Args:
        order: Number of the order.
        amount: How much, in euros.
    """
    return f"refunded {amount:.2f} for order {order}"


# end snippet


async def main() -> None:
    """Submits a goal, shows what is asked, says yes, and waits for the end."""
    plan = Plan(tasks=(Task(id="refund", title="Refund", capability="operate", instructions=GOAL),))
    async with open_collegium(tools=[refund]) as c:
        run = await c.submit(GOAL, plan=plan, principal="clerk")
        print((await run.result()).status)
        # snippet: answer
        for question in await c.approvals():
            print(question.approval.request.question, question.approval.request.arguments)
            await c.answer(question.approval.id, "approve", principal="ada", reason="seen the receipt")
        result = await run.result()
        # end snippet
        print(result.status, result.answer.text if result.answer else result.reason)
    if result.status not in ("succeeded", "partial"):
        raise SystemExit(1)


GOAL = "Refund order 4711 with 12.50 euros."

if __name__ == "__main__":
    asyncio.run(main())
