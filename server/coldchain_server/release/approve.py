"""Approving a release: a person's key, in another jurisdiction than the assembler's, signs every region role.

The approver trusts nothing the assembler says. Before the key is used,

1. the published state is walked from the pinned root with the client's code: it is what the new roles follow;
2. every region's bundle is assembled again from the feeds' snapshots that the manifest names, checked line by line, under the
   policies of regions.toml, and must be the manifest's, to the byte; its set sections must be canonical; what it says of a withdrawal
   must be so;
3. every bundle file (full and deltas) is applied with the client's code, and must give that bundle;
4. the log's proof must show the manifest under a checkpoint that the customers' policy accepts;
5. every role must say this and nothing else: the published role's next version with this one channel replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata

from coldchain.bundle.evidence_file import read_evidence_file
from coldchain.bundle.manifest import Manifest
from coldchain.bundle.sections import check_set
from coldchain.errors import (
    ApprovalError,
    ColdchainError,
    InternalError,
    KeyringError,
    LintError,
    MalformedError,
    NewerFormatError,
    StateError,
    VerificationError,
)
from coldchain.tuf.metadata import good_keys, parse_metadata
from coldchain.verify import EVIDENCE, MANIFEST, PROOF
from coldchain_server.assembly.again import assemble_again, bundle_facts, region_facts
from coldchain_server.assembly.assemble import AssembledBundle
from coldchain_server.assembly.regions import GLOBAL
from coldchain_server.catalogue.interface import Catalogue, Release
from coldchain_server.gate.gate import require_gate
from coldchain_server.home import Home
from coldchain_server.release.bundle_files import check_bundle_file, load_description
from coldchain_server.release.drafts import Draft, measure
from coldchain_server.release.publish import check_log, reconcile
from coldchain_server.release.withdraw import check_withdrawal
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.roles import (
    LIVES,
    ChannelFacts,
    RoleState,
    add_signature,
    check_as_client,
    decode,
    encode,
    in_time,
    load_state,
    mending_moment,
    next_region_role,
)


async def approve(
    home: Home,
    catalogue: Catalogue,
    keyring: Keyring,
    channel: str,
    number: int,
    *,
    now: datetime,
    key: str = "",
    cache: Path | None = None,
) -> tuple[str, bool]:
    """Checks a draft and adds one approver's signature to each of its region roles.

    Args:
        home: the origin.
        catalogue: moves the release to ``approved`` when the threshold is reached in every region.
        keyring: must hold the approver's key.
        channel: of the release.
        number: of the release.
        now: the time.
        key: the key's name; empty takes one at hand that has not signed yet.
        cache: the approver's own results of earlier checks, which only the approver can write; None checks every file.

    Returns:
        The name of the key that signed, and whether the threshold is reached everywhere.

    Raises:
        ApprovalError: something in the draft is not what it says; nothing was signed.
        GateError: the manifest does not say that the release was tried.
        KeyringError: the key is not here or may not sign these roles.
    """
    async with catalogue.publisher():
        state = await load_state(home.storage)
        await reconcile(home, catalogue, state, now=now)
        release = await catalogue.release(channel, number)
        if release is None:
            raise StateError(f"there is no release {number} of {channel}", todo="coldchain-server release list")
        if release.state == "built":
            raise StateError(
                f"release {number} of {channel} is not in the public log yet",
                todo=f"coldchain-server release log {number}",
            )
        if release.state in ("published", "discarded"):
            raise StateError(f"release {number} of {channel} is {release.state}", todo="coldchain-server release list")
        draft = Draft(home.draft(channel, number))
        await _check_published(home, state, now)
        manifest = draft.manifest(release)
        require_gate(manifest)
        check_log(draft, state, now)
        _check_manifest(home, manifest, release, cache)
        await check_withdrawal(home, catalogue, manifest, release)
        sources = await _sources(catalogue, channel, number)
        roles = {}
        for region in manifest.regions:
            roles[region] = _checked_role(home, draft, manifest, region, state, sources.get(region, {}), now)
        signer = _signer(state, keyring, roles, key)
        for region, role in roles.items():
            add_signature(role, signer)
            draft.put_role(region, role)
        complete = all(missing_signatures(state, region, role) == 0 for region, role in roles.items())
        if complete and release.state == "logged":
            await catalogue.set_state(channel, number, "approved", now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        name = keyring.names()[signer.public_key.keyid]
    return name, complete


def _refuse(what: str) -> ApprovalError:
    return ApprovalError(
        what, kept="no signature was made", todo="discard the release, find out who changed what, and build again"
    )


async def _check_published(home: Home, state: RoleState, now: datetime) -> None:
    if await home.storage.get("metadata/1.root.json") != home.pinned_root():
        raise _refuse("the published root version 1 is not the root.json that customers pin")
    moment = mending_moment(state, (), now)
    await check_as_client(home.storage, {}, in_time(state, (), moment), moment)


def _check_manifest(home: Home, manifest: Manifest, release: Release, cache: Path | None) -> None:
    """Assembles everything again from the snapshots that the manifest names."""
    regions, product = home.regions(), home.settings().product
    if (manifest.product, manifest.channel, manifest.release) != (product, release.channel, release.number):
        raise _refuse("the manifest speaks of another product, channel or release")
    if set(manifest.regions) != set(regions.regions):
        raise _refuse("the manifest's regions are not those of regions.toml")
    try:
        again = assemble_again(manifest, regions, home.content, cache=cache)
    except (LintError, VerificationError) as error:
        raise _refuse(f"the feeds' snapshots cannot be assembled again: {error.what}") from error
    if again.feeds != manifest.feeds:
        raise _refuse("the manifest does not say what the feeds' snapshots hold")
    if bundle_facts(again.bundles[GLOBAL].description) != manifest.whole:
        raise _refuse("the global bundle, assembled again from the feeds' snapshots, is not the manifest's")
    _check_sets(home, again.bundles.values())
    for region, facts in manifest.regions.items():
        if region_facts(again.bundles[region]) != replace(facts, full=None):
            raise _refuse(
                f"region {region}: the bundle, assembled again from the feeds' snapshots under regions.toml, is not the manifest's"
            )


def _check_sets(home: Home, bundles: Iterable[AssembledBundle]) -> None:
    """Looks at every set section for what an engine would refuse the whole set for: assembling twice repeats a mistake."""
    sections = {section.sha256: section for bundle in bundles for section in bundle.description.sections}
    for section in sections.values():
        if section.kind != "set":
            continue
        try:
            with home.content(section.sha256).open("rb") as file:
                found = check_set(file, section.name)
        except MalformedError as error:
            raise _refuse(f"section {error.what}") from error
        except OSError as error:
            raise _refuse(f"section {section.name} cannot be read: {error.strerror}") from error
        if found != (section.records, section.bytes, section.sha256):
            raise _refuse(f"section {section.name} holds other records than its bundle says")


async def _sources(catalogue: Catalogue, channel: str, number: int) -> dict[str, dict[int, str]]:
    """Region -> published release -> bundle: what deltas may start from."""
    found: dict[str, dict[int, str]] = {}
    for release in await catalogue.releases(channel):
        if release.state == "published" and release.number < number:
            for bundle in await catalogue.bundles(channel, release.number):
                found.setdefault(bundle.region, {})[release.number] = bundle.digest
    return found


def _checked_role(
    home: Home,
    draft: Draft,
    manifest: Manifest,
    region: str,
    state: RoleState,
    sources: Mapping[int, str],
    now: datetime,
) -> Metadata[Any]:
    """The draft's role, if it says of what is there exactly what it should."""
    data = draft.role(region)
    try:
        parsed = parse_metadata(data, "targets", name=region)
        role = decode(data, f"draft of role {region}")
    except ColdchainError as error:
        raise _refuse(f"region {region}: the role does not follow its format: {error.what}") from error
    prefix = f"{region}/{manifest.channel}/"
    names = [path.removeprefix(prefix) for path in parsed.targets if path.startswith(prefix)]
    if not {"full.ccd", EVIDENCE} <= set(names):
        raise _refuse(f"region {region}: the role names no full bundle or no evidence")
    said = manifest.regions[region].facts
    files: dict[str, tuple[int, str]] = {}
    for name in names:
        files[prefix + name] = _checked_file(home, draft, region, name, said.bundle, sources)
    full = manifest.regions[region].full
    if full is None or files[f"{prefix}full.ccd"] != (full.bytes, full.sha256):
        raise _refuse(f"region {region}: the full bundle's file is not the one that the logged manifest names")
    facts = ChannelFacts(manifest.release, said.bundle, said.bytes, said.records, manifest.digest, files)
    expected = next_region_role(state.delegated[region], manifest.channel, facts, now)
    if not now < role.signed.expires <= now + LIVES["region"]:
        raise _refuse(
            f"region {region}: the role expires at {role.signed.expires:%Y-%m-%d %H:%M:%S}, which is not its time"
        )
    expected.signed.expires = role.signed.expires
    if role.signed.to_dict() != expected.signed.to_dict():
        raise _refuse(f"region {region}: the role is not the published one's next version with this release in it")
    return role


def _checked_file(
    home: Home, draft: Draft, region: str, name: str, bundle: str, sources: Mapping[int, str]
) -> tuple[int, str]:
    what = f"{region} {name}"
    file = draft.file(region, name)
    try:
        found = measure(file)
        if name == EVIDENCE:
            _check_evidence_file(draft, what)
            return found
        number = name.removeprefix("from-").removesuffix(".ccd")
        old = None
        if name != "full.ccd":
            if not number.isdecimal() or name != f"from-{int(number)}.ccd" or int(number) not in sources:
                raise _refuse(f"{what}: no published release is where it starts")
            old = load_description(home.content, sources[int(number)])
        check_bundle_file(file.open("rb"), home.content, old, bundle, what)
    except OSError as error:
        raise _refuse(f"{what} cannot be read: {error.strerror}") from error
    except (InternalError, NewerFormatError, VerificationError) as error:
        raise _refuse(error.what) from error
    return found


def _check_evidence_file(draft: Draft, what: str) -> None:
    """What customers unpack must be what was checked above: the logged manifest, and its proof."""
    said = read_evidence_file(draft.read(draft.directory / EVIDENCE))
    if said != (draft.read(draft.directory / MANIFEST), draft.read(draft.directory / PROOF)):
        raise _refuse(f"{what} does not hold the manifest and the proof of this release")


def _signer(state: RoleState, keyring: Keyring, roles: Mapping[str, Metadata[Any]], key: str) -> Signer:
    """One key for all regions: the named one, or one at hand that is still missing somewhere."""
    allowed = set.intersection(*(set(state.keyids(region)[0]) for region in roles))
    if key:
        if keyring.public(key).keyid not in allowed:
            raise KeyringError(f"key {key} may not sign the region roles", todo="use an approver's key")
        return keyring.signer(key)
    here = sorted(
        name
        for keyid, name in keyring.names().items()
        if keyid in allowed and any(keyid not in role.signatures for role in roles.values())
    )
    if not here:
        raise KeyringError("no key is here that may still sign the region roles", todo="bring an approver's key file")
    return keyring.signer(next((name for name in here if name.startswith("approver")), here[0]))


def missing_signatures(state: RoleState, region: str, role: Metadata[Any]) -> int:
    """How many more of the role's keys must sign. Only good signatures count, and a key under two ids once."""
    delegator = parse_metadata(encode(state.targets), "targets", name="targets")
    signed = parse_metadata(encode(role), "targets", name=region)
    named = delegator.roles[region]
    return max(0, named.threshold - len(good_keys(delegator, named, signed)))
