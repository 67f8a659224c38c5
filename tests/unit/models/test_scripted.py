"""Scripts: strict about what is asked, readable when it is not as expected."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.models.connections import Connections
from collegium.adapters.models.openai_compatible import OpenAICompatibleModel
from collegium.domain import errors
from collegium.domain.chat import ToolCall
from collegium.testing.clock import FakeClock
from collegium.testing.conformance.model import SEARCH, ask, whole
from collegium.testing.model_server import ModelServer
from collegium.testing.scripted import SCRIPTED_PROFILE, ScriptedModel, Step, load_script

CALL = ToolCall(id="", name="search", arguments={"query": "x"})


async def test_steps_in_order() -> None:
    async with ScriptedModel(
        [Step(expect=("handbook",), tool_calls=(CALL,)), Step(expect_last=("payments",), reply="Ledger")]
    ) as model:
        first = await model.complete(ask())
        assert first.tool_calls[0].id == "call_1_0"
        assert first.finish == "tool_calls"
        assert (await model.complete(ask())).text == "Ledger"


async def test_an_unexpected_request_is_shown_and_not_forgotten() -> None:
    model = ScriptedModel([Step(expect=("refund policy",), label="the second question")])
    with pytest.raises(errors.ModelRequestError) as caught:
        await model.complete(ask(tools=(SEARCH,)))
    text = str(caught.value)
    assert "step 1 (the second question): the request does not hold 'refund policy'" in text
    assert "user: Who owns the payments service?" in text
    assert "tool search: Finds passages." in text
    with pytest.raises(AssertionError, match="request 1 was not expected"):
        model.verify()


async def test_a_request_too_many() -> None:
    model = ScriptedModel([Step(reply="x")])
    await model.complete(ask())
    with pytest.raises(errors.ModelRequestError, match="all 1 steps are used up"):
        await model.complete(ask())


async def test_an_unused_step() -> None:
    with pytest.raises(AssertionError, match="step 2 was used 0 of 1 times"):
        async with ScriptedModel([Step(reply="x"), Step(reply="y")]) as model:
            await model.complete(ask())


async def test_an_error_of_the_test_is_not_hidden_by_unused_steps() -> None:
    with pytest.raises(ZeroDivisionError):
        async with ScriptedModel([Step(reply="x")]):
            raise ZeroDivisionError


async def test_steps_in_any_order_and_any_number_of_times() -> None:
    steps = [
        Step(expect_last=("payments",), reply="Ledger"),
        Step(when=lambda request: request.temperature > 0, reply="warm"),
        Step(reply=lambda request: f"{len(request.messages)} messages", times=None),
    ]
    async with ScriptedModel(steps, ordered=False) as model:
        assert (await model.complete(ask("Anything?"))).text == "2 messages"
        assert (await model.complete(ask(temperature=1.0))).text == "Ledger"
        assert (await model.complete(ask(temperature=1.0))).text == "warm"
        assert (await model.complete(ask())).text == "2 messages"


async def test_delays_and_errors() -> None:
    clock = FakeClock()
    model = ScriptedModel([Step(error=errors.ModelRateLimited("slow", retry_after_s=2), delay_s=3)], clock=clock)
    call = asyncio.ensure_future(model.complete(ask()))
    await clock.advance(2)
    assert not call.done()
    await clock.advance(1)
    with pytest.raises(errors.ModelRateLimited):
        await call


SCRIPT = """
ordered = false
[[step]]
expect = ["handbook"]
expect_last = "payments"
tool_calls = [{name = "search", arguments = {query = "payments"}}]
[[step]]
error = "model_rate_limited"
retry_after_s = 2
times = "any"
"""


async def test_a_script_file(tmp_path: Path) -> None:
    path = tmp_path / "script.toml"
    path.write_text(SCRIPT)
    model = ScriptedModel.from_file(str(path))
    assert (await model.complete(ask())).tool_calls[0].arguments == {"query": "payments"}
    with pytest.raises(errors.ModelRateLimited) as caught:
        await model.complete(ask())
    assert caught.value.retry_after_s == 2
    as_json = tmp_path / "script.json"
    as_json.write_text(json.dumps({"step": [{"reply": "Ledger"}]}))
    assert load_script(str(as_json)).as_steps()[0].reply == "Ledger"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[step]\n", "not a script"),
        ("[[step]]\nexpects = 'x'\n", "expects"),
        ("[[step]]\nerror = 'on_fire'\n", "on_fire.*model_unavailable"),
    ],
)
def test_scripts_that_are_none(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "script.toml"
    path.write_text(text)
    with pytest.raises(errors.UnreadableInput, match=says):
        load_script(str(path)).as_steps()


async def test_the_server_is_as_strict() -> None:
    connections = Connections()
    server = ModelServer([Step(expect=("refund",))])
    await server.start()
    with pytest.raises(errors.ModelRequestError, match="does not hold 'refund'"):
        await lean(f"{server.url}/v1", connections).complete(ask())
    with pytest.raises(AssertionError, match="step 1 was used 0 of 1"):
        await server.__aexit__(None, None, None)
    await connections.aclose()


async def test_the_server_as_a_process() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "collegium.testing.model_server", "--text", "Ledger it is", stdout=asyncio.subprocess.PIPE
    )
    connections = Connections()
    try:
        assert process.stdout is not None
        url = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()
        model = lean(url, connections)
        assert (await model.complete(ask())).text == "Ledger it is"
        assert (await whole(model, ask())).text == "Ledger it is"
    finally:
        await connections.aclose()
        process.terminate()
        await process.wait()


def lean(url: str, connections: Connections) -> OpenAICompatibleModel:
    return OpenAICompatibleModel(
        "any", url, key="", profile=SCRIPTED_PROFILE, connections=connections, clock=SystemClock()
    )
