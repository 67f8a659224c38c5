"""Made-up queries that fit the schema: none of them is a fault of the server.

``COLLEGIUM_GRAPHQL_EXAMPLES=2000 pytest tests/unit/server/test_graphql_fuzz.py`` tries more of them.
"""

from __future__ import annotations

import asyncio
import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_graphql import from_schema

from collegium.server.graphql.reference import text
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.server.test_graphql import codes
from tests.unit.stores.moved import working

EXAMPLES = int(os.environ.get("COLLEGIUM_GRAPHQL_EXAMPLES", "40"))


def queries() -> list[str]:
    """As many queries and mutations as are wanted, the same every time."""
    found: list[str] = []
    from graphql.language.ast import ObjectValueNode

    values = st.just(ObjectValueNode(fields=()))

    @settings(
        max_examples=EXAMPLES, database=None, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(from_schema(text(), custom_scalars={"JSON": values}))
    def collect(query: str) -> None:
        found.append(query)

    collect()
    return found


async def test_queries_that_fit_the_schema_break_nothing(serve: Serve) -> None:
    async with team(working()) as app:
        await app.submit("Do both.", is_plan_reviewed=True)
        served = await serve(app)
        asked = [query for query in await asyncio.to_thread(queries) if not query.startswith("subscription")]
        answered = 0
        for query in asked:
            answer = await served.http.post("/graphql", json={"query": query})
            assert answer.status_code == 200, query
            assert "internal" not in codes(answer.json()), (query, answer.text)
            answered += not codes(answer.json())
        assert asked
        assert answered
