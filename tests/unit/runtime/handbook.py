"""Questions over two documents, and the models that answer them."""

from __future__ import annotations

import msgspec

from collegium.domain.chat import ModelProfile, ToolCall
from collegium.domain.document import GivenFile
from collegium.testing.scripted import SCRIPTED_PROFILE, ScriptedModel, Step
from tests.unit.runtime.plans import plan_json

HANDBOOK = [
    GivenFile(
        path="orders.md", data=b"# Orders\n\nThe order service is owned by the team Harbour. It keeps data 30 days.\n"
    ),
    GivenFile(
        path="teams.md", data=b"# Teams\n\nThe team Harbour is led by Ada Byron.\n\nThe team Quay is led by Bo Li.\n"
    ),
]
WEAK: ModelProfile = msgspec.structs.replace(SCRIPTED_PROFILE, tool_mode="schema", can_plan=False, can_write=False)


def sent_back() -> ScriptedModel:
    """Asked who owns the order service it plans, searches, writes, and writes again what the documents do not say."""
    return ScriptedModel(
        [
            Step(
                expect=("orders.md", "teams.md"), reply=plan_json(("look", "research", []), ("say", "write", ["look"]))
            ),
            Step(
                expect_last=("A first search gave",),
                tool_calls=(ToolCall(id="c1", name="search_inputs", arguments={"query": "who leads Harbour"}),),
            ),
            Step(expect_last=("Ada Byron",), reply="Harbour is led by Ada Byron."),
            Step(expect=("Passages:",), reply="The order service is owned by Harbour [1]. It was founded in 1851 [1]."),
            Step(expect_last=("founded in 1851",), reply="The order service is owned by the team Harbour [1]."),
        ]
    )
