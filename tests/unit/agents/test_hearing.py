"""What an agent was told of what the user adds."""

from __future__ import annotations

from collegium.agents.hearing import heard_in, untold


def test_what_is_only_a_part_of_another_word_was_not_told() -> None:
    assert [m.text for m in untold(["ok"], ["Look it up.", "It is ok now."])] == ["The user adds: ok"]


def test_what_was_told_is_not_told_again() -> None:
    told = untold(["ok", "Only\nthe cheap ones."], ["Do this."])
    assert untold(["ok", "Only\nthe cheap ones."], ["Do this.", *(m.text for m in told)]) == ()
    assert untold(["Also this."], ["Do this.\nAlso this.\n\nResults:"]) == ()


def test_what_is_said_twice_is_told_twice() -> None:
    assert [m.text for m in untold(["go on", "go on"], ["The user adds: go on"])] == ["The user adds: go on"]
    assert untold(["go on", "go on"], ["go on\ngo on"]) == ()


def test_what_was_heard_keeps_its_order() -> None:
    assert heard_in(["a", "b", "a", "c"], ["c", "The user adds: a", "b"]) == ("a", "b", "c")
