"""Rebuilders' attestations of a release: checked, published beside it, and put into the public log when that is wanted.

::

    attestations/<sha256 of the manifest>/<key id>.dsse.json     one per rebuilder; a newer one of the same key takes its place

The publisher cannot make one (it has no rebuilder's key) and lends them no trust: an attestation is checked only so far that it is
signed by the key it names and contradicts nothing in the manifest. Whose key counts is in each customer's policy. In the log an
attestation is an entry of its own, the envelope's bytes; readers tell it from a manifest by :func:`coldchain.attestation.is_envelope`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from coldchain.attestation import GLOBAL, Rebuild, open_rebuild, published_path
from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.errors import EvidenceError, NewerFormatError, StateError, UsageError, VerificationError
from coldchain.limits import LIMITS
from coldchain_server.catalogue.interface import Catalogue
from coldchain_server.home import Home
from coldchain_server.log.public_log import PublicLog
from coldchain_server.release.log import Witnesses, append_entry
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.log_policy import log_signer, policy_of
from coldchain_server.signing.roles import load_state


@dataclass(frozen=True, slots=True)
class Attested:
    """A published attestation: what it states, where it lies, the regions it leaves out, and its entry in the log if it was logged."""

    rebuild: Rebuild
    path: str
    left_out: tuple[str, ...]
    index: int | None = None


async def logged_manifest(home: Home, catalogue: Catalogue, channel: str, number: int) -> Manifest:
    """The manifest of a release that is in the public log.

    Raises:
        StateError: there is none, or it is not logged yet.
    """
    release = await catalogue.release(channel, number)
    if release is None:
        raise StateError(f"there is no release {number} of {channel}", todo="coldchain-server release list")
    if release.state == "built":
        raise StateError(
            f"release {number} of {channel} is not in the public log yet",
            todo=f"coldchain-server release log {number}",
        )
    return parse_manifest(home.content.get(release.manifest))


async def attest(
    home: Home,
    catalogue: Catalogue,
    channel: str,
    number: int,
    data: bytes,
    *,
    now: datetime,
    log: tuple[Keyring, Witnesses] | None = None,
) -> Attested:
    """Checks an attestation and publishes it.

    Args:
        home: the origin.
        catalogue: knows the release.
        channel: of the release.
        number: of the release.
        data: the envelope.
        now: the time.
        log: the keyring with the log's key and the witnesses, to put it into the public log too.

    Raises:
        EvidenceError: published, and no quorum of witnesses cosigned its entry.
        StateError: no such release, or not logged yet.
        UsageError: it is no good attestation of this release; nothing was published.
    """
    async with catalogue.publisher():
        manifest = await logged_manifest(home, catalogue, channel, number)
        rebuild = _checked(data, manifest, needs_entry=log is not None)
        path = published_path(manifest.digest, rebuild.key)
        await home.storage.put(path, data, replace=True)
        left_out = tuple(sorted({*manifest.regions, GLOBAL} - set(rebuild.bundles)))
        index = None
        if log is not None:
            index = await _log(home, *log, data, now, path)
    return Attested(rebuild, path, left_out, index)


def _checked(data: bytes, manifest: Manifest, *, needs_entry: bool) -> Rebuild:
    try:
        rebuild = open_rebuild(data)
        rebuild.check(manifest)
    except (VerificationError, NewerFormatError) as error:
        raise UsageError(
            f"this is no good attestation of release {manifest.release}: {error.what}",
            kept="nothing was published",
            todo="get it again from the rebuilder: coldchain rebuild URL N --sign KEYFILE",
        ) from error
    if needs_entry and len(data) > LIMITS.log_entry_bytes:
        raise UsageError(
            f"{len(data):,} bytes are more than an entry of the public log holds", kept="nothing was published"
        )
    return rebuild


async def _log(home: Home, keyring: Keyring, witnesses: Witnesses, data: bytes, now: datetime, path: str) -> int:
    policy = policy_of(await load_state(home.storage))
    log = PublicLog(home.storage, policy.log_keys[0])
    sign = log_signer(keyring, log.key)
    head = await log.checkpoint()
    await witnesses.check_not_behind(policy, log.key, head.size, log.root_at)
    try:
        index, _ = await append_entry(log, sign, policy, witnesses, data, now)
    except EvidenceError as error:
        error.kept = f"{path} is published, and the log holds it as an entry that too few witnesses have seen"
        raise
    return index
