"""Paths as models write them: mended where nothing is lost, refused where they could lead elsewhere."""

import posixpath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collegium.domain.errors import ToolError
from collegium.tools.path import work_path


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("notes.md", "notes.md"),
        ("./notes.md", "notes.md"),
        ("a/./b/c.txt", "a/b/c.txt"),
        ("reports/Q3 2026.md", "reports/Q3 2026.md"),
        ("größe/…md", "größe/…md"),
        ("..a/b..c", "..a/b..c"),
        ("10:30.md", "10:30.md"),
    ],
)
def test_paths_below_the_folder(path: str, clean: str):
    assert "/".join(work_path(path)) == clean


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        (".", "an empty name"),
        ("/etc/passwd", "does not start in the work folder"),
        ("~/x", "does not start in the work folder"),
        ("C:/x", "does not start in the work folder"),
        ("./~", "does not start in the work folder"),
        ("./C:/x", "does not start in the work folder"),
        ("c:x", "does not start in the work folder"),
        ("../x", "leaves the work folder"),
        ("a/../../x", "leaves the work folder"),
        ("a/..", "leaves the work folder"),
        ("..\\x", "has a backslash"),
        ("a//b", "an empty name"),
        ("a/", "names a folder"),
        ("a\0b", "U+0000"),
        ("a\nb", "U+000A"),
        ("a\u202eb", "U+202E"),
        ("a\ud800b", "U+D800"),
        (" a", "starts or ends with a space"),
        ("a /b", "starts or ends with a space"),
        ("x" * 201, "201 bytes long, at most 200"),
        ("é" * 101, "202 bytes long, at most 200"),
        ("a/" * 600 + "b", "1,201 bytes long, at most 1,024"),
        ("a/" * 33 + "b", "33 folders deep, at most 32"),
    ],
)
def test_paths_that_are_refused(path: str, said: str):
    with pytest.raises(ToolError) as caught:
        work_path(path)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


pieces = st.sampled_from(["a", "b.txt", "..", ".", "", "~", "C:", "\\", "\0", " ", "...", "é"])


@given(st.lists(pieces, max_size=6).map("/".join) | st.text(max_size=20))
@example("a/./../b")
def test_what_is_taken_stays_below_the_folder(path: str):
    try:
        names = work_path(path)
    except ToolError:
        return
    joined = "/".join(names)
    assert posixpath.normpath(posixpath.join("/work", joined)) == f"/work/{joined}"
    assert work_path(joined) == names
