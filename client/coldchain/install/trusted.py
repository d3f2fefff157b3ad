"""The trusted metadata on disk: what a refresh starts from, what it keeps, and the evidence that a version takes with it.

``metadata/roots/`` holds the pinned root (the lowest number) and every root after it, so the way from the pinned root to today
can be walked again offline. The evidence of version 42 of region us, with root 2 in force::

    signed/42-<16 hex>  ->  .42-<16 hex>.<16 hex of its content>/
        2.root.json   targets.json   us.json   evidence.zst   manifest.json   manifest.tlog-proof   <key id>.dsse.json   applied.json
        release.approval

``manifest.json`` and its proof are what ``evidence.zst``, which the region's role signs, unpacks to.

``applied.json`` is this endpoint's own word about how it got the release (:mod:`coldchain.receipt`), ``release.approval`` that of the
customer's security team, if it was asked for (:mod:`coldchain.approval`).

It is made anew, and switched in one step, whenever a refresh still names the installed release: roles are re-signed and keys
rotate, and evidence under keys that were since replaced would say less than it could.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from coldchain.approval import check_approval
from coldchain.customer_policy import CustomerPolicy
from coldchain.errors import ColdchainError, DamagedError, EvidenceError, NewerFormatError, NotInstalledError
from coldchain.evidence import open_evidence
from coldchain.install.directory import ClientDirectory, Config
from coldchain.install.durable import Folder
from coldchain.install.public_log import is_memory
from coldchain.limits import LIMITS, Limits
from coldchain.tuf.metadata import Metadata, max_bytes
from coldchain.tuf.trusted_set import RoleCheck, TrustedSet, next_root, pinned_root
from coldchain.verify import (
    EVIDENCE,
    MANIFEST,
    PROOF,
    ROLLOUT_ROLE,
    RegionRelease,
    region_release,
    says_who_it_is,
    verify_chain,
)

STATEMENT = frozenset({EVIDENCE, MANIFEST, PROOF})
ATTESTATION = ".dsse.json"
APPROVAL = "release.approval"
APPROVALS = "approvals"
_ROOT = re.compile(r"([1-9][0-9]{0,8})\.root\.json\Z")
_BEGINNING = datetime.min.replace(tzinfo=UTC)  # before every expiry, so that a set can be loaded whatever its age


def roles(config: Config) -> list[str]:
    """The delegated roles this endpoint follows, in the order they are verified."""
    return [config.region, ROLLOUT_ROLE]


def role_check(config: Config) -> RoleCheck:
    """What every delegated role must say of itself before it is believed or kept."""
    return lambda role: says_who_it_is(role, config.product)


def stored(directory: ClientDirectory, config: Config, limits: Limits = LIMITS) -> dict[str, bytes]:
    """The files of ``metadata/`` as :func:`coldchain.tuf.refresh.refresh` wants them; damage counts as absence.

    A root that is lost or damaged is made good from the numbered ones, walked again from the pinned one.

    Raises:
        DamagedError: the pinned root is lost too, or a link stands in the place of the directory.
    """
    sizes = {"root": limits.root_bytes, "timestamp": limits.timestamp_bytes, "snapshot": limits.snapshot_bytes}
    out: dict[str, bytes] = {}
    with directory.folder("metadata") as folder:
        for name in ("root", "timestamp", "snapshot", "targets", *roles(config)):
            data = folder.read(f"{name}.json", sizes.get(name, max_bytes("targets", limits)))
            if data is not None:
                out[f"{name}.json"] = data
    try:
        pinned_root(out.get("root.json", b""), limits)
    except DamagedError:
        out["root.json"] = _newest_root(directory, config, limits)
    return out


def newest_root(directory: ClientDirectory, config: Config, limits: Limits = LIMITS) -> Metadata:
    """The newest root that was accepted here.

    Raises:
        DamagedError: neither it nor the pinned one is there.
    """
    return pinned_root(stored(directory, config, limits)["root.json"], limits)


def _newest_root(directory: ClientDirectory, config: Config, limits: Limits) -> bytes:
    number, data = pinned(directory, config, limits)
    root = pinned_root(data, limits)
    while (data := root_file(directory, number + 1, limits)) is not None:  # type: ignore[assignment]
        try:
            root, number = next_root(root, data, limits), number + 1
        except ColdchainError:
            break  # damaged as well: a refresh fetches it again
    return root.raw


def keep(directory: ClientDirectory, name: str, data: bytes) -> None:
    """Writes what a refresh asks to keep, durably."""
    *folders, plain = name.split("/")
    with directory.folder("metadata", *folders) as folder:
        folder.write(plain, data)


def recall(
    files: Mapping[str, bytes], config: Config, now: datetime | None = None, limits: Limits = LIMITS
) -> TrustedSet:
    """The stored set, every signature checked again, without asking anyone.

    Args:
        files: from :func:`stored`.
        config: whose region's role is wanted.
        now: expiry is judged by it; None leaves expiry out.
        limits: bounds.

    Raises:
        NotInstalledError: a file is missing, since no refresh has ended well yet.
        VerificationError: the files do not belong together, or one expired.
    """
    names = ["root", "timestamp", "snapshot", "targets", *roles(config)]
    for name in names:
        if f"{name}.json" not in files:
            raise NotInstalledError(f"no {name}.json is kept yet", todo="run `coldchain update`")
    trusted = TrustedSet(files["root.json"], now or _BEGINNING, limits, role_check(config))
    trusted.check_root_time()
    trusted.update_timestamp(files["timestamp.json"])
    trusted.update_snapshot(files["snapshot.json"])
    for name in names[3:]:
        trusted.update_targets(name, files[f"{name}.json"])
    return trusted


def good_until(trusted: TrustedSet, config: Config) -> datetime:
    """When the first of the files in force expires: from then on protection is stale."""
    every = [trusted.root, trusted.timestamp, trusted.snapshot, trusted.role("targets")]
    return min(one.expires for one in [*every, *map(trusted.role, roles(config))])


def known_good_until(directory: ClientDirectory, config: Config, limits: Limits = LIMITS) -> datetime | None:
    """When the newest complete metadata expires; None when there never was any.

    A refresh that was refused half way leaves files of two ages. Then what the last good check found is the answer.
    """
    try:
        return good_until(recall(stored(directory, config, limits), config, limits=limits), config)
    except ColdchainError:
        return directory.state().good_until


def pin(directory: ClientDirectory, data: bytes, limits: Limits = LIMITS) -> Metadata:
    """Makes ``data`` the root everything hangs on. The lock must be held.

    Pinning the same root again changes nothing; another one forgets all metadata, so the next update starts from it. What is known
    of the public log stays: whoever has the directory set up anew must not thereby forget which story the log told.

    Raises:
        DamagedError: it is not a root signed by its own keys.
    """
    root = pinned_root(data, limits)
    first = root_numbers(directory)[:1]
    with directory.folder("metadata") as metadata, metadata.folder("roots") as roots:
        if first != [root.version] or roots.read(f"{root.version}.root.json", limits.root_bytes) != data:
            for name in metadata.names():
                if name != roots.path.name and not is_memory(name):
                    metadata.remove(name)
            for number in root_numbers(directory):
                roots.remove(f"{number}.root.json")
            metadata.sync()
            roots.write(f"{root.version}.root.json", data)
        if metadata.read("root.json", limits.root_bytes) is None:
            metadata.write("root.json", data)
    return root


def root_numbers(directory: ClientDirectory) -> list[int]:
    """The numbers of the kept roots, ascending."""
    if not directory.roots.is_dir():
        return []
    with directory.folder("metadata", "roots") as folder:
        found = map(_ROOT.match, folder.names())
    return sorted(int(match[1]) for match in found if match)


def root_file(directory: ClientDirectory, number: int, limits: Limits = LIMITS) -> bytes | None:
    """The root of that number, if it is kept."""
    with directory.folder("metadata", "roots") as folder:
        return folder.read(f"{number}.root.json", limits.root_bytes)


def pinned(directory: ClientDirectory, config: Config, limits: Limits = LIMITS) -> tuple[int, bytes]:
    """Number and bytes of the pinned root, whose fingerprint the configuration repeats.

    Raises:
        DamagedError: it is missing or another one.
    """
    for number in root_numbers(directory)[:1]:
        data = root_file(directory, number, limits)
        if data is not None and hashlib.sha256(data).hexdigest() == config.root:
            return number, data
    raise DamagedError(
        f"the pinned root in {directory.roots} is missing or changed",
        kept="what is installed stays in use",
        todo="get root.json again from where you got it first, compare its fingerprint, and run `coldchain init` again",
    )


def gather_evidence(
    directory: ClientDirectory, config: Config, trusted: TrustedSet, statement: Mapping[str, bytes]
) -> dict[str, bytes]:
    """What an offline verification of the release needs besides the pinned root.

    ``statement`` is its evidence file, manifest, proof and attestations.

    Raises:
        DamagedError: a root between the pinned one and the newest is no longer kept.
    """
    first, _ = pinned(directory, config, trusted.limits)
    out: dict[str, bytes] = {}
    for number in range(first + 1, trusted.root.version + 1):
        data = root_file(directory, number, trusted.limits)
        if data is None:
            raise DamagedError(
                f"root {number} is missing in {directory.roots}",
                kept="what is installed stays in use",
                todo="run `coldchain init` again with the pinned root.json",
            )
        out[f"{number}.root.json"] = data
    out["targets.json"] = trusted.role("targets").raw
    out[f"{config.region}.json"] = trusted.role(config.region).raw
    return out | dict(statement)


def write_evidence(directory: ClientDirectory, version: str, files: Mapping[str, bytes]) -> None:
    """Makes ``files`` the evidence of the version of that name; nothing is done when it is so already."""
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name} {len(data)}\n".encode() + data)
    place = f".{version}.{digest.hexdigest()[:16]}"
    with directory.folder("signed") as signed:
        if _link(signed, version) == place and read_evidence(directory, version) == dict(files):
            return
        # Of the same content, and yet not so: damaged. It stands aside until the good one is there.
        if signed.look(place) is not None:
            signed.remove(f"{place}.old")
            signed.move(place, signed, f"{place}.old")
        signed.make(place)
        with signed.folder(place) as folder:
            for name, data in files.items():
                with folder.new_file(name, mode=0o644) as file:
                    file.write(data)
            folder.sync()
        if (found := signed.look(version)) is not None and not stat.S_ISLNK(found.st_mode):
            signed.remove(version)
        signed.replace_symlink(version, place)
        linked = {name for name in signed.names() if not name.startswith(".") and _link(signed, name)}
    tidy_evidence(directory, {version, *linked})


def _link(signed: Folder, name: str) -> str | None:
    """Where a link leads; None for anything else."""
    try:
        return signed.read_link(name)
    except DamagedError:
        return None


def read_evidence(directory: ClientDirectory, version: str, limits: Limits = LIMITS) -> dict[str, bytes]:
    """The evidence of a version by file name; empty when there is none."""
    most = max(limits.targets_bytes, limits.manifest_bytes, limits.root_bytes)
    out: dict[str, bytes] = {}
    with contextlib.suppress(DamagedError), _evidence(directory, version) as folder:
        for name in folder.names()[: 2 * limits.root_rotations] if folder else ():
            data = folder.read(name, most) if folder else None
            if data is not None:
                out[name] = data
    return out


@contextlib.contextmanager
def _evidence(directory: ClientDirectory, version: str) -> Iterator[Folder | None]:
    """The folder of a version's evidence; None when there is none. The link leads beside itself, and nowhere else."""
    with contextlib.ExitStack() as stack:
        signed = stack.enter_context(directory.folder("signed")) if directory.signed.is_dir() else None
        place = signed.read_link(version) if signed else None
        if (
            signed is None
            or place is None
            or "/" in place
            or not place.startswith(f".{version}.")
            or signed.look(place) is None
        ):
            yield None
        else:
            yield stack.enter_context(signed.folder(place))


def later_roots(evidence: Mapping[str, bytes], first: int) -> list[bytes]:
    """The roots after number ``first`` in the evidence, in order and without a gap."""
    out: list[bytes] = []
    while (data := evidence.get(f"{first + len(out) + 1}.root.json")) is not None:
        out.append(data)
    return out


def tidy_evidence(directory: ClientDirectory, versions: set[str]) -> None:
    """Removes the evidence of all other versions, and folders that no link names. The lock must be held."""
    with directory.folder("signed") as signed:
        links = {name: place for name in versions if (place := _link(signed, name)) is not None}
        for name in signed.names():
            if name not in links and name not in links.values():
                signed.remove(name)


def statement_of(
    directory: ClientDirectory, version: str, release: RegionRelease, limits: Limits = LIMITS
) -> dict[str, bytes] | None:
    """Evidence file, manifest and proof kept with a version, by file name, if they are the ones that the release's role names.

    Attestations about the manifest, of which no role says anything, come along as they are.
    """
    kept = read_evidence(directory, version, limits)
    if not is_as_signed(kept, release, limits):
        return None
    return {name: data for name, data in kept.items() if name in STATEMENT or name.endswith(ATTESTATION)}


def is_as_signed(kept: Mapping[str, bytes], release: RegionRelease, limits: Limits = LIMITS) -> bool:
    """Whether manifest and proof, by file name, are those in the evidence file that the release's role names, and it is there too."""
    try:
        manifest, proof = open_evidence(kept.get(EVIDENCE, b""), release, limits)
    except (EvidenceError, NewerFormatError):
        return False
    return (kept.get(MANIFEST), kept.get(PROOF)) == (manifest, proof)


def approval_problem(
    policy: CustomerPolicy, release: RegionRelease, kept: Mapping[str, bytes], limits: Limits = LIMITS
) -> str:
    """Why a release's evidence holds no approval as the customer's policy asks for; empty when it does, or none is asked for."""
    if policy.approval is None:
        return ""
    if APPROVAL not in kept:
        return "no approval is kept with it"
    try:
        check_approval(kept[APPROVAL], policy.approval.key, release, limits)
    except ColdchainError as error:
        return error.what
    return ""


def kept_release(
    directory: ClientDirectory, config: Config, evidence: Mapping[str, bytes], limits: Limits = LIMITS
) -> RegionRelease:
    """The release that kept evidence speaks of, every signature checked again from the pinned root on.

    Raises:
        DamagedError: the pinned root is missing.
        VerificationError: the evidence is not good.
        NotPublishedError: it is of another channel.
    """
    number, root = pinned(directory, config, limits)
    role = verify_chain(
        root,
        later_roots(evidence, number),
        evidence.get("targets.json", b""),
        evidence.get(f"{config.region}.json", b""),
        region=config.region,
        limits=limits,
    ).require()
    return region_release(role, config.region, config.channel, product=config.product, limits=limits)
