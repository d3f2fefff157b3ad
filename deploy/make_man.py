"""Writes the man pages from the same source as ``--help``: ``python -m deploy.make_man [FOLDER]`` (a test compares them with it).

One page for each command, as git has it: ``coldchain-update.1``, ``coldchain-server-release-build.1``, and one for each program, with
the exit codes of docs/exit-codes.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from deploy.command_lines import VERSION, Command, client, server
from docs.make_exit_codes import NEXT, tree

FOLDER = Path(__file__).with_name("man")
DATE = "2026-11-26"
"""Of the newest change to a command's words; a page that carried the day of its making could not be compared."""


def pages() -> dict[str, str]:
    """Every page's text by its file's name."""
    every = [client(), server()]
    return {f"{one.page}.1": page(one, program) for program in every for one in program.walk()}


def page(command: Command, program: Command) -> str:
    """The page of one command, in man(7) macros that every formatter knows."""
    return "\n".join(_lines(command, program)) + "\n"


def _lines(command: Command, program: Command) -> Iterator[str]:
    yield f'.TH "{command.page.upper()}" "1" "{DATE}" "Coldchain {VERSION}" "Coldchain"'
    yield ".SH NAME"
    short = command.about.rstrip(".")
    yield f"{_text(command.page)} \\- {_text(short[:1].lower() + short[1:])}"
    yield ".SH SYNOPSIS"
    yield f".B {_text(' '.join(command.path))}"
    yield _text(command.usage)
    yield ".SH DESCRIPTION"
    yield _text(command.about)
    for part in filter(None, command.more.split("\n\n")):
        yield ".PP"
        yield _text(part)
    if command.arguments and any(one.about for one in command.arguments):
        yield ".SH ARGUMENTS"
        for argument in command.arguments:
            yield ".TP"
            yield f".I {_text(argument.name)}"
            yield _text(argument.about or "see the description")
    if command.options:
        yield ".SH OPTIONS"
        for option in command.options:
            yield ".TP"
            flags = ", ".join(rf"\fB{_text(flag)}\fR" for flag in option.flags)
            value = rf" \fI{_text(option.value)}\fR" if option.value else ""
            yield flags + value
            yield _text(option.about + (" (required)" if option.required and "required" not in option.about else ""))
    if command.commands:
        yield ".SH COMMANDS"
        for one in command.commands:
            yield ".TP"
            yield rf"\fB{_text(one.path[-1])}\fR"
            yield _text(f"{one.about} See {one.page}(1).")
    if command.example:
        yield ".SH EXAMPLE"
        yield ".nf"
        yield from map(_text, command.example.splitlines())
        yield ".fi"
    yield ".SH EXIT STATUS"
    if command is program:
        yield from _codes()
    else:
        yield _text(f"0: done and current. Every cause of failure has its own code: see {program.page}(1).")
    yield ".SH SEE ALSO"
    others = [program, *program.commands] if command is program else [program, *_beside(command, program)]
    names = sorted({one.page for one in others} - {command.page})
    yield ",\n".join(f".BR {_text(name)} (1)" for name in names).replace(",\n.BR", "\n.BR").replace(" (1)\n", " (1),\n")


def _beside(command: Command, program: Command) -> list[Command]:
    return [one for one in program.walk() if one.path[:-1] == command.path[:-1] or one.path[:-1] == command.path]


def _codes() -> Iterator[str]:
    yield ".TP"
    yield "0"
    yield "Done and current."
    told: set[int] = set()
    for error in sorted(tree()[1:], key=lambda one: one.exit_code):
        if error.exit_code not in told and error.exit_code in NEXT and error.__module__ == "coldchain.errors":
            told.add(error.exit_code)
            what = (error.__doc__ or "").split("\n\n")[0].replace("\n", " ")
            yield ".TP"
            yield str(error.exit_code)
            yield _text(" ".join(what.split()))


def _text(text: str) -> str:
    """Text that no formatter takes for an instruction."""
    out = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("…", "...").replace("`", r"\(ga")
    out = "".join(c if ord(c) < 128 else rf"\[u{ord(c):04X}]" for c in out)
    return rf"\&{out}" if out.startswith(".") else out


def write(folder: Path) -> None:
    """Writes every page, and removes those of commands that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    found = pages()
    for name, text in found.items():
        (folder / name).write_text(text, encoding="ascii")
    for path in folder.glob("*.1"):
        if path.name not in found:
            path.unlink()


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
