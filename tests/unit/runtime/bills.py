"""A bill that is looked up, paid and noted down, for runs that are gone through again: forks and replays."""

from __future__ import annotations

from collegium.domain.chat import ToolCall
from collegium.domain.plan import Plan, Task
from collegium.testing.scripted import Step
from collegium.tools.definition import FunctionTool, tool

PAY_AND_TELL = Plan(
    tasks=(
        Task(id="pay", title="Pay", capability="operate", instructions="Pay the bill."),
        Task(id="tell", title="Tell", capability="operate", instructions="Tell Ann.", depends_on=("pay",)),
    )
)


def paying() -> tuple[FunctionTool, FunctionTool, list[str]]:
    """A tool that writes, one that reads, and what was done with them."""
    done: list[str] = []

    @tool(effect="write", capabilities=["operate"])
    async def pay(amount: int) -> str:
        """Pay an amount.

        Args:
            amount: How much.
        """
        done.append(f"paid {amount}")
        return f"paid {amount}"

    @tool(effect="read", capabilities=["operate"])
    async def look(what: str) -> str:
        """Look something up.

        Args:
            what: The thing.
        """
        done.append(f"looked at {what}")
        return f"{what} is 5"

    return pay, look, done


def call(name: str, **arguments: object) -> ToolCall:
    """A call as a model proposes it."""
    return ToolCall(id=f"c_{name}", name=name, arguments=arguments)


def paid_once_looked_up(*looks: ToolCall) -> list[Step]:
    """The task ``pay``, however often it is done: it makes the ``looks``, pays, notes that down, and says so."""
    return [
        Step(expect=("Pay the bill",), expect_last=("Wrote bill.txt",), reply="I paid 5.", times=None),
        Step(
            expect=("Pay the bill",),
            expect_last=("is 5",),
            tool_calls=(call("pay", amount=5), call("write_file", path="bill.txt", text="5")),
            times=None,
        ),
        Step(expect=("Pay the bill",), tool_calls=looks, times=None),
    ]
