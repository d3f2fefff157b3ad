"""``coldchain``: the customers' command line.

Results go to stdout, errors to stderr as what failed, what was kept and what to do next; with ``--json`` stdout holds exactly one
JSON object, an error's too. Exit codes are those of :mod:`coldchain.errors` (``docs/exit-codes.md``); 0 means done and current.
Progress is shown on a terminal only. Nothing here decides anything: the rooms below do.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import coldchain
from coldchain.bundle.description import check_token
from coldchain.canonical import Object
from coldchain.errors import ColdchainError, DamagedError, MalformedError, NotInstalledError, StaleError, UsageError
from coldchain.explain import Place, explain
from coldchain.install import trusted, versions
from coldchain.install.audit import audit, running
from coldchain.install.compare import SectionDifference, compare
from coldchain.install.directory import ClientDirectory, Config, check_region, normal_url, read_file, urls
from coldchain.install.status import Status, status
from coldchain.install.versions import Version
from coldchain.limits import LIMITS

Command = Callable[[argparse.Namespace], tuple[Object, str, ColdchainError | None]]
"""Returns what it found, for ``--json`` and for a person, and the error to end with."""


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


def _now() -> datetime:
    return datetime.now(UTC)


def _time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC" if time else "never"


# -- init ------------------------------------------------------------------------------------------------------------


def _init(options: argparse.Namespace) -> tuple[Object, str, ColdchainError | None]:
    directory = ClientDirectory(Path(options.directory))
    data = read_file(Path(options.root), LIMITS.root_bytes)
    if data is None:
        raise UsageError(f"{options.root} is not a readable file", todo="give the root.json you got from the publisher")
    try:
        region = check_region(options.region)
        product, channel = check_token(options.product, "product"), check_token(options.channel, "channel")
    except MalformedError as error:
        raise UsageError(error.what) from error
    fingerprint = hashlib.sha256(data).hexdigest()
    if options.fingerprint and options.fingerprint.lower().replace(":", "") != fingerprint:
        raise UsageError(
            f"{options.root} has the fingerprint {fingerprint}, not the one you gave",
            todo="do not use this file; get root.json and its fingerprint over two different ways",
        )
    config = Config(product, region, channel, fingerprint, urls(options.url))
    directory.make()
    with directory.locked():
        directory.sweep()
        _check_same(directory, config)
        try:
            root = trusted.pin(directory, data)
        except DamagedError as error:
            raise UsageError(f"{options.root} is not a good root: {error.what}", todo="get it again") from error
        directory.write_config(config)
    text = (
        f"{directory.path} follows product {product}, region {region}, channel {channel}\n"
        f"pinned root: version {root.version}, fingerprint {fingerprint}\n"
        "  compare the fingerprint with the one the publisher tells you over another way\n"
        f"next: coldchain update {directory.path}"
    )
    return {"directory": str(directory.path), "root": fingerprint, "root_version": root.version}, text, None


def _check_same(directory: ClientDirectory, config: Config) -> None:
    """A directory that holds a set goes on to follow what it followed; new URLs and a new root are in order."""
    try:
        old = directory.config()
    except (NotInstalledError, DamagedError):
        return
    followed = (old.product, old.region, old.channel)
    if followed != (config.product, config.region, config.channel) and directory.current.is_symlink():
        raise UsageError(
            f"{directory.path} follows {' '.join(followed)} and holds a set of it",
            kept="nothing was changed",
            todo="use another directory",
        )


# -- update ----------------------------------------------------------------------------------------------------------


def _update(options: argparse.Namespace) -> tuple[Object, str, ColdchainError | None]:
    import asyncio

    from coldchain.agent.update import Settings, update

    settings = Settings(
        urls=urls(options.url) if options.url else None,
        repair=options.repair,
        progress=_progress if sys.stderr.isatty() and not options.json else _silent,
    )
    done = asyncio.run(update(ClientDirectory(Path(options.directory)), settings))
    size = f"{done.bytes_down:,} bytes, {done.requests} request{'s' if done.requests != 1 else ''}"
    if done.action == "current":
        text = f"current: release {done.release} is the newest ({done.check} check: {size})"
    else:
        before = f", was {done.previous}" if done.previous else ""
        way = "as a delta" if done.way == "delta" else "as the full bundle"
        text = f"{done.action}: release {done.release}{before}, {way}, every byte as signed ({size})"
        if done.fallback:
            text += f"\n  the delta was given up for the full bundle: {done.fallback}"
        text += f"\n  engines load {Path(options.directory) / 'current'}"
    return done.as_json(), text, None


def _progress(there: int, length: int) -> None:
    width = 30
    full = width * there // max(length, 1)
    end = "\r\x1b[K" if there >= length else ""
    sys.stderr.write(f"\r[{'#' * full}{'.' * (width - full)}] {there:,} of {length:,} bytes{end}")
    sys.stderr.flush()


def _silent(_there: int, _length: int) -> None:
    return


# -- status and verify -----------------------------------------------------------------------------------------------


def _status(options: argparse.Namespace) -> tuple[Object, str, ColdchainError | None]:
    directory = ClientDirectory(Path(options.directory))
    found = status(directory, _now())
    text = "\n".join(
        [
            f"release      {found.release or 'none yet'}"
            + (f" (before it {found.previous.release}, kept)" if found.previous else ""),
            f"follows      product {found.config.product}, region {found.config.region}, channel {found.config.channel}",
            f"newest known {found.offered or 'none'}; rollout: {found.rollout}",
            f"fresh        {'NO, since' if found.stale else 'until'} {_time(found.good_until)}",
            f"last check   {_time(found.state.last_success)}, last full one {_time(found.state.last_full)}",
            f"engines load {directory.current}",
        ]
    )
    return found.as_json(), text, _status_error(directory, found)


def _status_error(directory: ClientDirectory, found: Status) -> ColdchainError | None:
    kept = f"release {found.release} stays in use"
    if found.version is None:
        return NotInstalledError("nothing is installed yet", todo=f"run `coldchain update {directory.path}`")
    if found.damage:
        return DamagedError(found.damage, kept=kept, todo=f"run `coldchain update {directory.path} --repair`")
    if found.stale:
        what = f"the metadata expired: {_time(found.good_until)}"
        return StaleError(what, kept=kept, todo=f"run `coldchain update {directory.path}`; is the clock right?")
    return None


def _verify(options: argparse.Namespace) -> tuple[Object, str, ColdchainError | None]:
    found = audit(ClientDirectory(Path(options.directory)), _now())
    lines = [f"{'ok  ' if check.ok else 'BAD '} {check.name}: {check.detail}" for check in found.checks]
    lines += [f"note {note}" for note in found.notes]
    if found.error is None:
        lines.append(f"release {found.release} is exactly what was signed ({len(found.checks)} checks)")
    data: Object = {
        "release": found.release,
        "ok": found.error is None,
        "checks": [{"name": check.name, "detail": check.detail, "ok": check.ok} for check in found.checks],
        "notes": list(found.notes),
    }
    return data, "\n".join(lines), found.error


# -- diff and explain --------------------------------------------------------------------------------------------------


def _diff(options: argparse.Namespace) -> tuple[Object, str, ColdchainError | None]:
    directory = ClientDirectory(Path(options.directory))
    directory.config()
    old, new = _installed(directory, options.old), _installed(directory, options.new)
    found = compare(old, new)
    data: Object = {"from": old.release, "to": new.release, "sections": [one.as_json() for one in found]}
    if not found:
        return data, f"release {old.release} -> {new.release}: no section differs but for the canary", None
    width = max(len(one.name) for one in found)
    lines = [f"release {old.release} -> {new.release}: {len(found)} section{'s' * (len(found) > 1)} differ"]
    for one in found:
        lines += _section_lines(one, width, options.names)
    for what in ("added", "removed", "changed"):
        lines.append(f"{sum(getattr(one, what) for one in found):>8,} {what}")
    return data, "\n".join(lines), None


def _section_lines(found: SectionDifference, width: int, most: int) -> list[str]:
    note = "" if found.what == "changed" else f"  (section {found.what})"
    lines = [f"  {found.name:<{width}}  +{found.added:,} -{found.removed:,} ~{found.changed:,}{note}"]
    for sign, count, names in (
        ("+", found.added, found.added_names),
        ("-", found.removed, found.removed_names),
        ("~", found.changed, found.changed_names),
    ):
        lines += [f"      {sign} {name[:200]}" for name in names[:most]]
        if names and count > most:
            lines.append(f"      {sign} … {count - min(most, len(names)):,} more")
    return lines


def _installed(directory: ClientDirectory, release: int) -> Version:
    """The kept version of that number.

    Raises:
        NotInstalledError: it is not kept here.
    """
    kept = versions.installed(directory)
    for version in kept:
        if version.release == release:
            return version
    here = " and ".join(str(version.release) for version in sorted(kept, key=lambda one: one.release)) or "none"
    raise NotInstalledError(
        f"release {release} is not kept here; releases that are: {here}",
        todo="an endpoint keeps what runs and what ran before it; ask about those",
    )


def _explain(options: argparse.Namespace) -> tuple[Object, str, ColdchainError | None]:
    directory = ClientDirectory(Path(options.directory))
    directory.config()
    found = explain(directory, running(directory), options.name)
    place = f"release {found.release} of region {found.region}"
    if found.places:
        lines = [f"{found.name} is in {place}:"]
        for one in found.places:
            lines += _place_lines(one)
        error = None
    else:
        lines = [f"{found.name} is not in {place}"] if found.policies else []
        error = NotInstalledError(
            f"no signature named {found.name!r} is in {place}",
            todo="compare the spelling; an engine may report a name of its own or of another vendor",
        )
    if found.policies:
        # The name was left out (or added) on purpose and in public: that is an answer, not a failure.
        error = None
        lines += [f"  policy of region {found.region}: {one.action}, because: {one.reason}" for one in found.policies]
    return found.as_json(), "\n".join(lines), error


def _place_lines(place: Place) -> list[str]:
    lines = [f"  in {place.section}", *[f"    {words}" for words in place.words]]
    shown = [line if len(line) <= 300 else f"{line[:300]}…" for line in place.line.splitlines()]
    lines += [f"    | {line}" for line in shown]
    lines += [f"    sigtool: {line}" for line in (place.sigtool or "").splitlines() if line.strip()]
    return lines


# -- the command line ------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coldchain",
        description="Fetches, verifies and installs signed anti-virus signature sets.",
        epilog="Exit codes: 0 done and current; every cause of failure has its own (docs/exit-codes.md).",
    )
    parser.add_argument("--version", action="version", version=f"coldchain {coldchain.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run_: Command, help_: str, example: str) -> argparse.ArgumentParser:
        one = commands.add_parser(
            name,
            help=help_,
            description=help_[0].upper() + help_[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.add_argument("directory", metavar="DIR", help="the endpoint's directory")
        one.add_argument("--json", action="store_true", help="one JSON object on stdout")
        one.set_defaults(command=run_)
        return one

    init = command(
        "init",
        _init,
        "pin a root and say which region and channel to follow",
        "coldchain init /var/lib/coldchain --root root.json --region us --url https://coldchain.example",
    )
    init.add_argument(
        "--root", required=True, metavar="FILE", help="the publisher's root.json: what everything hangs on"
    )
    init.add_argument("--fingerprint", metavar="HEX", help="SHA-256 that FILE must have")
    init.add_argument("--region", required=True, help="e.g. us")
    init.add_argument("--channel", default="stable", help="stable (default) or early")
    init.add_argument("--product", default="coldchain", help=argparse.SUPPRESS)
    init.add_argument(
        "--url", required=True, action="append", type=_url, help="base URL or directory; more than one: in order"
    )
    change = command(
        "update",
        _update,
        "poll, and fetch, verify and install what is new",
        "coldchain update /var/lib/coldchain",
    )
    change.add_argument("--url", action="append", type=_url, help="for this run, instead of the configured ones")
    change.add_argument("--repair", action="store_true", help="install the release anew from its full bundle")
    command("status", _status, "say what runs and how fresh it is", "coldchain status /var/lib/coldchain --json")
    command(
        "verify",
        _verify,
        "check every installed byte against what is signed, offline",
        "coldchain verify /var/lib/coldchain",
    )
    diff = command(
        "diff",
        _diff,
        "show the records added, removed and changed between two kept releases, by section",
        "coldchain diff /var/lib/coldchain 41 42",
    )
    diff.add_argument("old", metavar="M", type=_release, help="the earlier release")
    diff.add_argument("new", metavar="N", type=_release, help="the later release")
    diff.add_argument(
        "--names", metavar="K", type=int, default=5, help="show at most K names of each sort a section (default 5)"
    )
    about = command(
        "explain",
        _explain,
        "say what a signature looks for and where it stands, or why the region does not have it",
        "coldchain explain /var/lib/coldchain Acme.Test.Fileinfector-7",
    )
    about.add_argument("name", metavar="NAME", help="as an engine reports it, with or without .UNOFFICIAL")
    return parser


def _release(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 15 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a release number")
    return int(text)


def _url(text: str) -> str:
    try:
        return normal_url(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(error.what) from error


if __name__ == "__main__":
    main()
