"""``coldchain``: the customers' command line.

Results go to stdout, errors to stderr as what failed, what was kept and what to do next; with ``--json`` stdout holds exactly one
JSON object, an error's too. Exit codes are those of :mod:`coldchain.errors` (``docs/exit-codes.md``); 0 means done and current.
Progress is shown on a terminal only. Nothing here decides anything: the rooms below do.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

import coldchain
from coldchain.commands import content, endpoint, packs, receipts
from coldchain.commands.command import Command
from coldchain.errors import ColdchainError

COMMANDS = (endpoint, content, packs, receipts)


def main(words: Sequence[str] | None = None) -> None:
    """Runs a command line and exits with its code."""
    sys.exit(run(words))


def run(words: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit code.

    Args:
        words: the command line without the program's name; None for the process's own.
    """
    options = _parser().parse_args(words)
    command: Command = options.command
    try:
        found, text, error = command(options)
    except ColdchainError as refused:
        found, text, error = {}, "", refused
    except KeyboardInterrupt:
        print("coldchain: interrupted; what was installed stays in use", file=sys.stderr)
        return 130
    if error is not None:
        found = {**found, **error.as_json()}
        text = text and text + "\n"
    try:
        print(
            json.dumps(found, indent=1, sort_keys=True) if options.json else shown(text),
            end="" if error and not options.json else "\n",
        )
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error is None:
        return 0
    print(f"coldchain: {shown(error.explain())}", file=sys.stderr)
    return error.exit_code


def shown(text: str) -> str:
    """Text as a terminal may have it: signatures and servers' words must not move its cursor or change its colours."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _parser() -> argparse.ArgumentParser:
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

    for module in COMMANDS:
        module.add(command)
    return parser


if __name__ == "__main__":
    main()
