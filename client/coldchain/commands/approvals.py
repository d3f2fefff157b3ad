"""``coldchain approve``: the customer's own security team lets its endpoints apply a release that it has verified."""

from __future__ import annotations

import argparse
from pathlib import Path

from coldchain.approval import approve, check_approval, file_name
from coldchain.canonical import Object
from coldchain.commands.command import Add, Found, release_number, utc_now
from coldchain.errors import MalformedError, UsageError
from coldchain.install import trusted
from coldchain.install.audit import audit, running
from coldchain.install.directory import ClientDirectory
from coldchain.install.durable import open_folder
from coldchain.install.endpoint_key import new_key, read_key
from coldchain.keys import PublicKey
from coldchain.tlog.vkey import Kind, NoteKey, check_key_name


def add(command: Add) -> None:
    """Adds the command."""
    parser = command(
        "approve",
        _approve,
        "verify the installed release again and sign that your own endpoints may apply it",
        "coldchain approve --new-key team.pem --name security.example.com/fleet\n"
        "  coldchain approve /var/lib/coldchain-staging 42 --key team.pem --name security.example.com/fleet "
        "-o us-stable-42.approval",
    )
    parser.add_argument("directory", metavar="DIR", nargs="?", help="an endpoint's directory where the release runs")
    parser.add_argument("release", metavar="N", nargs="?", type=release_number, help="the release that is approved")
    parser.add_argument("--key", metavar="FILE", help="the team's key")
    parser.add_argument("--name", metavar="NAME", required=True, help="the key's name, e.g. security.example.com/fleet")
    parser.add_argument("--new-key", metavar="FILE", help="make a key, and nothing else")
    parser.add_argument(
        "-o", "--output", metavar="FILE|DIR", help="write the approval there; in a directory under its own name"
    )


def _approve(options: argparse.Namespace) -> Found:
    if options.new_key:
        if options.directory or options.key or options.output:
            raise UsageError("--new-key makes a key and nothing else", todo="give it with --name alone")
        return _new_key(Path(options.new_key), options.name)
    if not options.directory or options.release is None or not options.key or not options.output:
        raise UsageError(
            "an approval takes DIR, N, --key FILE and -o FILE", todo="`coldchain approve --help` shows one"
        )
    signing = read_key(Path(options.key))
    _check_name(options.name)
    key = NoteKey(options.name, Kind.ED25519, PublicKey(bytes(signing.verify_key)))
    directory, now = ClientDirectory(Path(options.directory)), utc_now()
    audited = audit(directory, now)
    if audited.error is not None:
        audited.error.what = f"nothing is approved that is not in order: {audited.error.what}"
        audited.error.args = (audited.error.what,)
        raise audited.error
    if audited.release != options.release:
        raise UsageError(
            f"release {audited.release} runs in {directory.path}, not {options.release}",
            kept="nothing was signed",
            todo="update that endpoint, look at what it runs, and approve that",
        )
    evidence = trusted.read_evidence(directory, running(directory).name)
    release = trusted.kept_release(directory, directory.config(), evidence)
    data = approve(release, now).sign(key, lambda message: signing.sign(message).signature)
    check_approval(data, key, release)  # what is handed out is checked as whoever gets it will check it
    name, path = file_name(release.region, release.channel, release.release), Path(options.output)
    path = path / name if path.is_dir() else path
    with open_folder(path.parent) as folder:
        folder.write(path.name, data)
    text = (
        f"release {release.release} was verified again ({len(audited.checks)} checks) and is approved\n"
        f"{path}: signed by {key.name}, bundle {release.bundle}\n"
        f"  endpoints look for it as {trusted.APPROVALS}/{name} in their directory, and as {name} at the approval.url of policy.toml"
    )
    shown: Object = {
        "file": str(path),
        "name": name,
        "release": release.release,
        "bundle": release.bundle,
        "key": key.vkey,
        "checks": len(audited.checks),
    }
    return shown, text, None


def _new_key(path: Path, name: str) -> Found:
    _check_name(name)  # before there is a file
    key = NoteKey(name, Kind.ED25519, new_key(path))
    text = (
        f"{path}: a new Ed25519 key, readable by its owner alone; keep it where the publisher and the fleet cannot reach it\n"
        "in policy.toml of the endpoints:\n"
        "  [approval]\n"
        f'  key = "{key.vkey}"'
    )
    return {"file": str(path), "key": key.vkey}, text, None


def _check_name(name: str) -> None:
    """Raises UsageError for a name that a key cannot have."""
    try:
        check_key_name(name)
    except MalformedError as error:
        raise UsageError(
            error.what, todo="take a host name of yours and a path, e.g. security.example.com/fleet"
        ) from error
