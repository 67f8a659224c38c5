"""Inputs are read and searched, the work folder is written: as a model sees it."""

import hashlib

import pytest

from collegium.tools.builtin import (
    builtin_tools,
    list_files,
    list_inputs,
    read_file,
    read_input,
    search_inputs,
    write_file,
)
from collegium.tools.context import ToolContext
from collegium.tools.toolbox import Toolbox

TEXTS = {"docs/a.md": "Alpha owns payments.\n", "docs/b.txt": "0123456789", "empty.txt": ""}


@pytest.fixture
def world(make_context) -> ToolContext:
    return make_context(TEXTS)


async def test_inputs_are_listed(world: ToolContext, context: ToolContext):
    assert (await list_inputs.call({}, world)).text == "3 input files:\ndocs/a.md\ndocs/b.txt\nempty.txt"
    some = await list_inputs.call({"containing": "DOCS"}, world)
    assert some.data == {"paths": ["docs/a.md", "docs/b.txt"], "total": 2}
    assert (await list_inputs.call({}, context)).text == "There are no input files."
    assert "'zzz'" in (await list_inputs.call({"containing": "zzz"}, world)).text


async def test_a_long_list_is_cut_and_says_so(make_context):
    result = await list_inputs.call({}, make_context({f"{n:04}.txt": "" for n in range(700)}))
    assert result.text.startswith("700 input files:")
    assert result.text.endswith("... and 200 more: ask with containing=...")


async def test_an_input_is_read_in_pages_that_can_be_cited(world: ToolContext):
    first = await read_input.call({"path": "docs/b.txt", "max_chars": 4}, world)
    assert first.text == "docs/b.txt, characters 0 to 4 of 10 (go on with start=4):\n0123"
    last = await read_input.call({"path": "docs/b.txt", "start": 4, "max_chars": 20}, world)
    assert last.text == "docs/b.txt, characters 4 to 10 of 10 (the end):\n456789"
    assert last.data == {"path": "docs/b.txt", "start": 4, "end": 10, "total_chars": 10}
    assert (await read_input.call({"path": "empty.txt"}, world)).text == "empty.txt is empty"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"path": "a.md"}, "there is no input file 'a.md'; did you mean docs/a.md?"),
        ({"path": "zzz"}, "list_inputs shows all paths"),
        ({"path": "docs/b.txt", "start": 10}, "start=10 lies outside: use 0 to 9"),
        ({"path": "docs/b.txt", "start": -1}, "start: expected int >= 0"),
        ({"path": "docs/b.txt", "max_chars": 10**6}, "max_chars: expected int <= 20000"),
    ],
)
async def test_what_cannot_be_read_is_explained(world: ToolContext, arguments, said: str):
    result = await read_input.call(arguments, world)
    assert not result.is_ok
    assert said in result.text


async def test_a_search_gives_passages_with_their_place(world: ToolContext):
    result = await search_inputs.call({"query": "who owns payments"}, world)
    assert result.text == "[1] docs/a.md, characters 0 to 21:\nAlpha owns payments.\n"
    assert result.data == {
        "passages": [{"document": "docs/a.md", "chunk_id": "c-docs/a.md", "start": 0, "end": 21, "score": 2.0}]
    }
    assert (await search_inputs.call({"query": "zebra"}, world)).text.startswith("Nothing was found for 'zebra'")
    assert not (await search_inputs.call({"query": "  "}, world)).is_ok


async def test_what_is_written_can_be_listed_and_read(world: ToolContext):
    assert (await list_files.call({}, world)).text == "The work folder is empty."
    text = "Grüße\n"
    written = await write_file.call({"path": "./out/letter.md", "text": text}, world)
    assert written.text == "Wrote out/letter.md (8 bytes)."
    assert written.data == {
        "path": "out/letter.md",
        "size_bytes": 8,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    assert (await list_files.call({}, world)).data == {"paths": ["out/letter.md"]}
    assert (await read_file.call({"path": "out/letter.md"}, world)).text.endswith("Grüße\n")


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        (write_file, {"path": "../x", "text": ""}, "leaves the work folder"),
        (write_file, {"path": "out.md/x", "text": ""}, "out.md is a file"),
        (write_file, {"path": "x", "text": "\ud800"}, "half a character"),
        (read_file, {"path": "/etc/passwd"}, "does not start in the work folder"),
        (read_file, {"path": "ou.md"}, "there is no file 'ou.md' in the work folder; did you mean out.md?"),
        (read_file, {"path": "zzz"}, "list_files shows what there is"),
        (read_file, {"path": "image.png"}, "image.png is no text (2 bytes that are not UTF-8)"),
    ],
)
async def test_what_the_work_folder_refuses(world: ToolContext, tool, arguments, said: str):
    await world.workspace.write("out.md", b"x")
    await world.workspace.write("image.png", b"\xff\xfe")
    result = await tool.call(arguments, world)
    assert not result.is_ok
    assert said in result.text


def test_the_built_in_tools_are_a_toolbox_by_name():
    names = [tool.definition.name for tool in builtin_tools()]
    assert names == sorted(names)
    assert [d.name for d in Toolbox(builtin_tools()).definitions] == names
    for tool in builtin_tools():
        assert tool.definition.capabilities
        for name, schema in tool.definition.parameters["properties"].items():
            assert schema.get("description"), f"{tool.definition.name}.{name} says nothing"
