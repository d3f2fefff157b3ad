"""Approving a release: a person's key, in another jurisdiction than the assembler's, signs every region role.

The approver trusts nothing the assembler says: each bundle file is hashed, the full bundle of each region is rebuilt with the
client's code, and what the role says is compared with the manifest and with what was rebuilt, before the key is used.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata

from coldchain.bundle.manifest import Manifest
from coldchain.errors import ApprovalError, KeyringError, StateError
from coldchain_server.catalogue.interface import Catalogue, Release
from coldchain_server.home import Home
from coldchain_server.release.bundle_files import check_bundle_file
from coldchain_server.release.drafts import Draft, measure
from coldchain_server.release.publish import reconcile
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.roles import RoleState, add_signature, load_state


async def approve(
    home: Home, catalogue: Catalogue, keyring: Keyring, channel: str, number: int, *, now: datetime, key: str = ""
) -> tuple[list[str], bool]:
    """Checks a draft and adds one approver's signature to each of its region roles.

    Args:
        home: the origin.
        catalogue: moves the release to ``approved`` when the threshold is reached in every region.
        keyring: must hold the approver's key.
        channel: of the release.
        number: of the release.
        now: the time.
        key: the key's name; empty takes one at hand that has not signed yet.

    Returns:
        Names of the keys that signed now, and whether the threshold is reached everywhere.

    Raises:
        ApprovalError: something in the draft is not what it says; nothing was signed.
        KeyringError: the key is not here or may not sign these roles.
    """
    async with catalogue.publisher():
        state = await load_state(home.storage)
        await reconcile(home, catalogue, state, now=now)
        release = await catalogue.release(channel, number)
        if release is None or release.state not in ("built", "approved"):
            raise StateError(
                f"release {number} of {channel} is {release.state if release else 'not built'}",
                todo="coldchain-server release list",
            )
        draft = Draft(home.draft(channel, number))
        manifest = checked_manifest(draft, release)
        roles = {region: draft.role(region) for region in manifest.regions}
        for region, role in roles.items():
            _check_region(home, draft, manifest, region, role)
        signed: list[str] = []
        for region, role in roles.items():
            signer = _signer(state, keyring, region, role, key)
            add_signature(role, signer)
            name = keyring.names()[signer.public_key.keyid]
            signed += [name] if name not in signed else []
        for region, role in roles.items():
            draft.put_role(region, role)
        complete = all(missing_signatures(state, region, role) == 0 for region, role in roles.items())
        if complete and release.state == "built":
            await catalogue.set_state(channel, number, "approved", now.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return signed, complete


def checked_manifest(draft: Draft, release: Release) -> Manifest:
    """The draft's manifest, if it is the one the catalogue knows. Raises ApprovalError otherwise."""
    manifest, data = draft.manifest()
    if hashlib.sha256(data).hexdigest() != release.manifest or manifest.release != release.number:
        raise ApprovalError(
            f"the manifest of release {release.number} is not the one that was built",
            todo=f"discard the release and build it again: coldchain-server release discard {release.number}",
        )
    return manifest


def _check_region(home: Home, draft: Draft, manifest: Manifest, region: str, role: Metadata[Any]) -> None:
    """What will be signed must be what is there, to the byte."""

    def refuse(what: str) -> ApprovalError:
        return ApprovalError(f"region {region}: {what}", kept="no signature was made", todo="discard and build again")

    facts = role.signed.unrecognized_fields["coldchain"]
    channel = facts["channels"].get(manifest.channel, {})
    said = manifest.regions[region].facts
    expected = {
        "release": manifest.release,
        "bundle": said.bundle,
        "bytes": said.bytes,
        "records": said.records,
        "manifest": manifest.digest,
    }
    if facts["region"] != region or facts["product"] != manifest.product or channel != expected:
        raise refuse("the role does not say what the manifest says")
    prefix = f"{region}/{manifest.channel}/"
    for path, target in role.signed.targets.items():
        if not path.startswith(prefix):
            continue
        name = path.removeprefix(prefix)
        file = draft.directory / name if name == "manifest.json" else draft.target(region, name)
        try:
            found = measure(file)
        except OSError as error:
            raise refuse(f"{name} cannot be read: {error.strerror}") from error
        if found != (target.length, target.hashes["sha256"]):
            raise refuse(f"{name} is not the file that the role names")
    full = draft.target(region, "full.ccd")
    if f"{prefix}full.ccd" not in role.signed.targets:
        raise refuse("the role names no full bundle")
    check_bundle_file(full.open("rb"), home.content, None, said.bundle, f"{region} full.ccd")


def _signer(state: RoleState, keyring: Keyring, region: str, role: Metadata[Any], key: str) -> Signer:
    keyids, _ = state.keyids(region)
    names = keyring.names()
    if key:
        keyid = keyring.public(key).keyid
        if keyid not in keyids:
            raise KeyringError(f"key {key} may not sign role {region}", todo="use an approver's key")
        return keyring.signer(key)
    here = sorted(names[keyid] for keyid in keyids if keyid in names and keyid not in role.signatures)
    if not here:
        raise KeyringError(f"no key is here that may still sign role {region}", todo="bring an approver's key file")
    return keyring.signer(next((name for name in here if name.startswith("approver")), here[0]))


def missing_signatures(state: RoleState, region: str, role: Metadata[Any]) -> int:
    """How many more of the role's keys must sign."""
    keyids, threshold = state.keyids(region)
    return max(0, threshold - len(set(role.signatures) & set(keyids)))
