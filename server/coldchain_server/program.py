"""The program ``coldchain-server``. It loads what the command needs that the arguments name, and every command for help and the rest.

On an edge no room that knows keys is ever imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import click

MODULES: Final = {
    "feed": "feeds",
    "keys": "keys",
    "region": "regions",
    "release": "releases",
    "reports": "reports",
    "residency": "residency",
    "rollout": "rollouts",
    "suppress": "fast_path",
    "withdraw": "fast_path",
    "witness": "witness",
}
"""The commands that stand in a module of their own (:mod:`coldchain_server.commands`)."""


def main() -> None:
    """Runs the command that the arguments name."""
    if sys.argv[1:2] == ["edge"]:
        from coldchain_server.commands.edge import alone as an_edge

        an_edge()
        return
    one = alone(sys.argv[1:])
    if one is None:
        from coldchain_server.cli import main as every_command

        every_command()
        return
    import click

    import coldchain
    from coldchain_server.commands.group import Commands

    program = Commands(commands=[one], context_settings={"help_option_names": ["-h", "--help"]})
    click.version_option(coldchain.__version__, prog_name="coldchain-server")(program)()


def alone(words: Sequence[str]) -> click.Command | None:
    """The one command that these arguments need; None where they need others too."""
    if not words or words[0] not in MODULES:
        return None
    command: click.Command = getattr(
        importlib.import_module(f"coldchain_server.commands.{MODULES[words[0]]}"), words[0]
    )
    below = getattr(command, "commands", None)  # some of them are from other modules
    return command if below is None or (len(words) > 1 and words[1] in below) else None
