"""Publishing: blobs, then region roles and rollout, snapshot, and last the timestamp. Before it, endpoints see the old release whole.

The timestamp is the moment of publishing. What comes after it (the catalogue's row, the change lists' place, the draft's removal) is
mended by :func:`reconcile` at the next start when the process dies in between; what came before it is written again by the next try.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Metadata, Targets

from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.errors import ApprovalError, EvidenceError, StateError, StorageError, VerificationError
from coldchain.tlog.offline import verify_proof
from coldchain.verify import MANIFEST, PROOF
from coldchain_server.catalogue.interface import Catalogue, Release
from coldchain_server.feeds.snapshots import parse_snapshot
from coldchain_server.gate.gate import require_gate
from coldchain_server.home import Home
from coldchain_server.release.drafts import Draft, measure
from coldchain_server.release.rollout import begin
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.log_policy import policy_of
from coldchain_server.signing.roles import ROLLOUT, RoleState, decode, load_state, sign
from coldchain_server.signing.rotation import publish_roles, role_signers


async def publish(
    home: Home,
    catalogue: Catalogue,
    keyring: Keyring,
    channel: str,
    number: int,
    *,
    now: datetime,
    share: int | None = None,
    emergency: bool = False,
) -> Manifest:
    """Publishes an approved release in every region.

    Args:
        home: the origin.
        catalogue: moves the release to ``published``.
        keyring: must hold the keys of rollout, snapshot and timestamp.
        channel: of the release.
        number: of the release.
        now: the time of signing.
        share: of endpoints in each region that may apply it at once, 0 to 100 percent; None: by the schedule, all without one.
        emergency: the schedule's stages are shortened; a withdrawal's always are.

    Raises:
        UsageError: a share although there is a schedule, or ``rollout.toml`` is not in order.
        ApprovalError: too few approvals.
        GateError: the manifest does not say that the release was tried.
        StateError: not an approved release, or its roles were overtaken by others.
        VerificationError: a client would refuse the outcome; nothing was published.
    """
    async with catalogue.publisher():
        home.storage.sweep()
        state = await load_state(home.storage)
        await reconcile(home, catalogue, state, now=now)
        release = await _approved(catalogue, channel, number)
        draft = Draft(home.draft(channel, number))
        manifest = draft.manifest(release)
        require_gate(manifest)
        roles = {region: decode(draft.role(region), f"draft of role {region}") for region in manifest.regions}
        _check_roles(state, roles, release)
        check_log(draft, state, now)  # again: customers' policy may have changed since the approval
        for region, role in roles.items():
            await _put_targets(home, draft, region, channel, role)
        await put_snapshots(home, manifest)  # they went out when it was logged; what the disk damaged since is mended
        rollout = state.next_rollout(now, *begin(home, state, manifest, now, share=share, emergency=emergency))
        sign(rollout, role_signers(state, keyring, ROLLOUT))
        await publish_roles(state, keyring, home.storage, {**roles, ROLLOUT: rollout}, now)
        await _finish(home, catalogue, release, now)
        await prune(home, catalogue, state, channel, home.settings().keep_generations)
    return manifest


async def _approved(catalogue: Catalogue, channel: str, number: int) -> Release:
    release = await catalogue.release(channel, number)
    if release is None:
        raise StateError(f"there is no release {number} of {channel}", todo="coldchain-server release list")
    if release.state in ("built", "logged"):
        step = "log" if release.state == "built" else "approve"
        raise ApprovalError(
            f"release {number} of {channel} is not {'logged' if step == 'log' else 'approved'}",
            kept="the releases published before",
            todo=f"coldchain-server release {step} {number}",
        )
    if release.state != "approved":
        raise StateError(f"release {number} of {channel} is {release.state}", todo="coldchain-server release list")
    return release


def check_log(draft: Draft, state: RoleState, now: datetime) -> None:
    """The public log holds the manifest, and a quorum of the witnesses that customers ask for saw it.

    Raises:
        ApprovalError: the draft's proof does not show that.
        StateError: it has none.
    """
    data, proof = draft.read(draft.directory / MANIFEST), draft.read(draft.directory / PROOF)
    try:
        verify_proof(data, proof, policy_of(state), now)
    except (EvidenceError, VerificationError) as error:
        raise ApprovalError(
            f"the public log: {error.what}",
            kept="nothing was signed; the releases published before",
            todo="discard the release, find out who changed what (the draft, or the log policy), and build again",
        ) from error


def _check_roles(state: RoleState, roles: Mapping[str, Metadata[Targets]], release: Release) -> None:
    """The signatures are counted by the client's code before anything goes out; here is whether they are about this release."""
    for region, role in roles.items():
        state.keyids(region)
        if role.signed.version != state.delegated[region].signed.version + 1:
            raise StateError(
                f"the role of region {region} moved on since release {release.number} was built",
                kept="the releases published before",
                todo=f"coldchain-server release discard {release.number}, and build again",
            )
        facts = role.signed.unrecognized_fields.get("coldchain", {}).get("channels", {}).get(release.channel, {})
        if (facts.get("release"), facts.get("manifest")) != (release.number, release.manifest):
            raise ApprovalError(
                f"the draft's role of region {region} is not about release {release.number}",
                kept="the releases published before",
                todo=f"coldchain-server release discard {release.number}, and build again",
            )


async def _put_targets(home: Home, draft: Draft, region: str, channel: str, role: Metadata[Targets]) -> None:
    """Content-addressed names, as consistent snapshots ask for: ``targets/us/stable/<sha256>.full.ccd``."""
    prefix = f"{region}/{channel}/"
    for path, target in role.signed.targets.items():
        if path.startswith(prefix):
            name = path.removeprefix(prefix)
            file = draft.file(region, name)
            sha256 = target.hashes["sha256"]
            await put_measured(home, f"targets/{prefix}{sha256}.{name}", file, sha256)


async def put_measured(home: Home, path: str, file: Path, sha256: str) -> None:
    """A name that holds a digest is given to no other bytes: they could never be replaced."""
    try:
        found = measure(file)[1]
    except OSError as error:
        raise StorageError(
            f"{file.name} cannot be read: {error.strerror}", kept="the releases published before"
        ) from error
    if found != sha256:
        raise StorageError(
            f"{file.name} was changed since it was signed",
            kept="the releases published before",
            todo="discard the release and build it again",
        )
    try:
        await home.storage.put(path, file)
    except StorageError:
        # What is there under this digest is not what it says: the disk damaged it. These are the right bytes.
        await home.storage.put(path, file, replace=True)


async def put_snapshots(home: Home, manifest: Manifest) -> None:
    """The feeds' snapshots and their files, so that anyone can build the release again."""
    for feed in manifest.feeds:
        snapshot = parse_snapshot(home.content.get(feed.snapshot))
        for file in snapshot.files:
            await put_measured(home, f"snapshots/{file.sha256}", home.content(file.sha256), file.sha256)
        await put_measured(home, f"snapshots/{feed.snapshot}", home.content(feed.snapshot), feed.snapshot)


async def _finish(home: Home, catalogue: Catalogue, release: Release, now: datetime) -> None:
    """After the timestamp: change lists to their place, then the row, then the draft may go."""
    draft = Draft(home.draft(release.channel, release.number))
    published = [one for one in await catalogue.releases(release.channel) if one.state == "published"]
    if published:
        for source in sorted((draft.directory / "changes").glob("*.cch")):
            target = home.change_list(release.channel, source.stem, published[-1].number, release.number)
            with contextlib.suppress(OSError):  # it saves work and can be had again from the content store
                target.parent.mkdir(parents=True, exist_ok=True)
                source.replace(target)
    await catalogue.set_state(release.channel, release.number, "published", now.strftime("%Y-%m-%dT%H:%M:%SZ"))
    draft.remove()


async def reconcile(home: Home, catalogue: Catalogue, state: RoleState, *, now: datetime) -> None:
    """Marks an approved release as published when the signed tree says that it is, and sweeps drafts nobody knows.

    The caller holds the publisher's lock.
    """
    known = set()
    for channel in home.settings().channels:
        for release in await catalogue.releases(channel):
            if release.state == "approved" and _is_out(state, release):
                await _finish(home, catalogue, release, now)
            elif release.state in ("built", "logged", "approved"):
                known.add(home.draft(channel, release.number).name)
    for path in sorted(home.drafts.glob("*")):
        if path.name not in known:
            shutil.rmtree(path, ignore_errors=True)


def _is_out(state: RoleState, release: Release) -> bool:
    facts = [state.channel(region, release.channel) for region in state.delegated if region != ROLLOUT]
    return any(one is not None and one["manifest"] == release.manifest for one in facts)


async def prune(home: Home, catalogue: Catalogue, state: RoleState, channel: str, generations: int) -> list[str]:
    """Deletes bundle files of the channel that neither its newest release nor the ``generations`` before it name.

    The full bundles of releases that were logged and given up stay as long: who follows the log wants to see them.

    Endpoints in the middle of an update, and those behind a cache, still find what their role names. Releases are counted, not
    versions of roles: what the other channel publishes, and what is signed anew, takes nobody's time away. Returns their paths.
    """
    gone = []
    logged = await _logged_files(home, catalogue, channel, generations)
    published = [path async for path in home.storage.list("metadata/")]
    for region in state.delegated:
        if region == ROLLOUT:
            continue
        named = await _named(home, published, region, channel, generations)
        async for path in home.storage.list(f"targets/{region}/{channel}/"):
            if path not in named and path not in logged:
                with contextlib.suppress(StorageError):  # one more file on the disk is no reason to fail a publish
                    await home.storage.delete(path)
                    gone.append(path)
    return gone


async def _logged_files(home: Home, catalogue: Catalogue, channel: str, generations: int) -> set[str]:
    """The full bundles that the newest entries of the log speak of."""
    found = set()
    for release in (await catalogue.releases(channel))[-generations - 1 :]:
        manifest = parse_manifest(home.content.get(release.manifest))
        for region, facts in manifest.regions.items():
            if facts.full is not None:
                found.add(f"targets/{region}/{channel}/{facts.full.sha256}.full.ccd")
    return found


async def _named(home: Home, published: Sequence[str], region: str, channel: str, generations: int) -> set[str]:
    """Files of the channel's last releases, read from the region role's versions, the newest first."""
    named: set[str] = set()
    releases: set[int] = set()
    versions = [int(path.split("/")[1].split(".")[0]) for path in published if path.endswith(f".{region}.json")]
    for version in sorted(versions, reverse=True):
        role = decode(await home.storage.get(f"metadata/{version}.{region}.json"), f"{version}.{region}")
        facts = role.signed.unrecognized_fields["coldchain"]["channels"].get(channel)
        if facts is None:
            break
        releases.add(facts["release"])
        if len(releases) > generations + 1:
            break
        for path, target in role.signed.targets.items():
            directory, _, name = path.rpartition("/")
            named.add(f"targets/{directory}/{target.hashes['sha256']}.{name}")
    return named
