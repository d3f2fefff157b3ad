"""What every command of ``coldchain`` is made of: a function that finds something out, and how it joins the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeAlias

from coldchain.canonical import Object
from coldchain.commands.view import View
from coldchain.errors import ColdchainError, DamagedError, MalformedError, UsageError
from coldchain.install.directory import normal_url, read_file
from coldchain.limits import LIMITS
from coldchain.tlog.policy import parse_policy
from coldchain.tuf.trusted_set import pinned_root

Found: TypeAlias = tuple[Object, str | View, ColdchainError | None]
"""What a command found, for ``--json`` and for a person, and the error to end with."""

Command: TypeAlias = Callable[[argparse.Namespace], Found]


class Add(Protocol):
    """Adds a command to the command line and returns its parser, for its own arguments. ``--json`` is there already."""

    def __call__(self, name: str, run: Command, help_: str, example: str) -> argparse.ArgumentParser:
        """``help_`` is one sentence without a full stop, ``example`` a whole command line."""


def endpoint_argument(parser: argparse.ArgumentParser) -> None:
    """The first argument of commands about an endpoint."""
    parser.add_argument("directory", metavar="DIR", help="the endpoint's directory")


def release_number(text: str) -> int:
    """An argument that is a release's number."""
    if not text.isascii() or not text.isdecimal() or len(text) > 15 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a release number")
    return int(text)


def whole_number(text: str) -> int:
    """An argument that is a number of things, none among them."""
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 0 on")
    return int(text)


def base_url(text: str) -> str:
    """An argument that is a base URL or a directory."""
    try:
        return normal_url(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(error.what) from error


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


def time_words(time: datetime | None) -> str:
    """A time for a person."""
    return f"{time:%Y-%m-%d %H:%M} UTC" if time else "never"


def shown(text: str) -> str:
    """Text as a terminal may have it: signatures and servers' words must not move its cursor or change its colours."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def root_file(name: str) -> bytes:
    """The pinned root.json that an option names.

    Raises:
        UsageError: it is no file, or no root.
    """
    data = read_file(Path(name), LIMITS.root_bytes)
    if data is None:
        raise UsageError(f"{name} is not a readable file", todo="give the root.json you got from the publisher")
    try:
        pinned_root(data)
    except DamagedError as error:
        raise UsageError(f"{name} is not a good root: {error.what}", todo="get it again") from error
    return data


def own_policy(name: str) -> bytes:
    """The customer's own log policy that an option names.

    Raises:
        UsageError: it is no file, or no policy.
    """
    data = read_file(Path(name), LIMITS.log_policy_bytes)
    if data is None:
        raise UsageError(f"{name} is not a readable file", todo="give a C2SP log policy")
    try:
        parse_policy(data)
    except MalformedError as error:
        raise UsageError(f"{name}: {error.what}", todo="a policy has log, witness, group and quorum lines") from error
    return data
