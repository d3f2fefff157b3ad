"""Views on a terminal: colours, tables, columns that fit its width. Needs rich (the extra ``people``); without it, text is plain.

Nothing here is used in a pipe, with ``--json``, on a dumb terminal, or where the environment says NO_COLOR (https://no-color.org):
then the answer is the plain text, byte for byte. What comes from outside (names, servers' words) is shown as text: it cannot
move the cursor, and it is no markup.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, TextIO

from coldchain.commands.command import shown
from coldchain.commands.view import Checks, Facts, Grid, Lines, Mood, Verdict, View

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_STYLES: dict[Mood, str] = {
    "": "",
    "good": "green",
    "bad": "bold red",
    "warn": "yellow",
    "quiet": "dim",
    "strong": "bold",
}
_LABEL = "cyan"
NARROW = 60


def is_terminal(stream: TextIO | None) -> bool:
    """Whether colours and tables are welcome on a stream."""
    if stream is None or os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return stream.isatty()


def draw(view: View, stream: TextIO) -> str | None:
    """A view as it looks on this terminal; None where rich is not installed."""
    console = _console(stream)
    if console is None:
        return None
    with console.capture() as captured:
        for block in view.blocks:
            console.print(_block(block, console))
    return captured.get()


def draw_error(text: str, stream: TextIO) -> str | None:
    """An error's lines (:meth:`coldchain.errors.ColdchainError.explain`); None where rich is not installed."""
    console = _console(stream)
    if console is None:
        return None
    from rich.table import Table
    from rich.text import Text

    first, *rest = shown(text).split("\n")
    word, colon, what = first.partition(": ")
    with console.capture() as captured:
        console.print(Text.assemble((f"coldchain: {word}{colon}", _STYLES["bad"]), (what, "bold")))
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True, style=_LABEL)
        grid.add_column(overflow="fold")
        for line in rest:
            label, _, value = line.strip().partition(": ")
            grid.add_row(Text(f"  {label}:"), Text(value))
        if rest:
            console.print(grid)
    return captured.get()


def _console(stream: TextIO) -> Console | None:
    try:
        from rich.console import Console
    except ImportError:
        return None
    width = shutil.get_terminal_size().columns
    return Console(file=stream, width=max(width, 20), highlight=False, markup=False, emoji=False, force_terminal=True)


def _block(block: Lines | Facts | Checks | Grid | Verdict, console: Console) -> RenderableType:
    from rich.text import Text

    if isinstance(block, Lines):
        return Text(shown("\n".join(block.lines)), style=_STYLES[block.mood], overflow="fold")
    if isinstance(block, Verdict):
        return Text(shown(block.text), style=f"bold {_STYLES[block.mood]}", overflow="fold")
    if isinstance(block, Facts):
        return _facts(block)
    if isinstance(block, Checks):
        return _checks(block, console.width)
    if console.width < NARROW:  # a table would be all edges
        return Text(shown("\n".join(block.lines)), overflow="fold")
    return _grid(block)


def _facts(block: Facts) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style=_LABEL)
    grid.add_column(overflow="fold")
    for one in block.facts:
        grid.add_row(Text(shown(one.label)), Text(shown(one.value), style=_STYLES[one.mood]))
    return grid


def _checks(block: Checks, width: int) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    # on a narrow terminal the name stands before the detail, for there is no room for two columns
    narrow = width < NARROW
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    if not narrow:
        grid.add_column(overflow="fold", max_width=max(16, width // 4))
    grid.add_column(overflow="fold")
    rows = [("✓" if one.ok else "✗", "green" if one.ok else "bold red", one.name, one.detail) for one in block.checks]
    for note in block.notes:
        name, colon, detail = note.partition(": ")
        rows.append(("·", "yellow" if name.isupper() else "dim", name if colon else "note", detail if colon else note))
    for sign, style, name, detail in rows:
        bad = style == "bold red"
        told = Text(shown(detail), style=style if bad else "dim" if sign == "·" else "")
        if narrow:
            grid.add_row(Text(sign, style=style), Text.assemble((f"{shown(name)}: ", _LABEL), told))
        else:
            grid.add_row(Text(sign, style=style), Text(shown(name), style=style if bad else _LABEL), told)
    return grid


def _grid(block: Grid) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in block.columns:
        table.add_column(
            Text(column.head),
            justify="right" if column.right else "left",
            style=_STYLES[column.mood],
            overflow="fold",
            no_wrap=column.right,
        )
    for number, row in enumerate(block.rows, 1):
        last = number == len(block.rows) - 1 and block.total
        table.add_row(*[Text(shown(cell)) for cell in row], end_section=last)
    return table
