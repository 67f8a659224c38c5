"""What a person sees: the tree, the lines, the texts."""

from decimal import Decimal

import pytest

from collegium.cli import text
from collegium.cli.lines import change
from collegium.cli.outline import ASCII_BRANCHES, outline
from collegium.cli.tree import ASCII, UNICODE, cut, draw, glyphs_for
from collegium.domain import body as b
from collegium.domain.plan import Task
from collegium.domain.usage import Usage
from tests.unit.cli.conftest import FIND, Story, drawn, terminal


def task(id_: str, *needs: str) -> Task:
    return Task(id=id_, title=f"Do {id_}", capability="research", depends_on=needs)


def shown(story: Story, width: int = 80, height: int = 40, *, is_final: bool = False) -> list[str]:
    console = terminal(width)
    console.print(draw(story.view, width=width, height=height, is_final=is_final))
    return [line.rstrip() for line in drawn(console).splitlines()]


def test_what_a_task_needs_stands_below_it():
    lines = outline([task("a"), task("b"), task("c", "a", "b"), task("d", "c")])
    assert [(x.guide, x.task) for x in lines] == [("└─ ", "d"), ("   └─ ", "c"), ("      ├─ ", "a"), ("      └─ ", "b")]


def test_a_shared_need_is_only_mentioned_again():
    lines = outline([task("a"), task("b", "a"), task("c", "a"), task("d", "b", "c")], ASCII_BRANCHES)
    assert [(x.task, x.is_first) for x in lines] == [
        ("d", True), ("b", True), ("a", True), ("c", True), ("a", False),
    ]  # fmt: skip


def test_the_tree_shows_state_agent_time_tokens_and_cost(story: Story):
    story.submitted()
    story.planned()
    story.ready("find", "researcher")
    story.stepped("find", Usage(input_tokens=1_000, output_tokens=204, cost_usd=Decimal("0.0012"), model_calls=1))
    story.tell(b.RunSaid(text="go on", principal="ann"), after_s=3.1)
    lines = shown(story, is_final=True)
    assert lines[0] == "Who owns the payments service?"
    assert lines[1] == "scripted:x.toml · 1 file · 9296a5a7"
    assert lines[2].split() == ["├─", "✓", "Plan", "planner", "0.0", "s"]
    assert lines[3].split() == ["└─", "○", "Write", "the", "answer"]
    found = lines[4].split()
    assert found == ["└─", "●", "Find", "evidence", "researcher", "3.1", "s", "1,204", "tok", "$0.0012"]


def test_what_was_asked_stands_below_the_task_that_asks(story: Story):
    story.submitted()
    story.planned()
    story.ready("find", "researcher")
    asked = Task(id="find-ask-1-0", title="Asked: Who is Ann?", capability="operate", instructions="Who is Ann?")
    story.tell(b.TaskAsked(task=asked, step=1, call=0), "find")
    story.tell(b.TaskParked(reason="ask", detail="waits for colleagues: 'operate'"), "find")
    lines = shown(story, 120, is_final=True)
    assert [line.split()[:2] for line in lines[3:]] == [["└─", "○"], ["└─", "◌"], ["└─", "○"]]
    assert "waits for colleagues: 'operate'" in lines[4]
    assert "Asked: Who is Ann?" in lines[5]


def test_usage_of_an_open_attempt_is_not_counted_twice(story: Story):
    story.submitted()
    story.planned()
    story.ready("find", "researcher")
    story.stepped("find", Usage(input_tokens=100))
    assert story.view.total.tokens == 100
    story.settled("find", usage=Usage(input_tokens=100))
    assert story.view.total.tokens == 100


def test_why_a_task_failed_stands_beside_it(story: Story):
    story.submitted()
    story.planned()
    story.ready("find", "researcher")
    story.tell(b.TaskSettled(outcome="failed", error="model", reason="the model said no"), "find")
    assert any("✗ Find evidence  the model said no" in line for line in shown(story, 120))


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_screen(story: Story, width: int):
    story.submitted("A goal that is much longer than a screen is wide. " * 5)
    story.planned(FIND, *[task(f"t{n}", "find") for n in range(60)])
    story.ready("find", "an-agent-with-quite-a-long-name")
    story.stepped("find", Usage(input_tokens=1_234_567, cost_usd=Decimal("12.345")))
    lines = shown(story, width, height=20)
    assert max(map(len, lines)) <= width
    assert len(lines) <= 20


def test_bars_show_what_takes_long(story: Story):
    story.view.pulled(10_000_000, 92_871_040)
    assert any("fetching the model" in x and "9.5 MiB of 88.6 MiB" in x for x in shown(story))
    story.submitted()
    story.view.pulled(92_871_040, 92_871_040)
    story.view.indexed("run", 12, 32, "docs/a.md")
    lines = shown(story)
    assert any("reading files" in x and "12/32  docs/a.md" in x for x in lines)
    assert not any("fetching" in x for x in lines)


def test_a_poor_terminal_gets_plain_signs():
    assert glyphs_for("ascii") is ASCII
    assert glyphs_for("utf-8") is UNICODE
    assert glyphs_for(None) is ASCII


def test_lines_tell_what_changes(story: Story):
    told = [change(story.view, story.submitted(), UNICODE)]
    story.planned()
    told.append(change(story.view, story.events[-1], UNICODE))
    told.append(change(story.view, story.ready("find", "researcher"), UNICODE))
    parked = b.TaskParked(reason="retry", error="model_unavailable", detail="nobody answers")
    told.append(change(story.view, story.tell(parked, "find"), UNICODE))
    assert told == [
        "run 9296a5a7 over 1 file with scripted:x.toml",
        "planned 2 tasks (library plan answer@1)",
        "● Find evidence (researcher)",
        "◌ Find evidence: will be tried again: nobody answers",
    ]


def test_escape_sequences_do_not_reach_the_terminal(story: Story):
    story.submitted("red \x1b[31malert\x07 \u202egnp.exe")
    assert "\x1b[31m" not in "".join(shown(story))
    assert text.visible("a\x1b]0;x\x07b\u202ec\xa0d\xade") == "a\\x1b]0;x\\x07b\\x202ec de"


def test_numbers_in_words():
    assert [text.seconds(s) for s in (0.04, 3.14, 59.96, 83, 3_723)] == ["0.0 s", "3.1 s", "1:00", "1:23", "1:02:03"]
    assert [text.tokens(n) for n in (5, 1_204, 123_456)] == ["5 tok", "1,204 tok", "123k tok"]
    assert [text.usd(Decimal(x)) for x in ("0", "0.00001", "0.0123", "12.3")] == ["$0", "<$0.0001", "$0.0123", "$12.30"]
    assert [text.size(n) for n in (12, 2_048, 98_362_432)] == ["12 B", "2.0 KiB", "93.8 MiB"]
    assert (text.count(1, "file"), text.count(1_234, "file")) == ("1 file", "1,234 files")


def test_texts_are_cut_by_cells_not_characters():
    assert cut("short", 10) == "short"
    assert cut("a long text", 7) == "a long…"
    assert cut("漢字漢字", 6) == "漢字…"
