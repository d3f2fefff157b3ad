"""Commands of ``coldchain`` that come with another distribution, because they need what the verifier must not.

A distribution offers them as entry points of the group ``coldchain.commands``; each names a function like the ``add`` of the modules
beside this one::

    [project.entry-points."coldchain.commands"]
    rebuild = "coldchain_server.rebuild.command:add"

They are looked for only when the command line asks for one (or for help), so that nothing foreign is loaded while an endpoint updates.
Only the names below are taken: what others install is no command of this program.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Final

from coldchain.commands.command import Add
from coldchain.errors import UsageError

GROUP: Final = "coldchain.commands"
DISTRIBUTIONS: Final = {"rebuild": "coldchain-server"}
"""Command -> the distribution that it comes with."""


def add(command: Add) -> None:
    """Adds those that are installed.

    Raises:
        UsageError: one is there and cannot be loaded.
    """
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda one: one.name):
        if point.name not in DISTRIBUTIONS:
            continue
        try:
            adding = point.load()
        except (ImportError, AttributeError) as error:
            raise UsageError(
                f"`coldchain {point.name}` cannot be loaded: {error}",
                todo=f"install {DISTRIBUTIONS[point.name]} again",
            ) from error
        adding(command)


def lacking(words: Sequence[str]) -> UsageError | None:
    """What to say when a command line asks for a command whose distribution is not installed; None when it does not."""
    name = words[0] if words else ""
    if name not in DISTRIBUTIONS or metadata.entry_points(group=GROUP, name=name):
        return None
    return UsageError(
        f"`coldchain {name}` needs {DISTRIBUTIONS[name]}, which is not installed here",
        todo=f"install it beside this program: pip install {DISTRIBUTIONS[name]}",
    )
