"""The end of a run as a person reads it: answer, sources, verification, what is missing, what it took."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from collegium.cli.columns import Cell, print_columns, print_indented
from collegium.cli.questions import print_open
from collegium.cli.text import count, one_line, seconds, short_id, size, tokens, usd, visible
from collegium.cli.tree import Glyphs, cut, glyphs_for
from collegium.domain.report import CitedPlace, ReportedAnswer, ReportedClaim, RunReport

MAX_QUOTE_LINES = 3
MAX_SKIPPED = 12
MAX_CLAIM = 240
_VERDICTS = {"supported": "green", "contradicted": "bold red", "unsupported": "yellow", "unverifiable": "dim"}
_STATUSES = {
    "succeeded": "green",
    "partial": "yellow",
    "failed": "bold red",
    "limited": "yellow",
    "cancelled": "yellow",
}


def print_report(console: Console, report: RunReport) -> None:
    """Prints ``report``. On a terminal texts are wrapped; elsewhere each paragraph stays one line."""
    glyphs = glyphs_for(console.encoding)
    if report.answer is not None:
        _print_answer(console, report.answer)
        _print_sources(console, report.answer.citations, glyphs)
    _print_claims(console, report.oversight.claims, glyphs)
    _print_actions(console, report)
    if report.questions:
        print_open(console, report.run_id, report.questions)
    if report.missing:
        _print_list(console, "Missing", report.missing)
    elif report.reason and report.status != "succeeded":
        _print_list(console, "Why", [report.reason])
    skipped = [f"{s.path}: {s.reason}" for s in report.files.skipped]
    if len(skipped) > MAX_SKIPPED:
        skipped = [*skipped[:MAX_SKIPPED], f"and {len(skipped) - MAX_SKIPPED} more"]
    if skipped:
        _print_list(
            console, f"Files that could not be used ({len(report.files.skipped)} of {report.files.given})", skipped
        )
    if report.artifacts:
        _print_list(console, "Files written", [f"{a.path}  {size(a.size_bytes)}" for a in report.artifacts])
    console.print(_closing(report, glyphs))


def _print_answer(console: Console, answer: ReportedAnswer) -> None:
    if answer.data is not None:
        console.print_json(data=answer.data)
    else:
        print_indented(console, Text(visible(answer.text)), 0)
    console.print()


def _print_sources(console: Console, citations: Sequence[CitedPlace], glyphs: Glyphs) -> None:
    if not citations:
        return
    _print_title(console, "Sources")
    for place in citations:
        where = Text.assemble((f"[{place.number}]", "cyan"), f" {one_line(place.document)}")
        where.append(f":{place.start}-{place.end}", style="dim")
        print_indented(console, where, 2)
        quote = cut(place.quote, (console.width - 8) * MAX_QUOTE_LINES, glyphs.ellipsis)
        print_indented(console, Text(f'"{quote}"', style="dim"), 6)
    console.print()


def _print_claims(console: Console, claims: Sequence[ReportedClaim], glyphs: Glyphs) -> None:
    if not claims:
        return
    _print_title(console, "Verification")
    rows: list[tuple[Cell, ...]] = []
    number = 0
    for claim in claims:
        marks = "".join(f"[{number + n}]" for n in range(1, len(claim.citations) + 1))
        number += len(claim.citations)
        text = cut(claim.text, MAX_CLAIM, glyphs.ellipsis)
        if claim.origin == "system":
            rows.append((("said by the system", "dim"), "", "", claim.text))
        elif claim.origin == "extracted" and claim.verdict == "supported":
            # That a quote stands where it is said to stand does not say that it answers.
            rows.append((("quoted", "green"), "", (marks, "cyan"), text))
        else:
            verdict = (claim.verdict, _VERDICTS[claim.verdict])
            rows.append((verdict, f"{claim.score:.2f}", (marks, "cyan"), text))
    print_columns(console, ("verdict", "score", "source", "claim"), rows, right=("score",), indent=2)
    if all(c.origin == "extracted" for c in claims):
        note = "The nearest places in the documents, word by word: a model that can write would answer from them."
        print_indented(console, Text(note, style="dim"), 2)
    console.print()


def _print_actions(console: Console, report: RunReport) -> None:
    actions = report.oversight.actions
    if actions:
        _print_list(console, "Claimed actions", [f"{a.verdict}: {a.text}" for a in actions])


def _print_list(console: Console, title: str, lines: Sequence[str]) -> None:
    _print_title(console, title)
    for line in lines:
        print_indented(console, Text(one_line(line)), 2)
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
