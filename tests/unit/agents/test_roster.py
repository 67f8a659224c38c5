from __future__ import annotations

import pytest

from collegium.agents.roster import Roster, builtin_agents, builtin_prompt, digest, parse
from collegium.domain.errors import UnknownName, UsageError

GOOD = """
[agent.clerk]
kind = "operator"
description = "Files things."
capabilities = ["file"]
prompt = "File it."
tools = ["write_file"]
"""


def prompts(name: str) -> str:
    return f"prompt {name}"


def test_agents_are_declared_in_toml_like_the_built_in_ones() -> None:
    (clerk,) = parse(GOOD, source="clerk.toml", prompt=prompts)
    roster = Roster((*builtin_agents(), clerk))
    assert roster.able("file") == (clerk,)
    assert {"plan", "research", "operate", "write", "oversee", "file"} == set(roster.capabilities)
    assert roster.pins()["agent:clerk"] == digest(clerk)


def test_a_later_agent_replaces_the_one_of_the_same_name() -> None:
    (mine,) = parse(GOOD.replace("agent.clerk", "agent.writer"), source="x", prompt=prompts)
    assert Roster((*builtin_agents(), mine)).get("writer") is mine


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[agent.x", "not valid TOML"),
        ("x = 1", "declares no agent"),
        ("agent.x = 5", r"has to be a table"),
        (GOOD.replace("operator", "pilot"), "Invalid enum value 'pilot'"),
        (GOOD + 'colour = "red"\n', "unknown field `colour`"),
        (GOOD.replace('prompt = "File it."', ""), "missing required field `prompt`"),
    ],
)
def test_a_wrong_declaration_says_where_and_what(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        parse(text, source="mine.toml", prompt=prompts)
    assert "mine.toml" in str(caught.value)


def test_unknown_names_come_with_near_ones() -> None:
    with pytest.raises(UnknownName, match="did you mean writer"):
        Roster(builtin_agents()).get("writr")
    with pytest.raises(UnknownName, match="no prompt"):
        builtin_prompt("poet@9")


def test_any_change_of_an_agent_changes_its_digest() -> None:
    (one,) = parse(GOOD, source="x", prompt=prompts)
    (two,) = parse(GOOD.replace("File it.", "File it!"), source="x", prompt=prompts)
    assert digest(one) != digest(two)
