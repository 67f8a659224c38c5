"""A plan that is not carried out: its tasks and what they may cost."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from collegium.cli.estimate import Estimate
from collegium.cli.outline import outline
from collegium.cli.text import count, one_line, short_id, tokens, usd
from collegium.cli.tree import cut, glyphs_for
from collegium.domain.plan import Plan
from collegium.domain.run import RunState
from collegium.domain.usage import Usage


def print_plan(console: Console, state: RunState, made: Estimate, spent: Usage) -> None:
    """Prints the plan as a tree, each task with its estimate, and the sum."""
    plan = state.plan or Plan(tasks=())
    glyphs = glyphs_for(console.encoding)
    tasks = {t.id: t for t in plan.tasks}
    estimates = {t.id: t for t in made.tasks}
    lines = outline(plan.tasks, glyphs.branches)
    titles = [f"{x.guide}{one_line(tasks[x.task].title)}" for x in lines]
    table = Table.grid(padding=(0, 0, 0, 2))
    table.add_column(width=max(20, min(max(map(len, titles)), console.width - 42)), no_wrap=True, overflow="ellipsis")
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", style="dim", no_wrap=True)
    for line, title in zip(lines, titles, strict=True):
        each = estimates[line.task]
        amount = tokens(each.input_tokens + each.output_tokens) if each.model_calls else "no model call"
        table.add_row(title, tasks[line.task].capability, amount if line.is_first else glyphs.above)
    console.print(Text(cut(state.goal.text, console.width, glyphs.ellipsis), style="bold"))
    console.print(table)
    console.print()
    cost = "price not known" if made.cost_usd is None else f"about {usd(made.cost_usd)}"
    origin = {"template": f"library plan {plan.template}", "model": "planned by the model"}.get(
        state.plan_source or "", "given"
    )
    facts = [
        count(len(tasks), "task"),
        origin,
        f"about {tokens(made.input_tokens + made.output_tokens)}",
        f"{cost} with {made.model}",
    ]
    console.print(Text(glyphs.dot.join(facts)), soft_wrap=True)
    paid = f"planning took {tokens(spent.tokens)}, {usd(spent.cost_usd)}; " if spent.tokens else ""
    console.print(Text(f"{paid}run {short_id(state.id)}", style="dim"))
