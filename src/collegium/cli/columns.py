"""Lists in columns: as wide as their content, the last one takes what is left. No line ends in blanks."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from collegium.cli.text import one_line

GAP = 2
MIN_LAST = 20

Cell = str | tuple[str, str]
"""A text, or a text with its style."""


def print_columns(
    console: Console,
    header: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    right: Sequence[str] = (),
    indent: int = 0,
    is_cut: bool = False,
) -> None:
    """Prints ``rows`` under ``header``.

    Args:
        console: Where.
        header: Names of the columns.
        rows: A cell for each column.
        right: Names of columns that are set flush right.
        indent: Blanks before each line.
        is_cut: Cut the last column where it does not fit, instead of going on in the next line. A pipe gets all of it.
    """
    cells = [[_cell(c) for c in row] for row in rows]
    widths = [max([cell_len(name), *(row[i].cell_len for row in cells)]) for i, name in enumerate(header)]
    before = indent + sum(widths[:-1]) + GAP * (len(widths) - 1)
    room = max(MIN_LAST, console.width - before) if console.is_terminal else 10_000
    for row in ([Text(name, style="dim") for name in header], *cells):
        last = _wrapped(console, row[-1], room, is_cut=is_cut)
        for number, piece in enumerate(last):
            line = Text(" " * before) if number else Text(" " * indent) + _joined(header, row[:-1], widths, right)
            line.append_text(piece)
            line.rstrip()
            console.print(line, soft_wrap=True)


def print_indented(console: Console, text: Text, indent: int) -> None:
    """Prints ``text`` behind ``indent`` blanks, wrapped on a terminal; elsewhere a paragraph stays one line."""
    room = max(MIN_LAST, console.width - indent) if console.is_terminal else 10_000
    for piece in text.wrap(console, room):
        piece.rstrip()
        console.print(Text(" " * indent) + piece, soft_wrap=True)


def _joined(header: Sequence[str], row: Sequence[Text], widths: Sequence[int], right: Sequence[str]) -> Text:
    line = Text()
    for name, cell, width in zip(header, row, widths, strict=False):
        blank = " " * (width - cell.cell_len)
        line.append_text(Text(blank) + cell if name in right else cell + Text(blank)).append(" " * GAP)
    return line


def _wrapped(console: Console, cell: Text, room: int, *, is_cut: bool) -> Sequence[Text]:
    if is_cut:
        cut = cell.copy()
        cut.truncate(room, overflow="ellipsis")
        return [cut]
    return list(cell.wrap(console, room)) or [Text()]


def _cell(value: Cell) -> Text:
    text, style = (value, "") if isinstance(value, str) else value
    return Text(one_line(text), style=style)
