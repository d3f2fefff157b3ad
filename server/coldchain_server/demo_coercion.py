"""What an operator under pressure could do: a special release for one endpoint, signed with everything that is at hand.

For the demonstration and the tests of the public log. The attacker holds all online keys *and* a threshold of the region's keys, so
every signature of the outcome is good, and a client that trusts signatures alone installs it. Only the log stands in the way: the
manifest of the special release is not in it, or it is and everybody sees it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from coldchain import canonical
from coldchain.bundle.canary import canary_section
from coldchain.bundle.description import BundleDescription, Section, parse_description
from coldchain.bundle.evidence_file import encode_evidence
from coldchain.bundle.manifest import BundleFacts, FileFacts, Manifest, parse_manifest
from coldchain.verify import EVIDENCE
from coldchain_server.deltas.changes import BundleChange
from coldchain_server.deltas.encode import encode_delta
from coldchain_server.home import Home
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.roles import (
    ROLLOUT,
    ChannelFacts,
    add_signature,
    load_state,
    next_region_role,
    rollout_role,
    sign,
)
from coldchain_server.signing.rotation import publish_roles, role_signers

Prove = Callable[[bytes], Awaitable[bytes | None]]
"""What stands in for the log's proof of a manifest: None for none."""


@dataclass(frozen=True, slots=True)
class Special:
    """The special release, and its manifest's bytes."""

    number: int
    bundle: str
    manifest: bytes


async def special_release(
    home: Home, keyring: Keyring, region: str, line: bytes, prove: Prove, *, now: datetime, channel: str = "stable"
) -> Special:
    """Publishes, into this copy of the origin, a release for one region that has one more line in its first set section.

    Args:
        home: a *copy* of an origin; the real one is not touched by the attack.
        keyring: all of its keys.
        region: the target's region.
        line: the line to slip in, e.g. one that matches a file that only the target has.
        prove: makes what is shown for the log's proof.
        now: the time of signing.
        channel: the target's channel.
    """
    state = await load_state(home.storage)
    facts = state.channel(region, channel)
    assert facts is not None, "there is no release to start from"
    honest = parse_manifest(home.content.get(facts["manifest"]))
    number = honest.release + 1
    new = _with_line(home, parse_description(home.content.get(facts["bundle"])), number, line)
    full = io.BytesIO()
    encode_delta(BundleChange(None, new), home.content, full)
    manifest = _statement(honest, region, number, new, full.getvalue())
    data = manifest.encode()
    files = {"full.ccd": full.getvalue(), EVIDENCE: encode_evidence(data, await prove(data))}
    prefix = f"{region}/{channel}/"
    targets: dict[str, tuple[int, str]] = {}
    for name, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        targets[prefix + name] = (len(content), digest)
        await home.storage.put(f"targets/{prefix}{digest}.{name}", content)
    await home.storage.put(f"manifests/{manifest.digest}.json", data)
    said = ChannelFacts(number, new.digest, new.total_bytes, new.total_records, manifest.digest, targets)
    role = next_region_role(state.delegated[region], channel, said, now)
    keyids, threshold = state.keyids(region)
    for signer in keyring.signers(keyids, threshold, f"role {region}"):
        add_signature(role, signer)
    entry: canonical.Object = {"release": number, "share": 100, "held": False}
    shares: Mapping[str, Any] = state.rollout()
    rollout = rollout_role(
        state.delegated[ROLLOUT].signed.version + 1, {**shares, region: {**shares[region], channel: entry}}, now
    )
    sign(rollout, role_signers(state, keyring, ROLLOUT))
    await publish_roles(state, keyring, home.storage, {region: role, ROLLOUT: rollout}, now)
    return Special(number, new.digest, data)


def _with_line(home: Home, old: BundleDescription, number: int, line: bytes) -> BundleDescription:
    sections: list[Section] = []
    slipped = False
    for section in old.sections:
        canary = canary_section(section.engine, old.product, old.region, old.channel, number)
        if canary is not None and canary[0] == section.name:
            data = canary[1]
            sections.append(replace(section, bytes=len(data), sha256=home.content.put(data)))
        elif section.kind == "set" and not slipped:
            slipped = True
            lines = sorted({*home.content.get(section.sha256).splitlines(keepends=True), line + b"\n"})
            data = b"".join(lines)
            sections.append(replace(section, records=len(lines), bytes=len(data), sha256=home.content.put(data)))
        else:
            sections.append(section)
    new = replace(old, release=number, sections=tuple(sections))
    home.content.put(new.encode())
    return new


def _statement(honest: Manifest, region: str, number: int, new: BundleDescription, full: bytes) -> Manifest:
    """The honest manifest of the release before, with another number and the special bundle."""
    facts = BundleFacts(new.digest, new.total_bytes, new.total_records)
    regions = dict(honest.regions)
    regions[region] = replace(regions[region], facts=facts, full=FileFacts(len(full), hashlib.sha256(full).hexdigest()))
    return replace(honest, release=number, previous=honest.digest, regions=regions)
