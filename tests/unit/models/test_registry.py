"""From names to models: keys, base URLs, extras, chains, wrapping."""

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.models.defaults import default_model_name, probe_loopback
from collegium.adapters.models.profiles import ProfileChange
from collegium.adapters.models.registry import ModelRegistry, ModelSettings
from collegium.adapters.models.retrying import RetryPolicy
from collegium.domain import errors
from collegium.domain.usage import Price
from collegium.testing.conformance.model import ask
from collegium.testing.model_server import ModelServer
from collegium.testing.scripted import Step

KEY = "sk-secret-0123456789abcdef"


def registry(folder: Path, *, environ: dict[str, str] | None = None, **options: Any) -> ModelRegistry:
    return ModelRegistry(environ=environ or {}, data_dir=folder, clock=SystemClock(), random=lambda: 0.0, **options)


async def test_an_endpoint_is_opened_once_and_retried(tmp_path: Path) -> None:
    models = registry(tmp_path, settings=ModelSettings(retry=RetryPolicy(base_s=0.001)))
    async with ModelServer([Step(error=errors.ModelUnavailable("down")), Step(reply="Ledger")]) as server:
        name = f"openai-compatible:any@{server.url}/v1"
        model = await models.open(name)
        assert await models.open(name) is model
        assert model.profile.name == name
        assert (await model.complete(ask())).text == "Ledger"
    await models.aclose()
    await models.aclose()


async def test_openai_by_the_lean_adapter_at_another_url(tmp_path: Path) -> None:
    async with ModelServer([Step(reply="Ledger")], key=KEY) as server:
        models = registry(
            tmp_path,
            environ={"OPENAI_API_KEY": f" {KEY}\n", "OPENAI_BASE_URL": f"{server.url}/v1"},
            settings=ModelSettings(
                is_openai_lean=True,
                prices={"openai:gpt-6.1-terra": Price(input_usd=Decimal(100_000), output_usd=Decimal(0))},
            ),
        )
        model = await models.open("openai:gpt-6.1-terra")
        assert (await model.complete(ask())).usage.cost_usd == 1  # ten tokens at the price the user set
        await models.aclose()


async def test_a_chain_falls_back(tmp_path: Path) -> None:
    models = registry(tmp_path, settings=ModelSettings(retry=RetryPolicy(attempts=1)))
    async with ModelServer([Step(reply="second")]) as server:
        chain = await models.open(f"openai-compatible:a@http://127.0.0.1:1/v1,openai-compatible:b@{server.url}/v1")
        assert (await chain.complete(ask())).text == "second"
    await models.aclose()


async def test_a_script(tmp_path: Path) -> None:
    script = tmp_path / "replies.toml"
    script.write_text(
        '[profile]\ntool_mode = "schema"\n[[step]]\nexpect_last = "payments"\nreply = {owner = "Ledger"}\n'
    )
    models = registry(tmp_path)
    model = await models.open(f"scripted:{script}")
    assert model.profile.tool_mode == "schema"
    assert (await model.complete(ask())).text == '{"owner":"Ledger"}'


async def test_profiles_of_the_user(tmp_path: Path) -> None:
    changes = {"openai-compatible:*": ProfileChange(can_plan=False, context_tokens=1_000)}
    models = registry(tmp_path, settings=ModelSettings(profiles=changes))
    profile = (await models.open("openai-compatible:a@http://127.0.0.1:1/v1")).profile
    assert (profile.can_plan, profile.context_tokens) == (False, 1_000)


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("openai:gpt-6", errors.MissingKey, "OPENAI_API_KEY"),
        ("anthropic:claude", errors.MissingKey, "ANTHROPIC_API_KEY"),
        ("google:gemini", errors.MissingKey, "GEMINI_API_KEY or GOOGLE_API_KEY"),
        ("langchain:a:b", errors.UnknownName, "LangChain adapter"),
        ("local:smollm", errors.UnknownName, "Did you mean 'smollm2-135m-instruct'"),
        ("local:./nothing.gguf", errors.UnknownName, "models ls"),
        ("scripted:nothing.toml", errors.UnreadableInput, "nothing.toml"),
        ("", errors.UnknownName, "no model"),
    ],
)
async def test_what_cannot_be_opened_says_why(
    tmp_path: Path, name: str, kind: type[errors.UsageError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        await registry(tmp_path).open(name)


async def test_a_key_with_a_line_break_inside(tmp_path: Path) -> None:
    with pytest.raises(errors.MissingKey, match="characters") as caught:
        await registry(tmp_path, environ={"OPENAI_API_KEY": "sk-a\nb"}).open("openai:gpt-6")
    assert "sk-a" not in str(caught.value)


async def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "notes.gguf").write_text("not a model")
    with pytest.raises(errors.UnreadableInput, match="not a GGUF file"):
        await registry(tmp_path).open(f"local:{tmp_path}/notes.gguf")


async def test_without_the_extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pydantic_ai", "genai_prices", "genai_prices.data_snapshot"):
        monkeypatch.setitem(sys.modules, module, None)
    async with ModelServer([Step(reply="Ledger")], key=KEY) as server:
        environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{server.url}/v1", "ANTHROPIC_API_KEY": KEY}
        models = registry(tmp_path, environ=environ)
        openai = await models.open("openai:gpt-6.1-terra")
        assert (await openai.complete(ask())).text == "Ledger"  # by the lean adapter
        assert openai.profile.price is None
        with pytest.raises(errors.MissingExtra, match=r"pip install 'collegium\[anthropic\]'"):
            await models.open("anthropic:claude-sonnet-5-5")
        await models.aclose()


async def test_without_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + (3).to_bytes(4, "little") + bytes(16))
    with pytest.raises(errors.MissingExtra, match=r"pip install 'collegium\[local\]'"):
        await registry(tmp_path).open(f"local:{tmp_path}/x.gguf")


async def nobody() -> str | None:
    return None


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"COLLEGIUM_MODEL": "local:x", "OPENAI_API_KEY": KEY}, "local:x"),
        ({"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY}, "openai:gpt-6.1-terra"),
        ({"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": " "}, "anthropic:claude-sonnet-5-5"),
        ({"GOOGLE_API_KEY": KEY}, "google:gemini-3.8-flash"),
        ({}, "local:smollm2-135m-instruct"),
    ],
)
async def test_the_default(environ: dict[str, str], name: str) -> None:
    assert await default_model_name(environ, nobody) == name


async def test_a_model_server_on_this_machine_is_found() -> None:
    async with ModelServer() as server:
        url = f"{server.url}/v1"
        name = f"openai-compatible:scripted@{url}"
        assert await default_model_name({}, lambda: probe_loopback(url)) == name
    assert await probe_loopback(url) is None
