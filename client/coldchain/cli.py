"""``coldchain``: the customers' command line.

Results go to stdout, errors to stderr as what failed, what was kept and what to do next; with ``--json`` stdout holds exactly one
JSON object, an error's too. Exit codes are those of :mod:`coldchain.errors` (``docs/exit-codes.md``); 0 means done and current.
Progress is shown on a terminal only. Nothing here decides anything: the rooms below do.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence

import coldchain
from coldchain.commands import terminal
from coldchain.commands.command import Command, Found, shown
from coldchain.commands.view import View
from coldchain.errors import ColdchainError, StorageError


def main(words: Sequence[str] | None = None) -> None:
    """Runs a command line and exits with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a terminal that lacks a letter gets its number, not a traceback
    sys.exit(run(words))


def run(words: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit code.

    Args:
        words: the command line without the program's name; None for the process's own.
    """
    words = list(sys.argv[1:] if words is None else words)
    as_json = "--json" in words
    try:
        # here and not above: loading takes a moment, and who interrupts it wants no traceback either
        from coldchain.commands import elsewhere

        lacking = elsewhere.lacking(words)
        if lacking is not None:
            raise lacking
        options = _parser(words).parse_args(words)
        command: Command = options.command
        as_json = options.json
        found = command(options)
    except ColdchainError as refused:
        found = {}, "", refused
    except BrokenPipeError:
        raise
    except OSError as refused_by_system:
        # what no room expects, such as no more open files before the work has begun
        what = f"{refused_by_system.filename or 'the system'}: {refused_by_system.strerror or refused_by_system}"
        kept = "what was installed stays in use"
        found = {}, "", StorageError(what, kept=kept, todo="check the disk, permissions and open files")
    except KeyboardInterrupt:
        print("coldchain: interrupted; what was installed stays in use", file=sys.stderr)
        return 130
    return _told(found, as_json)


def _told(answer: Found, as_json: bool) -> int:
    """Shows an answer; returns the exit code."""
    found, said, error = answer
    if error is not None:
        found = {**found, **error.as_json()}
    unsaid = _answer(json.dumps(found, indent=1, sort_keys=True) + "\n" if as_json else _words(said, error))
    error = error or unsaid
    if error is None:
        return 0
    drawn = terminal.draw_error(error.explain(), sys.stderr) if terminal.is_terminal(sys.stderr) else None
    print((drawn or f"coldchain: {shown(error.explain())}").rstrip("\n"), file=sys.stderr)
    return error.exit_code


def _words(said: str | View, error: ColdchainError | None) -> str:
    """What a person gets on stdout: laid out on a terminal where that can be done, else plain."""
    if isinstance(said, View) and terminal.is_terminal(sys.stdout):
        drawn = terminal.draw(said, sys.stdout)
        if drawn is not None:
            return drawn
    text = shown(said if isinstance(said, str) else said.plain())
    return text and text + "\n" if error is not None else text + "\n"


def _answer(text: str) -> ColdchainError | None:
    """Writes the answer; returns why it cannot be had. Whoever stops reading, or closed stdout, has enough."""
    if sys.stdout is None:
        return None
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as refused:
        # what is still buffered must not fail a second time when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(refused, BrokenPipeError):
            words = f"the answer cannot be written: {refused.strerror or refused}"
            return StorageError(words, kept="what the command did stands", todo="check where its output goes")
    return None


def command_line() -> argparse.ArgumentParser:
    """The program's own commands: what ``--help`` shows, and man pages and completions are made from."""
    return _parser(None)


def _parser(words: Sequence[str] | None) -> argparse.ArgumentParser:
    from coldchain.commands import agent, approvals, content, elsewhere, endpoint, mirroring, packs, receipts, watching

    parser = argparse.ArgumentParser(
        prog="coldchain",
        description="Fetches, verifies and installs signed anti-virus signature sets.",
        epilog="Exit codes: 0 done and current; every cause of failure has its own (docs/exit-codes.md).",
    )
    parser.add_argument("--version", action="version", version=f"coldchain {coldchain.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Command, help_: str, example: str) -> argparse.ArgumentParser:
        one = commands.add_parser(
            name,
            help=help_,
            description=help_[0].upper() + help_[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.add_argument("--json", action="store_true", help="one JSON object on stdout")
        one.set_defaults(command=run)
        return one

    for module in (endpoint, agent, content, packs, mirroring, receipts, approvals, watching):
        module.add(command)
    if words is not None and (not words or words[0] not in commands.choices):
        elsewhere.add(command)
    return parser


if __name__ == "__main__":
    main()
