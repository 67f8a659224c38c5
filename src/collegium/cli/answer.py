"""The end of a run as a person reads it: answer, sources, verification, what is missing, what it took."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from collegium.cli.text import count, one_line, seconds, short_id, size, tokens, usd, visible
from collegium.cli.tree import Glyphs, cut, glyphs_for
from collegium.domain.report import ReportedClaim, RunReport

MAX_QUOTE_LINES = 3
MAX_SKIPPED = 12
_VERDICTS = {"supported": "green", "contradicted": "bold red", "unsupported": "yellow", "unverifiable": "dim"}
_STATUSES = {"succeeded": "green", "partial": "yellow", "failed": "bold red", "limited": "yellow", "cancelled": "yellow"}


def print_report(console: Console, report: RunReport) -> None:
    """Prints ``report``. On a terminal texts are wrapped; elsewhere each paragraph stays one line."""
    glyphs = glyphs_for(console.encoding)
    if report.answer is not None:
        _print_answer(console, report)
        _print_sources(console, report, glyphs)
    _print_claims(console, report.oversight.claims, glyphs)
    _print_actions(console, report)
    if report.missing:
        _print_list(console, "Missing", report.missing)
    elif report.reason and report.status != "succeeded":
        _print_list(console, "Why", [report.reason])
    skipped = [f"{s.path}: {s.reason}" for s in report.files.skipped]
    if len(skipped) > MAX_SKIPPED:
        skipped = [*skipped[:MAX_SKIPPED], f"and {len(skipped) - MAX_SKIPPED} more"]
    if skipped:
        _print_list(console, f"Files that could not be used ({len(report.files.skipped)} of {report.files.given})", skipped)
    if report.artifacts:
        _print_list(console, "Files written", [f"{a.path}  {size(a.size_bytes)}" for a in report.artifacts])
    console.print(_closing(report, glyphs))


def _print_answer(console: Console, report: RunReport) -> None:
    assert report.answer is not None
    if report.answer.data is not None:
        console.print_json(data=report.answer.data)
    else:
        _print_text(console, report.answer.text)
    console.print()


def _print_text(console: Console, text: str) -> None:
    console.print(Text(visible(text)), soft_wrap=not console.is_terminal)


def _print_sources(console: Console, report: RunReport, glyphs: Glyphs) -> None:
    assert report.answer is not None
    if not report.answer.citations:
        return
    _print_title(console, "Sources")
    for place in report.answer.citations:
        where = Text.assemble((f"[{place.number}]", "cyan"), f" {one_line(place.document)}")
        where.append(f":{place.start}-{place.end}", style="dim")
        console.print(Padding(where, (0, 0, 0, 2)), soft_wrap=not console.is_terminal)
        quote = cut(place.quote, (console.width - 8) * MAX_QUOTE_LINES, glyphs.ellipsis)
        console.print(Padding(Text(f'"{quote}"', style="dim"), (0, 0, 0, 6)))
    console.print()


def _print_claims(console: Console, claims: Sequence[ReportedClaim], glyphs: Glyphs) -> None:
    if not claims:
        return
    _print_title(console, "Verification")
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=True, header_style="dim", pad_edge=False)
    table.add_column("claim", ratio=1, overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("source", no_wrap=True)
    number = 0
    for claim in claims:
        marks = "".join(f"[{number + n}]" for n in range(1, len(claim.citations) + 1))
        number += len(claim.citations)
        is_own = claim.origin == "system"
        verdict = Text("said by the system" if is_own else claim.verdict, style=_VERDICTS[claim.verdict])
        score = "" if is_own else f"{claim.score:.2f}"
        table.add_row(Text(cut(claim.text, 160, glyphs.ellipsis)), verdict, score, Text(marks, style="cyan"))
    console.print(Padding(table, (0, 0, 1, 2)))


def _print_actions(console: Console, report: RunReport) -> None:
    actions = report.oversight.actions
    if actions:
        _print_list(console, "Claimed actions", [f"{a.verdict}: {a.text}" for a in actions])


def _print_list(console: Console, title: str, lines: Sequence[str]) -> None:
    _print_title(console, title)
    for line in lines:
        console.print(Padding(Text(one_line(line)), (0, 0, 0, 2)), soft_wrap=not console.is_terminal)
    console.print()


def _print_title(console: Console, title: str) -> None:
    console.print(Text(title, style="bold"))


def _closing(report: RunReport, glyphs: Glyphs) -> Text:
    usage = report.usage
    facts = [
        count(usage.model_calls, "model call") if usage.model_calls else "no model calls",
        tokens(usage.input_tokens + usage.output_tokens) if usage.model_calls else "",
        usd(usage.cost_usd),
        count(usage.tool_calls, "tool call") if usage.tool_calls else "",
        seconds(report.seconds),
        f"run {short_id(report.run_id)}",
    ]
    line = Text.assemble((report.status, _STATUSES.get(report.status, "bold")))
    return line.append("".join(f"{glyphs.dot}{f}" for f in facts if f), style="dim")
