"""Cassettes: what was recorded is played, what was not is said with a diff."""

from pathlib import Path

import pytest

from collegium.domain import errors
from collegium.domain.chat import ChatMessage
from collegium.testing.cassette import Cassette, CassetteModels, CassettePlayer, CassetteRecorder
from collegium.testing.conformance.model import ask, whole
from collegium.testing.scripted import ScriptedModel, Step


class OneModel:
    """``Models`` with one model under any name."""

    def __init__(self, model: ScriptedModel) -> None:
        self.model = model
        self.opened: list[str] = []

    async def open(self, name: str) -> ScriptedModel:
        self.opened.append(name)
        return self.model

    async def aclose(self) -> None:
        await self.model.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


async def test_repeats_play_in_order_errors_too(path: Path) -> None:
    limited = errors.ModelRateLimited("slow", retry_after_s=2.0)
    recorder = CassetteRecorder(ScriptedModel([Step(reply="one"), Step(error=limited), Step(reply="two")]), path)
    await recorder.complete(ask())
    with pytest.raises(errors.ModelRateLimited):
        await recorder.complete(ask())
    await whole(recorder, ask())

    player = CassettePlayer(path)
    assert (await player.complete(ask())).text == "one"
    with pytest.raises(errors.ModelRateLimited) as caught:
        await player.complete(ask())
    assert caught.value.retry_after_s == 2.0
    assert player.cassette.unused() == 1
    assert (await player.complete(ask())).text == "two"
    with pytest.raises(errors.ModelRequestError, match="3 times, and it was asked once more"):
        await player.complete(ask())


async def test_a_miss_shows_the_nearest_request(path: Path) -> None:
    recorder = CassetteRecorder(ScriptedModel([Step(reply="x", times=None)]), path)
    await recorder.complete(ask("Who owns the payments service?"))
    await recorder.complete(ask("Something else altogether, at length?"))
    player = CassettePlayer(path)
    with pytest.raises(errors.ModelRequestError) as caught:
        await player.complete(ask("Who owns the refunds service?"))
    assert "-user: Who owns the payments service?\n+user: Who owns the refunds service?" in str(caught.value)
    with pytest.raises(errors.ModelRequestError, match="another option"):
        await player.complete(ask("Who owns the payments service?", temperature=0.5))


async def test_models_by_name(path: Path) -> None:
    inner = OneModel(ScriptedModel([Step(reply="Ledger")]))
    recording = CassetteModels(inner, record=path)
    model = await recording.open("scripted:inline")
    assert await recording.open("scripted:inline") is model
    await model.complete(ask())
    await recording.aclose()

    nobody = OneModel(ScriptedModel([]))
    playing = CassetteModels(nobody, replay=path)
    assert (await (await playing.open("scripted:inline")).complete(ask())).text == "Ledger"
    assert nobody.opened == []
    with pytest.raises(errors.UnknownName, match="scripted:inline"):
        await playing.open("openai:gpt-6")


async def test_nothing_that_looks_like_a_key_is_written(path: Path) -> None:
    secret = "sk-proj-0123456789abcdefghij"
    request = ask()
    request = ask(messages=(*request.messages, ChatMessage(role="user", text=f'my key is "{secret}"')))
    recorder = CassetteRecorder(ScriptedModel([Step(reply=f"Bearer {secret}")]), path)
    await recorder.complete(request)
    assert secret not in written(path)
    assert (await CassettePlayer(path).complete(request)).text == "***"


def written(path: Path) -> str:
    return path.read_text()


def test_files_that_are_no_cassettes(path: Path) -> None:
    with pytest.raises(errors.UnreadableInput, match="cannot be read"):
        Cassette(path)
    path.write_text('{"kind": "model", "model": "x"}\nnonsense\n')
    with pytest.raises(errors.UnreadableInput, match="line 2"):
        Cassette(path)
    with pytest.raises(errors.UnreadableInput, match="cannot be written"):
        CassetteRecorder(ScriptedModel([]), path.parent)
