"""The tools of docs/reference/tools.md."""

# ruff: noqa: PIE790
from collegium import ToolContext, tool
from collegium.tools.outcome import Reconciled


# snippet: stock
@tool(effect="read", capabilities=["operate"])
def stock(article: str, warehouse: str = "main") -> dict[str, int]:
    """Look up how many pieces of an article are in stock.

    Args:
        article: Article number, for example A-1034.
        warehouse: Name of the warehouse.
    """
    return {"pieces": 12}


# end snippet


# snippet: pay
def find_payment(key: str, context: ToolContext) -> Reconciled:
    """Says what became of the payment with this key."""
    return Reconciled(state="unknown")


@tool(effect="write", reconcile=find_payment)
def pay(invoice: str, amount: float, context: ToolContext) -> str:
    """Pay an invoice."""
    ...


# end snippet
