"""The program's top level: turns errors into exit codes, whatever command they come from."""

from __future__ import annotations

import json
from typing import Any

import click

from coldchain.errors import ColdchainError, StorageError
from coldchain_server.commands.options import JSON, shown

_INTERRUPTED = 130  # as shells number it


class Commands(click.Group):
    """Turns the project's errors into their exit codes and three lines for a person, or JSON."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; see the class."""
        try:
            return super().invoke(ctx)
        except ColdchainError as error:
            found = error
        except KeyboardInterrupt:
            click.echo("coldchain-server: interrupted; what is published stands", err=True)
            raise click.exceptions.Exit(_INTERRUPTED) from None
        except BrokenPipeError:
            raise  # click ends quietly: whoever read our words has enough
        except OSError as error:
            found = StorageError(
                f"{error.filename or 'a file'}: {error.strerror or error}", todo="check the disk and permissions"
            )
        if ctx.meta.get(JSON):
            click.echo(json.dumps(found.as_json(), sort_keys=True))
        click.echo(f"coldchain-server: {shown(found.explain())}", err=True)
        raise click.exceptions.Exit(found.exit_code)
