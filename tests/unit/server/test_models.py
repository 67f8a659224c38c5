"""``/v1/models``: what can be asked, and nothing that is secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from collegium.agents.roster import Roster, builtin_agents
from collegium.app import Collegium
from collegium.client import Client
from collegium.config import ModelsSection, PriceSetting, Settings
from collegium.server.access.models import KnownModel
from collegium.testing.harness import team
from collegium.wiring.models import known_models
from tests.unit.server.conftest import Serve
from tests.unit.stores.moved import PLAN, working

HIDDEN = "openai-compatible:big@http://ann:s3cret-word@127.0.0.1:9/v1"


async def known(app: Collegium) -> list[KnownModel]:
    usual = KnownModel(name="scripted:given", title="", is_default=True, is_at_hand=True, agents=("worker",))
    hidden = KnownModel(name=HIDDEN, title="Big", is_default=False, is_at_hand=True, agents=())
    return [usual, hidden]


async def test_models_are_listed_with_what_they_can_do_and_without_secrets(serve: Serve):
    async with team(working()) as app:
        served = await serve(app, models_of=known)
        await (await app.submit("Do both.", plan=PLAN)).result()
        async with Client(served.url) as client:
            first = await client.models(limit=1)
            second = await client.models(after=first.next, limit=1)
        (big,), (usual,) = first.items, second.items
        assert (big.name, big.provider) == ("openai-compatible:big@http://127.0.0.1:9/v1", "openai-compatible")
        assert (usual.is_default, usual.agents, second.next) == (True, ("worker",), None)
        assert usual.abilities is not None
        assert usual.abilities.name == "scripted:given"
        text = (await served.http.get("/v1/models")).text
        assert "s3cret" not in text
        assert "ann" not in text.replace("planner", "")


async def test_a_server_that_knows_of_none_says_so(serve: Serve):
    async with team(working()) as app:
        reply = await (await serve(app)).http.get("/v1/models")
        assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


def test_what_is_known_are_the_models_of_settings_agents_and_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-not-shown")
    price = PriceSetting.model_validate({"input_usd": 1, "output_usd": 2})
    section = ModelsSection(other="anthropic:claude-x", prices={"openai:gpt-x": price, "openai:*": price})
    found = {m.name: m for m in known_models(Settings(data_dir=tmp_path, models=section), _roster(), "openai:gpt-x")}
    assert found["openai:gpt-x"].is_default
    assert not found["openai:gpt-x"].is_at_hand
    assert found["anthropic:claude-x"].is_at_hand
    assert "openai:*" not in found
    assert any(name.startswith("local:") and not one.is_at_hand for name, one in found.items())


def _roster() -> Roster:
    return Roster(builtin_agents())
