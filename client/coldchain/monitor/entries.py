"""The entries of a log, one after the other: each a manifest, and those of a channel one unbroken chain of numbers.

Beside the manifests stand rebuilders' attestations (:mod:`coldchain.attestation`) and statements that a region's outcome reports
moved (:mod:`coldchain.residency`); a region's moves are a chain, too.

Worked example, entries of channel ``stable`` by number and ``previous``::

    1 null, 2 ->1, 3 ->2            in order
    1 null, 2 ->1, 2' ->1           duplicate: two manifests with one number, one of them for somebody
    1 null, 3 ->2                   gap
    1 null, 2 ->x                   chain: another release 1 than the one in the log
    1 null, 1 null (same bytes)     a note: a publisher that crashed may log an entry twice

The numbers of the last :data:`REMEMBERED` releases are kept with their digests, whatever the log's size.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from coldchain.attestation import is_envelope, parse_envelope
from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.errors import ColdchainError, MalformedError, NewerFormatError
from coldchain.limits import LIMITS, Limits
from coldchain.monitor.findings import Alert
from coldchain.residency import Places, is_move, parse_move

REMEMBERED: Final = 128


@dataclass(slots=True)
class Channel:
    """What is known of a channel: the highest number, and index and digest of the entries of its last numbers."""

    last: int = 0
    entries: dict[int, list[tuple[int, str]]] = field(default_factory=dict)

    def digests(self, number: int) -> list[str]:
        """The manifests of that number."""
        return [digest for _, digest in self.entries.get(number, [])]


@dataclass(slots=True)
class Judged:
    """One entry: its manifest, if it is one of this product, and what is wrong with it."""

    manifest: Manifest | None = None
    alerts: list[Alert] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Chains:
    """Every channel's chain so far, and where the regions' reports went."""

    product: str
    channels: dict[str, Channel] = field(default_factory=dict)
    limits: Limits = LIMITS
    places: Places = field(default_factory=Places)

    def take(self, index: int, data: bytes) -> Judged:
        """Judges the next entry, and remembers it."""
        found = Judged()
        try:
            if is_move(data):
                return self._move(index, data)
            if is_envelope(data):
                parse_envelope(data)
                found.notes.append(f"entry {index}: an attestation")
                return found
            manifest = parse_manifest(data, self.limits)
        except NewerFormatError as error:
            found.alerts.append(Alert("newer-entry", f"entry {index}: {error.what}"))
            return found
        except ColdchainError as error:
            found.alerts.append(Alert("not-a-manifest", f"entry {index}: {error.what}"))
            return found
        if manifest.product != self.product:
            what = f"entry {index} is a manifest of product {manifest.product!r}, not of {self.product!r}"
            found.alerts.append(Alert("not-a-manifest", what))
            return found
        found.manifest = manifest
        channel = self.channels.setdefault(manifest.channel, Channel())
        number, digest = manifest.release, hashlib.sha256(data).hexdigest()
        where = f"entry {index}: release {number} of {manifest.channel}"
        known = channel.entries.get(number, [])
        if digest in channel.digests(number):
            found.notes.append(f"{where} stands in the log twice, byte for byte the same")
            return found
        if known:
            others = ", ".join(f"entry {at} (manifest {sha[:16]}…)" for at, sha in known)
            what = f"{where} (manifest {digest[:16]}…) is a second manifest with this number; the other: {others}"
            found.alerts.append(Alert("duplicate", what))
        elif number <= channel.last:
            what = f"{where} comes after release {channel.last}: it fills a gap, or its number stood there long before"
            found.alerts.append(Alert("duplicate", what))
        elif number > channel.last + 1:
            missing = f"{channel.last + 1}" + (f" to {number - 1}" if number > channel.last + 2 else "")
            found.alerts.append(Alert("gap", f"{where} comes after release {channel.last}: {missing} not in the log"))
        if exceptions := manifest.gate_exceptions():
            found.notes.append(f"{where}: {'; '.join(exceptions)}")
        before = channel.digests(number - 1)
        if (number == 1 and manifest.previous is not None) or (before and manifest.previous not in before):
            named = f"{manifest.previous[:16]}…" if manifest.previous else "none"
            what = f"{where} names {named} as the manifest before it, the log holds {before[0][:16] + '…' if before else 'none'}"
            found.alerts.append(Alert("chain", what))
        channel.entries.setdefault(number, []).append((index, digest))
        channel.last = max(channel.last, number)
        for old in [one for one in channel.entries if one <= channel.last - REMEMBERED]:
            del channel.entries[old]
        return found

    def _move(self, index: int, data: bytes) -> Judged:
        """Judges a statement about where reports are. Raises NewerFormatError for one of a later format."""
        found = Judged()
        try:
            move = parse_move(data, self.limits)
        except MalformedError as error:
            found.alerts.append(Alert("residency", f"entry {index}: {error.what}"))
            return found
        if move.product != self.product:
            what = f"entry {index} states a move of product {move.product!r}, not of {self.product!r}"
            found.alerts.append(Alert("residency", what))
            return found
        again, problems = self.places.take(move)
        found.alerts += [Alert("residency", f"entry {index}: {problem}") for problem in problems]
        found.notes.append(f"entry {index}: {move}" + (" (it stands in the log twice)" if again else ""))
        return found
