"""What a command says to a person: a few kinds of blocks, each plain in a pipe, and laid out on a terminal where that can be done.

::

    Lines     lines as they are
    Facts     release      42                          a label and what it says
    Checks    ok   manifest: the public statement …    what was looked at
    Grid      a table, and its plain lines
    Verdict   the sentence that sums it up

The plain text is the same bytes wherever it is written, whatever is installed; scripts that must read it read ``--json`` instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from coldchain.verify import Check

Mood = Literal["", "good", "bad", "warn", "quiet", "strong"]
WIDTH: Final = 13


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines as they are."""

    lines: tuple[str, ...]
    mood: Mood = ""

    def plain(self) -> list[str]:
        """Its lines in a pipe."""
        return list(self.lines)


@dataclass(frozen=True, slots=True)
class Fact:
    """A label of less than :data:`WIDTH` letters and what it says; an empty label goes on with the one before."""

    label: str
    value: str
    mood: Mood = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts below each other."""

    facts: tuple[Fact, ...]

    def plain(self) -> list[str]:
        """Its lines in a pipe."""
        return [f"{one.label:<{WIDTH}}{one.value}" for one in self.facts]


@dataclass(frozen=True, slots=True)
class Checks:
    """Checks that were made, and notes beside them."""

    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    def plain(self) -> list[str]:
        """Its lines in a pipe."""
        out = [f"{'ok  ' if one.ok else 'BAD '} {one.name}: {one.detail}" for one in self.checks]
        return out + [f"note {note}" for note in self.notes]


@dataclass(frozen=True, slots=True)
class Listed(Checks):
    """Checks that are all in order, as a list."""

    def plain(self) -> list[str]:
        """Its lines in a pipe."""
        return [f"  {one.name}: {one.detail}" for one in self.checks]


@dataclass(frozen=True, slots=True)
class Column:
    """A column's head; numbers stand to the right."""

    head: str
    right: bool = False
    mood: Mood = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table for a terminal; ``lines`` say the same in a pipe. The last row of one with a ``total`` sums it up."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...]
    total: bool = False

    def plain(self) -> list[str]:
        """Its lines in a pipe."""
        return list(self.lines)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The sentence that sums it up."""

    text: str
    mood: Mood = "good"

    def plain(self) -> list[str]:
        """Its lines in a pipe."""
        return self.text.split("\n")


Block: TypeAlias = Lines | Facts | Checks | Grid | Verdict


@dataclass(frozen=True, slots=True)
class View:
    """Blocks below each other."""

    blocks: tuple[Block, ...]

    def plain(self) -> str:
        """The whole text for a pipe, without a line break at its end."""
        return "\n".join(line for block in self.blocks for line in block.plain())


def view(*blocks: Block | None) -> View:
    """A view of the blocks that are there."""
    return View(tuple(block for block in blocks if block is not None))


def facts(lines: Sequence[str]) -> tuple[Fact, ...]:
    """Facts from lines as the rooms below write them.

    Words in capitals at the beginning of a value are an alarm, and what is not done is a warning.
    """
    out = []
    for line in lines:
        label, value = line[:WIDTH].strip(), line[WIDTH:]
        words = [label, *value.split(" ")[:1]]
        loud = any(len(word) > 1 and word.strip(",:").isalpha() and word.isupper() for word in map(_bare, words))
        out.append(Fact(label, value, "bad" if loud else "warn" if value.startswith("not to ") else ""))
    return tuple(out)


def _bare(word: str) -> str:
    return word.strip(",:")
