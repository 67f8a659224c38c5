"""``collegium topics``: what is published is read, what is dead is given back."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from collegium.adapters.clock import SystemClock
from collegium.adapters.sqlite.bus import SqliteBus
from collegium.domain.message import Claim
from tests.unit.cli.calling import collegium, document


def claimed(project: Path, topic: str, *, dead: str | None = None) -> tuple[Claim, ...]:
    """What a program claims from the bus of the project; with ``dead`` it makes dead letters of it."""

    async def claim() -> tuple[Claim, ...]:
        bus = SqliteBus(next(project.parent.rglob("bus.db")), SystemClock())
        claims = await bus.claim([topic], "shop", 100)
        for one in claims if dead else ():
            await bus.settle(one, dead=dead)
        await bus.aclose()
        return claims

    return asyncio.run(claim())


def test_what_is_published_is_read(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert collegium(capsys, "topics", "ls") == (0, "There is no topic.\n", "")
    first = document(capsys, "topics", "publish", "orders.new", '{"n": 1}')
    assert (first["topic"], first["is_new"], first["id"][:4]) == ("orders.new", True, "msg_")
    code, out, _ = collegium(capsys, "topics", "publish", "orders.new", r'{"n": "\u001b[31mtwo"}', "--id", "order-2")
    assert (code, out) == (0, "order-2\n")
    again = collegium(capsys, "topics", "publish", "orders.new", "{}", "--id", "order-2")
    assert "nothing was published" in again[1]
    read = document(capsys, "topics", "read", "orders.new")
    assert [m["body"]["n"] for m in read["items"]] == [1, "\u001b[31mtwo"]
    code, out, _ = collegium(capsys, "topics", "read", "orders.new")
    assert code == 0
    assert '{"n":1}' in out
    assert "\u001b" not in out, "what others publish does not reach the terminal as it is"
    after = str(read["items"][0]["seq"])
    assert [m["id"] for m in document(capsys, "topics", "read", "orders.new", "--after", after)["items"]] == ["order-2"]
    page = document(capsys, "topics", "read", "orders.new", "--limit", "1")
    assert (len(page["items"]), page["next"]) == (1, read["items"][0]["seq"])
    assert document(capsys, "topics", "read", "orders.new", "--since", "2999-01-01")["items"] == []
    assert len(document(capsys, "topics", "read", "orders.new", "--since", read["items"][0]["at"])["items"]) == 2
    assert document(capsys, "topics", "ls")["items"] == [{"topic": "orders.new", "waiting": 2, "dead": 0}]


def test_a_message_has_the_priority_and_the_delay_that_were_asked_for(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"n": [1, 2]}')))
    document(capsys, "topics", "publish", "orders", "-", "--priority", "high")
    document(capsys, "topics", "publish", "orders", "{}", "--delay-s", "3600")
    (claim,) = claimed(project, "orders")
    assert (claim.message.body, claim.message.priority, claim.message.tenant) == ({"n": [1, 2]}, 1, "default")


def test_dead_letters_are_shown_and_given_back(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(3):
        document(capsys, "topics", "publish", "orders", f'{{"n": {n}}}')
    assert collegium(capsys, "topics", "dead", "orders")[1] == "orders has no dead letter.\n"
    claimed(project, "orders", dead="no such\naddress")
    assert document(capsys, "topics", "ls")["items"] == [{"topic": "orders", "waiting": 0, "dead": 3}]
    code, out, err = collegium(capsys, "topics", "dead", "orders")
    assert code == 0
    assert out.count("shop, delivered once: no such address") == 3
    assert "collegium topics requeue orders" in err
    letters = document(capsys, "topics", "dead", "orders")["items"]
    assert [x["body"]["n"] for x in letters] == [0, 1, 2]
    assert {(x["reason"], x["group"]) for x in letters} == {("no such\naddress", "shop")}
    seqs = [str(x["seq"]) for x in letters]
    assert document(capsys, "topics", "requeue", "orders", seqs[1])["requeued"] == [letters[1]["seq"]]
    assert [c.message.body["n"] for c in claimed(project, "orders", dead="still not")] == [1]
    assert collegium(capsys, "topics", "requeue", "orders")[1] == "3 given back\n"
    assert sorted(c.message.body["n"] for c in claimed(project, "orders")) == [0, 1, 2]
    code, _, err = collegium(capsys, "topics", "requeue", "orders", seqs[0])
    assert code == 2
    assert f"no dead letter {seqs[0]}" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["publish", "a topic", "1"], "no name of a topic"),
        (["publish", "tasks.research", "1"], "takes the tasks of runs alone"),
        (["publish", "orders", "{so}"], "is no JSON"),
        (["publish", "orders", "[1]"], "is no JSON object"),
        (["publish", "orders", "{}", "--priority", "mighty"], "mighty"),
        (["publish", "orders", "{}", "--delay-s", "-1"], "-1"),
        (["publish", "orders", '{"n": "' + "x" * 1_100_000 + '"}'], "1,048,576"),
        (["read", "tasks.research"], "only claimed from"),
        (["read", "orders", "--since", "yesterday"], "is no time"),
        (["read", "orders", "--store", "postgresql://u@127.0.0.1:1/none"], "are in Redis: set `redis`"),
    ],
)
def test_what_cannot_be(project: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    code, out, err = collegium(capsys, "topics", *words)
    assert (code, out) == (2, "")
    assert said in err


def test_a_topic_is_followed_until_it_is_stopped(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document(capsys, "topics", "publish", "news", '{"n": 1}')
    words = [sys.executable, "-m", "collegium.cli", "topics", "read", "news", "--follow", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["body"] == {"n": 1}
        document(capsys, "topics", "publish", "news", '{"n": 2}')
        assert json.loads(process.stdout.readline())["body"] == {"n": 2}
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
