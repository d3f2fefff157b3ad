"""The trusted metadata on disk: what a refresh starts from, what it keeps, and the evidence that a version takes with it.

``metadata/roots/`` holds the pinned root (the lowest number) and every root after it, so the way from the pinned root to today
can be walked again offline. The evidence of version 42 of region us, with root 2 in force::

    signed/42-<16 hex>  ->  .42-<16 hex>.<16 hex of its content>/
        2.root.json   targets.json   us.json   manifest.json

It is made anew, and switched in one step, whenever a refresh still names the installed release: roles are re-signed and keys
rotate, and evidence under keys that were since replaced would say less than it could.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from coldchain.errors import ColdchainError, DamagedError, NotInstalledError
from coldchain.install import durable
from coldchain.install.directory import ClientDirectory, Config, read_file
from coldchain.limits import LIMITS, Limits
from coldchain.tuf.metadata import Metadata, max_bytes
from coldchain.tuf.trusted_set import RoleCheck, TrustedSet, pinned_root
from coldchain.verify import ROLLOUT_ROLE, says_who_it_is

MANIFEST = "manifest.json"
_ROOT = re.compile(r"([1-9][0-9]{0,8})\.root\.json\Z")
_BEGINNING = datetime.min.replace(tzinfo=UTC)  # before every expiry, so that a set can be loaded whatever its age


def roles(config: Config) -> list[str]:
    """The delegated roles this endpoint follows, in the order they are verified."""
    return [config.region, ROLLOUT_ROLE]


def role_check(config: Config) -> RoleCheck:
    """What every delegated role must say of itself before it is believed or kept."""
    return lambda role: says_who_it_is(role, config.product)


def stored(directory: ClientDirectory, config: Config, limits: Limits = LIMITS) -> dict[str, bytes]:
    """The files of ``metadata/`` as :func:`coldchain.tuf.refresh.refresh` wants them; damage counts as absence."""
    sizes = {"root": limits.root_bytes, "timestamp": limits.timestamp_bytes, "snapshot": limits.snapshot_bytes}
    out: dict[str, bytes] = {}
    for name in ("root", "timestamp", "snapshot", "targets", *roles(config)):
        data = read_file(directory.metadata / f"{name}.json", sizes.get(name, max_bytes("targets", limits)))
        if data is not None:
            out[f"{name}.json"] = data
    return out


def keep(directory: ClientDirectory, name: str, data: bytes) -> None:
    """Writes what a refresh asks to keep, durably."""
    durable.write_file(directory.metadata / name, data)


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

    Pinning the same root again changes nothing; another one forgets all metadata, so the next update starts from it.

    Raises:
        DamagedError: it is not a root signed by its own keys.
    """
    root = pinned_root(data, limits)
    first = root_numbers(directory)[:1]
    if first != [root.version] or root_file(directory, root.version, limits) != data:
        for one in sorted(directory.metadata.iterdir()):
            if one != directory.roots:
                durable.remove(one)
        for number in root_numbers(directory):
            durable.remove(directory.roots / f"{number}.root.json")
        durable.fsync_directory(directory.metadata)
        durable.write_file(directory.roots / f"{root.version}.root.json", data)
    if read_file(directory.metadata / "root.json", limits.root_bytes) is None:
        durable.write_file(directory.metadata / "root.json", data)
    return root


def root_numbers(directory: ClientDirectory) -> list[int]:
    """The numbers of the kept roots, ascending."""
    with durable.disk(directory.roots):
        found = [_ROOT.match(one.name) for one in directory.roots.iterdir()] if directory.roots.is_dir() else []
    return sorted(int(match[1]) for match in found if match)


def root_file(directory: ClientDirectory, number: int, limits: Limits = LIMITS) -> bytes | None:
    """The root of that number, if it is kept."""
    return read_file(directory.roots / f"{number}.root.json", limits.root_bytes)


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
    directory: ClientDirectory, config: Config, trusted: TrustedSet, manifest: bytes
) -> dict[str, bytes]:
    """What an offline verification of the release needs besides the pinned root.

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
    out[MANIFEST] = manifest
    return out


def write_evidence(directory: ClientDirectory, version: str, files: Mapping[str, bytes]) -> None:
    """Makes ``files`` the evidence of the version of that name; nothing is done when it is so already."""
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name} {len(data)}\n".encode() + data)
    folder = f".{version}.{digest.hexdigest()[:16]}"
    link = directory.signed / version
    with durable.disk(link):
        if link.is_symlink() and link.readlink().name == folder and read_evidence(directory, version) == dict(files):
            return
        place = directory.signed / folder
        spare = directory.signed / f"{folder}.old"
        durable.remove(spare)
        if place.exists():
            durable.move(place, spare)
        place.mkdir()
        for name, data in files.items():
            with durable.new_file(place / name, mode=0o644) as file:
                file.write(data)
        durable.fsync_directory(place)
        durable.fsync_directory(directory.signed)
    durable.replace_symlink(link, folder)
    tidy_evidence(directory, {version, *_linked(directory)})


def read_evidence(directory: ClientDirectory, version: str, limits: Limits = LIMITS) -> dict[str, bytes]:
    """The evidence of a version by file name; empty when there is none."""
    place = directory.signed / version
    out: dict[str, bytes] = {}
    with durable.disk(place):
        names = sorted(one.name for one in place.iterdir()) if place.is_dir() else []
    for name in names[: 2 * limits.root_rotations]:
        data = read_file(place / name, max(limits.targets_bytes, limits.manifest_bytes, limits.root_bytes))
        if data is not None:
            out[name] = data
    return out


def later_roots(evidence: Mapping[str, bytes], first: int) -> list[bytes]:
    """The roots after number ``first`` in the evidence, in order and without a gap."""
    out: list[bytes] = []
    while (data := evidence.get(f"{first + len(out) + 1}.root.json")) is not None:
        out.append(data)
    return out


def _linked(directory: ClientDirectory) -> set[str]:
    return {one.name for one in directory.signed.iterdir() if one.is_symlink() and not one.name.startswith(".")}


def tidy_evidence(directory: ClientDirectory, versions: set[str]) -> None:
    """Removes the evidence of all other versions, and folders that no link names. The lock must be held."""
    with durable.disk(directory.signed):
        links = {one.name: one for one in directory.signed.iterdir() if one.is_symlink() and one.name in versions}
        used = {one.readlink().name for one in links.values()}
        for one in sorted(directory.signed.iterdir()):
            if one.name not in links and one.name not in used:
                durable.remove(one)


def manifest_of(directory: ClientDirectory, version: str, sha256: str, limits: Limits = LIMITS) -> bytes | None:
    """The manifest kept with a version, if it is the one with this digest."""
    try:
        data = read_file(directory.signed / version / MANIFEST, limits.manifest_bytes)
    except ColdchainError:
        return None
    return data if data is not None and hashlib.sha256(data).hexdigest() == sha256 else None
