"""Logging a release: its manifest goes into the public log and before the witnesses; only then are the region roles made.

::

    files        the full bundles, the feeds' snapshots and the manifest are published: whoever reads the entry can fetch them
    entry        the manifest is appended to the log (once: a try after a crash finds the entry that is there)
    witnesses    each is asked to cosign the new checkpoint; without the policy's quorum it ends here, and nothing can be signed
    evidence     the offline proof, verified with the client's code
    roles        every region's role names bundle, deltas and evidence (manifest and proof in one file); the assembler signs them

So nothing that customers would accept can exist without the log: a proof is part of what the roles sign, and there is no proof
without the entry and the quorum. An entry cannot be taken back; a release that is given up after this stays in the log, and the
next one names it as the one before it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from coldchain.bundle.evidence_file import encode_evidence
from coldchain.bundle.manifest import Manifest
from coldchain.errors import EvidenceError, InternalError, StateError
from coldchain.tlog.checkpoint import parse_checkpoint
from coldchain.tlog.note import SignedNote
from coldchain.tlog.offline import verify_proof
from coldchain.tlog.policy import Policy
from coldchain.tlog.proof import OfflineProof
from coldchain.tlog.vkey import NoteKey
from coldchain.verify import EVIDENCE, MANIFEST, PROOF
from coldchain_server.catalogue.interface import Catalogue, Release
from coldchain_server.gate.gate import require_gate
from coldchain_server.home import Home
from coldchain_server.log.public_log import PublicLog, Sign
from coldchain_server.release.drafts import Draft, measure
from coldchain_server.release.publish import put_measured, put_snapshots, reconcile
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.log_policy import log_signer, policy_of
from coldchain_server.signing.roles import ChannelFacts, RoleState, add_signature, load_state, next_region_role

ASSEMBLER = "assembler"


class Witnesses(Protocol):
    """Whoever asks the witnesses (:mod:`coldchain_server.log.witness_client`); the domain knows no network."""

    async def check_not_behind(
        self, policy: Policy, log: NoteKey, size: int, root_at: Callable[[int], Awaitable[bytes]]
    ) -> None:
        """Raises StateError when a witness holds more of the log than the tree does, or another log."""

    async def collect(
        self,
        note: SignedNote,
        policy: Policy,
        prove: Callable[[int], Awaitable[Sequence[bytes]]],
        sizes: Mapping[str, int],
        now: datetime,
    ) -> tuple[SignedNote, EvidenceError | None]:
        """The note with the cosignatures that came, and what is wrong when they are no quorum."""


@dataclass(frozen=True, slots=True)
class Logged:
    """Where a release's entry is, who cosigned, and how long the proof is (bytes)."""

    origin: str
    index: int
    size: int
    witnesses: tuple[str, ...]
    proof_bytes: int


async def log_release(
    home: Home,
    catalogue: Catalogue,
    keyring: Keyring,
    witnesses: Witnesses,
    channel: str,
    number: int,
    *,
    now: datetime,
) -> Logged:
    """Logs a built release and makes its region roles, signed by the assembler.

    Args:
        home: the origin.
        catalogue: moves the release to ``logged``.
        keyring: must hold the log's and the assembler's key.
        witnesses: asked for cosignatures.
        channel: of the release.
        number: of the release.
        now: the time.

    Raises:
        StateError: not a built release, or the log here is an old copy.
        GateError: the manifest does not say that the release was tried.
        EvidenceError: no quorum of witnesses; run it again when they answer.
        StorageError: the log's files are damaged, or the disk refused.
    """
    async with catalogue.publisher():
        state = await load_state(home.storage)
        await reconcile(home, catalogue, state, now=now)
        release = await _built(catalogue, channel, number)
        draft = Draft(home.draft(channel, number))
        manifest, data = draft.manifest(release), draft.read(draft.directory / MANIFEST)
        require_gate(manifest)
        policy = policy_of(state)
        log = PublicLog(home.storage, policy.log_keys[0])
        sign = log_signer(keyring, log.key)
        before = await log.checkpoint()
        await witnesses.check_not_behind(policy, log.key, before.size, log.root_at)
        await _put_files(home, draft, manifest, data)
        index, proof = await append_entry(log, sign, policy, witnesses, data, now)
        encoded = proof.encode()
        verified = verify_proof(data, encoded, policy, now)
        draft.write(draft.directory / PROOF, encoded)
        draft.write(draft.directory / EVIDENCE, encode_evidence(data, encoded))
        _sign_roles(draft, state, keyring, manifest, now)
        await catalogue.set_state(channel, number, "logged", now.strftime("%Y-%m-%dT%H:%M:%SZ"))
    head = verified.head
    return Logged(head.checkpoint.origin, index, head.checkpoint.size, tuple(head.verdict.counted), len(encoded))


async def _built(catalogue: Catalogue, channel: str, number: int) -> Release:
    release = await catalogue.release(channel, number)
    if release is None or release.state != "built":
        raise StateError(
            f"release {number} of {channel} is {f'{release.state} already' if release else 'not built'}",
            todo="coldchain-server release list",
        )
    return release


async def _put_files(home: Home, draft: Draft, manifest: Manifest, data: bytes) -> None:
    for region, facts in manifest.regions.items():
        if facts.full is None:
            raise InternalError(f"the manifest names no file of region {region}")
        path = f"targets/{region}/{manifest.channel}/{facts.full.sha256}.full.ccd"
        await put_measured(home, path, draft.target(region, "full.ccd"), facts.full.sha256)
    await put_snapshots(home, manifest)
    await home.storage.put(f"manifests/{manifest.digest}.json", data)


async def append_entry(
    log: PublicLog,
    sign: Sign,
    policy: Policy,
    witnesses: Witnesses,
    data: bytes,
    now: datetime,
    *,
    first: int | None = None,
) -> tuple[int, OfflineProof]:
    """Appends an entry unless it is there, and has the checkpoint cosigned.

    The caller holds the publisher's lock, and has asked the witnesses whether the log here is an old copy.

    Args:
        log: the public log.
        sign: makes its signatures.
        policy: whose quorum must cosign.
        witnesses: whom to ask.
        data: the entry.
        now: the time.
        first: an earlier try appended it at this index or later; None: among the entries of the last bundle, if at all.

    Raises:
        EvidenceError: no quorum of witnesses; the entry is in the log, and running it again asks them again.
    """
    old = await log.checkpoint()
    note = await log.head()
    sizes = _held(note, policy)
    index = await log.find(data, first)
    if index is None or note is None:
        index, note = await log.append([data], sign, pending=True)
    head = parse_checkpoint(note.text)
    cosigned, lacking = await witnesses.collect(note, policy, lambda size: log.growth(size, head), sizes, now)
    if lacking is not None:
        await log.keep(cosigned)
        lacking.kept = f"the log holds the entry ({index}); nothing is signed or published"
        raise lacking
    await log.publish(cosigned)
    if head.size < old.size:
        raise InternalError("the log shrank")
    return index, OfflineProof(index, tuple(await log.inclusion(index, head)), cosigned)


def _held(note: SignedNote | None, policy: Policy) -> dict[str, int]:
    """What witnesses hold, as far as the published checkpoint tells: those that cosigned it hold its size."""
    if note is None:
        return {}
    signed = {(one.name, one.key_id) for one in note.signatures}
    size = parse_checkpoint(note.text).size
    return {one.name: size for key, one in policy.witness_keys.items() if (key.name, key.key_id) in signed}


def _sign_roles(draft: Draft, state: RoleState, keyring: Keyring, manifest: Manifest, now: datetime) -> None:
    """Every region's role with this release in it, signed by the assembler."""
    for region, facts in manifest.regions.items():
        prefix = f"{region}/{manifest.channel}"
        files = sorted((draft.directory / "targets" / region).glob("*.ccd"))
        targets = {f"{prefix}/{file.name}": measure(file) for file in files}
        targets[f"{prefix}/{EVIDENCE}"] = measure(draft.directory / EVIDENCE)
        whole = facts.facts
        channel = ChannelFacts(manifest.release, whole.bundle, whole.bytes, whole.records, manifest.digest, targets)
        role = next_region_role(state.delegated[region], manifest.channel, channel, now)
        keyids, _ = state.keyids(region)
        for signer in keyring.signers(keyids, 1, f"role {region}", prefer=ASSEMBLER):
            add_signature(role, signer)
        draft.put_role(region, role)
