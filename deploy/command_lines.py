"""Both programs' command lines as data, read off the parsers that answer ``--help``: man pages and completions are made from it.

A command is a path of words; what it takes stands in the order that ``--help`` shows::

    Command(path=("coldchain", "pack"), about="Fetch and verify …", usage="[-h] [--json] --root FILE …", example="coldchain pack …",
            options=[Option(flags=("--root",), value="FILE", about="the publisher's root.json", required=True), …],
            arguments=[Argument(name="URL", about="a server, a mirror, …")])
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field

import click

import coldchain
from coldchain.cli import command_line
from coldchain_server.cli import main as server_command_line

VERSION = coldchain.__version__


@dataclass(frozen=True)
class Option:
    """``flags`` as they are typed; ``value`` is what follows them, empty for a switch; ``choices`` if it is one of few."""

    flags: tuple[str, ...]
    value: str
    about: str
    required: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Argument:
    """A word without a flag."""

    name: str
    about: str


@dataclass(frozen=True)
class Command:
    """One command, or a program with its commands below it."""

    path: tuple[str, ...]
    about: str
    more: str
    usage: str
    example: str
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...]
    commands: tuple[Command, ...] = field(default=())

    @property
    def page(self) -> str:
        """The man page's name: ``coldchain-server-release-build``."""
        return "-".join(self.path)

    def walk(self) -> Iterator[Command]:
        """This one and all below it."""
        yield self
        for one in self.commands:
            yield from one.walk()


def client() -> Command:
    """``coldchain``, as it is when nothing else is installed beside it."""
    parser = command_line()
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=10_000)
    (below,) = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    commands = tuple(
        _of_argparse(("coldchain", name), one)
        for name, one in below.choices.items()  # in the order of --help
    )
    return Command(
        ("coldchain",),
        _sentence(parser.description or ""),
        _sentence(parser.epilog or ""),
        "[-h] [--version] COMMAND …",
        "",
        tuple(_options(parser)),
        (),
        commands,
    )


def _of_argparse(path: tuple[str, ...], parser: argparse.ArgumentParser) -> Command:
    example = (parser.epilog or "").removeprefix("example:\n")
    arguments = tuple(
        Argument(str(one.metavar or one.dest), _about(one))
        for one in parser._actions
        if not one.option_strings and one.help != argparse.SUPPRESS
    )
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=10_000)
    usage = parser.format_usage().removeprefix(f"usage: {' '.join(path)}").strip()
    return Command(
        path,
        _sentence(parser.description or ""),
        "",
        usage,
        "\n".join(line.strip() for line in example.splitlines() if line.strip()),
        tuple(_options(parser)),
        arguments,
    )


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    for one in parser._actions:
        if not one.option_strings or one.help == argparse.SUPPRESS:
            continue
        value = "" if one.nargs == 0 else str(one.metavar or one.dest.upper())
        flags = tuple(sorted(one.option_strings, key=lambda flag: (len(flag) > 2, flag.startswith("--no-"))))
        yield Option(flags, value, _about(one), one.required, tuple(map(str, one.choices or ())))


def _about(action: argparse.Action) -> str:
    about = (action.help or "") % {"prog": "coldchain", "default": action.default}
    return " ".join(about.split())


def server() -> Command:
    """``coldchain-server``."""
    return _of_click(("coldchain-server",), server_command_line, None)


def _of_click(path: tuple[str, ...], command: click.Command, above: click.Context | None) -> Command:
    settings = {**command.context_settings, "max_content_width": 10_000}
    context = click.Context(command, info_name=path[-1], parent=above, **settings)
    first, _, more = (command.help or "").replace("\b\n", "").partition("\n\n")
    formatter = context.make_formatter()
    formatter.width = 10_000
    command.format_usage(context, formatter)
    usage = formatter.getvalue().partition(" ".join(path))[2].strip()
    options, arguments = [], []
    for one in command.get_params(context):
        if isinstance(one, click.Option) and not one.hidden:
            options.append(_click_option(one, context))
        elif isinstance(one, click.Argument):
            arguments.append(Argument(one.make_metavar(context), ""))
    below: tuple[Command, ...] = ()
    if isinstance(command, click.Group):
        found = ((name, command.get_command(context, name)) for name in command.list_commands(context))
        below = tuple(
            _of_click((*path, name), one, context) for name, one in found if one is not None and not one.hidden
        )
    example = (command.epilog or "").replace("\b", "").strip().removeprefix("Example:")
    return Command(
        path,
        _sentence(" ".join(first.split())),
        "\n\n".join(" ".join(part.split()) for part in more.split("\n\n")).strip(),
        usage,
        "\n".join(line.strip() for line in example.splitlines() if line.strip()),
        tuple(options),
        tuple(arguments),
        below,
    )


def _click_option(one: click.Option, context: click.Context) -> Option:
    flags = tuple(sorted((*one.opts, *one.secondary_opts), key=lambda flag: len(flag) > 2))
    value = "" if one.is_flag or one.count else one.make_metavar(context)
    record = one.get_help_record(context)
    choices = tuple(map(str, one.type.choices)) if isinstance(one.type, click.Choice) else ()
    return Option(flags, value, " ".join((record[1] if record else "").split()), one.required, choices)


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if not text or text.endswith((".", ")")) else f"{text}."
