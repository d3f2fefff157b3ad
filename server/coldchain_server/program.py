"""The program ``coldchain-server``. On an edge it loads what an edge needs: no room that knows keys is ever imported there."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command that the arguments name."""
    if sys.argv[1:2] == ["edge"]:
        from coldchain_server.commands.edge import alone

        alone()
    else:
        from coldchain_server.cli import main as every_command

        every_command()
