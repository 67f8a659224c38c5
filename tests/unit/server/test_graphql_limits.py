"""Queries that are too much: refused before any of it is done, with work that is bounded by their text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLError, build_schema, parse

from collegium.server.graphql import cost
from collegium.server.graphql.cost import MAX_COST, check_cost, check_text
from collegium.server.graphql.reference import text
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.server.test_graphql import ask, codes
from tests.unit.stores.moved import working

SCHEMA = build_schema("""
type Query { runs(limit: Int = 50): Page!, run: Run }
type Page { items: [Run!]! }
type Run { id: ID!, events(limit: Int = 50): Events!, tasks: [Task!]!, tags: [String!]!, self: Run }
type Events { items: [Event!]! }
type Event { id: ID! }
type Task { id: ID! }
""")


def weigh(query: str, **variables: Any) -> int:
    return check_cost(parse(query), SCHEMA, variables)


@pytest.mark.parametrize(
    ("query", "variables", "expected"),
    [
        ("{ run { id tags } }", {}, 3),
        ("{ run { tasks { id } } }", {}, 1 + 1 + cost.LIST_SIZE),
        ("{ runs(limit: 3) { items { id } } }", {}, 1 + 3 * 2),
        ("{ runs { items { id } } }", {}, 1 + 50 * 2),
        ("query($n: Int) { runs(limit: $n) { items { id } } }", {"n": 7}, 1 + 7 * 2),
        ("query($n: Int = 9) { runs(limit: $n) { items { id } } }", {}, 1 + 9 * 2),
        ("{ runs(limit: 3) { items { events(limit: 4) { items { id } } } } }", {}, 1 + 3 * (1 + 1 + 4 * 2)),
        ("{ run { ...f ...f } } fragment f on Run { id ...g } fragment g on Run { tags }", {}, 5),
        ("{ runs(limit: 3) { items { ... on Run { id } ... { tags } } } }", {}, 1 + 3 * 3),
    ],
)
def test_cost_is_fields_times_lists(query: str, variables: dict[str, Any], expected: int) -> None:
    assert weigh(query, **variables) == expected


def refusal(query: str, **variables: Any) -> str:
    with pytest.raises(GraphQLError) as caught:
        weigh(query, **variables)
    return caught.value.message


def test_lists_in_lists_beyond_the_cap_are_refused() -> None:
    assert "cost" in refusal("{ runs(limit: 200) { items { events(limit: 200) { items { id } } } } }")
    assert "cost" in refusal("query($n: Int) { runs(limit: $n) { items { id } } }", n=10**11)
    assert "cost" in refusal("{ runs(limit: " + "9" * 200 + ") { items { id } } }")
    assert f"{MAX_COST:,}" in refusal("{ runs(limit: 5000) { items { id } } }")


def test_fragments_that_double_are_looked_at_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    once = cost._Scales._one

    def counted(self: Any, node: Any, parent: object) -> cost.Weight:
        looked.append(node.kind)
        return once(self, node, parent)

    monkeypatch.setattr(cost._Scales, "_one", counted)
    many = 30
    bomb = "{ run { ...f0 } } " + " ".join(
        f"fragment f{i} on Run {{ a{i}: id ...f{i + 1} ...f{i + 1} }}" for i in range(many)
    )
    assert "cap" in refusal(bomb + f" fragment f{many} on Run {{ id }}")
    assert len(looked) <= 4 * many


def test_aliases_in_fragments_count() -> None:
    aliases = " ".join(f"a{i}: id" for i in range(16))
    assert "aliases" in refusal(f"{{ run {{ ...f s: self {{ ...f }} }} }} fragment f on Run {{ {aliases} }}")


def test_depth_and_directives_are_capped() -> None:
    assert "depth" in refusal("{ run " + "{ self " * 12 + "{ id }" + "}" * 12 + " }")
    assert "directives" in refusal("{ run { id " + "@include(if: true) " * 31 + "} }")


def test_fragments_that_spread_themselves_end() -> None:
    assert weigh("{ run { ...f } } fragment f on Run { id ...g } fragment g on Run { ...f }") == 2


def test_texts_are_refused_before_they_are_parsed() -> None:
    for bad, word in (
        ("{" * 100, "nested"),
        ("{ run(a: " + "[" * 500, "nested"),
        ("{ a" + " a" * 3_000, "tokens"),
        ("{ a #" + "x" * 40_000, "characters"),
    ):
        with pytest.raises(GraphQLError, match=word):
            check_text(bad)
    check_text('{ a(b: "' + "{" * 100 + '") }')


BOMBS = (
    "{" * 100,
    "{ run(id: " + "[" * 500,
    "{ runs { " + " ".join(f"a{i}: next" for i in range(40)) + " } }",
    "{ runs { ...f } } fragment f on RunPage { " + " ".join(f"a{i}: next" for i in range(40)) + " }",
    "{ runs(limit: 200) { items { events(limit: 200) { items { id } } } } }",
    "{ runs { next " + "@skip(if: false) " * 40 + "} }",
    "{ approvals { items { run { approvals { run { approvals { run { approvals { run { id } } } } } } } } } }",
)


async def test_bombs_are_answered_with_an_error(serve: Serve) -> None:
    async with team(working()) as app:
        served = await serve(app)
        for bomb in BOMBS:
            assert codes(await ask(served, bomb)) == ["query_too_large"], bomb[:60]
        cycle = await ask(served, "{ runs { ...f } } fragment f on RunPage { next ...f }")
        assert codes(cycle) == ["invalid_request"]
        many = "query($n: Int!) { runs(limit: $n) { items { id goal status } } }"
        assert codes(await ask(served, many, n=10_000)) == ["query_too_large"]
        assert codes(await ask(served, "{ runs(limit: 5) { items { id goal tasks { id status } } } }")) == []


def test_the_printed_schema_is_that_of_the_server() -> None:
    printed = Path("docs/reference/graphql.graphql").read_text(encoding="utf-8")
    assert printed == text(), "run: python -m collegium.server.graphql.reference docs/reference"
