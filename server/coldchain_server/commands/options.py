"""What all commands share: options, the passphrase, and how answers are printed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from coldchain.errors import KeyringError
from coldchain_server.home import Home
from coldchain_server.signing.keyring import Keyring

T = TypeVar("T")
PASSPHRASE = "COLDCHAIN_PASSPHRASE"  # noqa: S105  the variable's name


def example(text: str) -> str:
    """The epilogue of a help page."""
    return f"\b\nExample:\n  {text}"


home_option = click.option(
    "--home",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="COLDCHAIN_HOME",
    default=Path(),
    help="The origin's directory (or COLDCHAIN_HOME; else the current one).",
)
JSON = "coldchain.json"  # where a command's context says that its answer, or its error, is wanted as JSON


def _wants_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    ctx.meta[JSON] = value
    return value


json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    callback=_wants_json,
    help="Print one JSON object instead of text.",
)
number_argument = click.argument("number", type=click.IntRange(1, 2**53 - 1))  # what signed JSON can hold
_F = TypeVar("_F", bound=Callable[..., Any])


def listening_options(port: int) -> Callable[[_F], _F]:
    """Where a server listens, and by which certificate: ``host``, ``port`` (with its default), ``tls_cert`` and ``tls_key``."""
    file = click.Path(path_type=Path, dir_okay=False, exists=True)
    options = (
        click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
        click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=port,
            show_default=True,
            help="TCP port; 0 takes a free one.",
        ),
        click.option("--tls-cert", type=file, help="PEM certificate chain: serve HTTPS."),
        click.option("--tls-key", type=file, help="Its private key, if in a file of its own."),
    )

    def add(command: _F) -> _F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


channel_option = click.option("--channel", default="stable", show_default=True, help="The channel.")


def shown(text: str) -> str:
    """Text as a terminal may have it: what stands in feeds must not move its cursor or change its colours."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def passphrase(confirm: bool = False) -> Callable[[], str]:
    """Asks for the passphrase when it is needed. Raises KeyringError where nobody can be asked."""

    def ask() -> str:
        found = os.environ.get(PASSPHRASE)
        if found is not None:
            return found
        if not sys.stdin.isatty():
            raise KeyringError("the keys need their passphrase", todo=f"set {PASSPHRASE}, or run on a terminal")
        answer: str = click.prompt("Passphrase of the keys", hide_input=True, confirmation_prompt=confirm)
        return answer

    return ask


def keyring_of(home: Home) -> Keyring:
    """The origin's keyring."""
    return Keyring(home.keys, passphrase())


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end."""
    return asyncio.run(work)


def out(value: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    """One JSON object, or lines for a person."""
    click.echo(json.dumps(value, sort_keys=True) if as_json else shown("\n".join(lines)))


def say(line: str) -> None:
    """Progress: on a terminal only."""
    if sys.stderr.isatty():
        click.echo(f"  {shown(line)}", err=True)
