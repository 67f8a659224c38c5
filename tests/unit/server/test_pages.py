"""The curl lines of the how-to pages, against a real server: by curl where there is one, and read and sent always."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from collegium.testing.harness import team
from tests.unit.server.conftest import Serve, Served
from tests.unit.stores.moved import working

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to"
WAYS = ["read", *(["curl"] if shutil.which("curl") else [])]
STATUSES = {"api.md": [201, 202, 200, 200, 201, 200, 201], "webhooks.md": [201], "live.md": [200]}
"""What each line of a page is answered, in their order."""
WAIT_S = 30.0


def lines(page: str) -> Iterator[list[str]]:
    """The words of each curl command of a page, shell variables left in."""
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", (HOW_TO / page).read_text("utf-8"), re.DOTALL | re.MULTILINE):
        joined = block.replace("\\\n", " ")
        for line in joined.splitlines():
            words = shlex.split(line.removeprefix("$ ")) if re.match(r"(\$ )?curl ", line) else []
            if words:
                yield words[1:]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("page", STATUSES)
async def test_what_a_page_shows_is_answered_as_it_says(serve: Serve, tmp_path: Path, page: str, way: str):
    (tmp_path / "handbook.md").write_text("# Ownership\n\nledger-db is owned by team Ledger.\n", encoding="utf-8")
    async with team(working()) as app:
        served = await serve(app)
        made = {"RUN": (await app.submit("Do both.")).id, "UPLOAD": ""}
        await app.result(made["RUN"])
        found = []
        for words in lines(page):
            filled = [_filled(word, served, made) for word in words]
            status, body = await (_curl(filled, tmp_path) if way == "curl" else _sent(filled, served, tmp_path))
            found.append(status)
            _keep(body, made)
            if "RUN" in made and any("/v1/runs" in word for word in filled):
                await app.result(made["RUN"])
        assert found == STATUSES[page]


def _filled(word: str, served: Served, made: dict[str, str]) -> str:
    word = re.sub(r"(http://)?(localhost|127\.0\.0\.1):8420", served.url, word)
    for name, value in made.items():
        word = re.sub(rf"\${name}\b|(?<=/runs/){name}\b", value, word)
    return word


def _keep(body: str, made: dict[str, str]) -> None:
    """Keeps the ids in an answer, as whoever follows the page does."""
    text = body[body.index("{") :] if "{" in body and not body.startswith(("id:", "event:", "data:", ":")) else "{}"
    told = json.JSONDecoder().raw_decode(text)[0]
    made["UPLOAD"] = told.get("id", made["UPLOAD"])
    made["RUN"] = told.get("run_id", made["RUN"])


async def _curl(words: list[str], folder: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        "curl", "--noproxy", "*", "-s", *words, "-w", r"\n%{http_code}", cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(WAIT_S):
        said, _ = await process.communicate()
    assert process.returncode == 0, said
    body, _, status = said.decode().rpartition("\n")
    return int(status), body


async def _sent(words: list[str], served: Served, folder: Path) -> tuple[int, str]:
    """A curl command as a request; raises for a flag that is not known here."""
    method, headers, content, files, url = "", {}, None, None, ""
    rest = iter(words)
    for word in rest:
        flag = word.replace("s", "").replace("i", "").replace("N", "") if re.fullmatch(r"-[siN]+X?", word) else word
        if flag == "-":
            continue
        if flag in ("-X", "-H", "-d", "-F"):
            value = next(rest)
            if flag == "-X":
                method = value
            elif flag == "-H":
                name, _, told = value.partition(":")
                headers[name] = told.strip()
            elif flag == "-d":
                content = value
            else:
                name, _, file = value.partition("=@")
                files = {name: (file, (folder / file).read_bytes())}
        else:
            assert not flag.startswith("-"), f"curl {flag} is not known here"
            url = word
    method = method or ("GET" if content is None and files is None else "POST")
    async with httpx.AsyncClient(timeout=WAIT_S, trust_env=False) as http:
        reply = await http.request(method, url, headers=headers, content=content, files=files)
    return reply.status_code, reply.text
