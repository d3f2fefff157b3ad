"""``coldchain receipt``: what this endpoint verified, for an auditor; and the check of one, offline."""

from __future__ import annotations

import argparse
from pathlib import Path

from coldchain import canonical
from coldchain.canonical import Object
from coldchain.commands.command import Add, Found, root_file, utc_now
from coldchain.commands.view import Checks, Lines, Listed, Verdict, view
from coldchain.errors import MalformedError, UsageError
from coldchain.install import public_log, trusted
from coldchain.install.audit import audit, running
from coldchain.install.directory import ROOT_POLICY, ClientDirectory, read_file
from coldchain.install.durable import open_folder
from coldchain.install.endpoint_key import new_key, read_key
from coldchain.keys import PublicKey
from coldchain.limits import LIMITS
from coldchain.receipt import Known, check_receipt, encode_receipt, make_receipt


def add(command: Add) -> None:
    """Adds these commands."""
    receipt = command(
        "receipt",
        _receipt,
        "write down what this endpoint verified, for an auditor to check with openssl, or check such a receipt",
        "coldchain receipt /var/lib/coldchain --sign endpoint.pem -o receipt.json\n"
        "  coldchain receipt --check receipt.json --root root.json",
    )
    receipt.add_argument("directory", metavar="DIR", nargs="?", help="the endpoint's directory")
    receipt.add_argument("-o", "--output", metavar="FILE", help="write the receipt there")
    receipt.add_argument("--sign", metavar="KEYFILE", help="sign it with this endpoint's key")
    receipt.add_argument("--new-key", metavar="FILE", help="make a key for --sign, and nothing else")
    receipt.add_argument("--check", metavar="FILE", help="check this receipt instead, offline")
    receipt.add_argument("--root", metavar="FILE", help="with --check: the root.json that it must hang on")
    receipt.add_argument("--key", metavar="HEX", help="with --check: the public key that must have signed it")


def _receipt(options: argparse.Namespace) -> Found:
    if options.check:
        if options.directory or options.sign or options.new_key or options.output:
            raise UsageError("--check FILE goes with --root and --key alone")
        return verify_receipt(Path(options.check), options.root, options.key)
    if options.root or options.key:
        raise UsageError("--root and --key go with --check FILE")
    if not options.directory:
        raise UsageError("neither an endpoint's directory nor --check FILE is given")
    if options.new_key:
        if options.sign or options.output:
            raise UsageError("--new-key makes a key and nothing else", todo="run it again without --new-key")
        return _new_key(options.directory, Path(options.new_key))
    return _make(ClientDirectory(Path(options.directory)), options)


def _new_key(directory: str, path: Path) -> Found:
    public = new_key(path)
    text = (
        f"{path}: a new Ed25519 key, readable by its owner alone\n"
        f"public half: {public.raw.hex()}\n"
        f"  give it to whoever checks the receipts of this endpoint\n"
        f"next: coldchain receipt {directory} --sign {path} -o receipt.json"
    )
    return {"file": str(path), "public": public.raw.hex()}, text, None


def _make(directory: ClientDirectory, options: argparse.Namespace) -> Found:
    key = read_key(Path(options.sign)) if options.sign else None
    now = utc_now()
    audited = audit(directory, now)
    if audited.error is not None:
        audited.error.what = f"no receipt for what is not in order: {audited.error.what}"
        audited.error.args = (audited.error.what,)
        raise audited.error
    receipt = make_receipt(_known(directory), now)
    sign = (PublicKey(bytes(key.verify_key)), lambda data: key.sign(data).signature) if key else None
    data = encode_receipt(receipt, sign)
    # What is handed out is checked as whoever gets it will check it.
    checked = check_receipt(data, now)
    if checked.error is not None:
        raise checked.error
    if options.output:
        path = Path(options.output)
        with open_folder(path.parent) as folder:
            folder.write(path.name, data)
    digest = canonical.read(data, "receipt")
    assert isinstance(digest, dict)  # it was just written so
    if options.output:
        end = f"{options.output}: {len(data):,} bytes; check it: coldchain receipt --check {options.output}"
    else:
        end = "write it down with -o FILE, or print it with --json"
    said = view(
        Verdict(f"release {audited.release} was verified again ({len(audited.checks)} checks)"),
        Listed(tuple(checked.checks)),
        Lines((end,)),
    )
    return digest, said, None


def _known(directory: ClientDirectory) -> Known:
    config = directory.config()
    number, pinned = trusted.pinned(directory, config)
    version = running(directory)
    evidence = trusted.read_evidence(directory, version.name)
    own = None
    if config.policy not in ("", ROOT_POLICY):
        with directory.folder() as here:
            own = here.read(public_log.POLICY, LIMITS.log_policy_bytes)
    return Known(
        product=config.product,
        region=config.region,
        channel=config.channel,
        pinned=pinned,
        later_roots=trusted.later_roots(evidence, number),
        evidence=evidence,
        description=version.describe(),
        policy=own,
    )


def verify_receipt(path: Path, root: str | None, key: str | None) -> Found:
    """The check of a receipt, for ``coldchain receipt --check`` and ``coldchain verify FILE``.

    Args:
        path: the receipt.
        root: the file of the root it must hang on; None takes the one it names.
        key: the public key that must have signed it, in hexadecimal; None takes any or none.

    Raises:
        UsageError: a file or a key that is none.
    """
    data = read_file(path, LIMITS.receipt_bytes)
    if data is None:
        raise UsageError(f"{path} is not a readable file", todo="give a receipt of `coldchain receipt`")
    signer = None
    if key is not None:
        try:
            signer = PublicKey(bytes.fromhex(key))
        except (ValueError, MalformedError) as error:
            raise UsageError(f"{key[:80]!r} is no public key in hexadecimal") from error
    found = check_receipt(data, utc_now(), pinned=root_file(root) if root else None, signer=signer)
    notes, verdict = [], None
    if found.error is None:
        if root is None:
            notes.append("the root is the receipt's own: compare its fingerprint, or give --root root.json")
        verdict = Verdict(f"the receipt holds ({len(found.checks)} checks)")
    shown: Object = {
        "ok": found.error is None,
        "signer": found.signer.raw.hex() if found.signer else None,
        "checks": [{"name": check.name, "detail": check.detail, "ok": check.ok} for check in found.checks],
        "made": found.receipt.get("made"),
        "release": found.receipt.get("release"),
    }
    return shown, view(Checks(tuple(found.checks), tuple(notes)), verdict), found.error
