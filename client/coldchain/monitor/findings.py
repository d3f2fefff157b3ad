"""What a monitor raises: alerts by kind, and what each kind means.

A *lasting* kind is a fact that nothing undoes: it stands in every report until a person acknowledges it. The others pass by themselves
when the next run no longer finds them. ``docs/monitor.md`` is held against this table by a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coldchain.canonical import Object
from coldchain.tlog.note import SignedNote

MOST_WORDS: Final = 4000


@dataclass(frozen=True, slots=True)
class Kind:
    """What an alert of this kind means, and whether it lasts."""

    lasting: bool
    meaning: str


KINDS: Final[dict[str, Kind]] = {
    "fork": Kind(
        True, "the log signed two histories of which neither continues the other; both signed checkpoints are the proof"
    ),
    "backwards": Kind(True, "the log shows a smaller tree than it showed, or than a witness cosigned before"),
    "log-changed": Kind(True, "the checkpoint is of another log than the one followed so far"),
    "duplicate": Kind(True, "two manifests with one number"),
    "gap": Kind(True, "a number is missing in the channel's entries"),
    "chain": Kind(True, "an entry names another manifest before it than the one in the log"),
    "not-a-manifest": Kind(True, "an entry that is no release manifest, or is one of another product"),
    "newer-entry": Kind(True, "an entry in a later format than this program knows (exit code 17 elsewhere)"),
    "residency": Kind(
        True,
        "an entry about where outcome reports are that is malformed, of another product, or contradicts the one before it",
    ),
    "bundle-missing": Kind(True, "a bundle that an entry names cannot be fetched"),
    "unreachable": Kind(False, "something that an entry names could not be had for now; it is asked for again"),
    "bundle-wrong": Kind(True, "a bundle is not what its entry names: length, digest or content"),
    "snapshot-missing": Kind(True, "a feed snapshot that an entry names is not there, or is another one"),
    "regions-differ": Kind(True, "regions of one release differ by more than their declared policies"),
    "keys": Kind(True, "keys or thresholds of a role are not those seen last"),
    "policy": Kind(True, "the root carries another log policy than the one seen last"),
    "unlogged": Kind(True, "a region's role offers a release that the log does not hold"),
    "evidence": Kind(True, "what a region's role offers comes without good evidence, or is not what its entry says"),
    "standing-still": Kind(False, "roles offer newer releases, and the log has not grown"),
    "metadata": Kind(False, "the signed metadata is refused, as any client would"),
    "log-missing": Kind(False, "there is no checkpoint, and there was one"),
    "checkpoint": Kind(False, "what is published as the checkpoint is none that the log signed"),
    "unreadable": Kind(False, "tiles or entries under the checkpoint are missing, or are not those under its root"),
    "no-quorum": Kind(False, "the checkpoint lacks the cosignatures that the policy asks for"),
    "witness-behind": Kind(False, "a witness holds an older tree for longer than it may"),
    "witness-silent": Kind(False, "a witness does not show what it holds"),
}


@dataclass(frozen=True, slots=True)
class Alert:
    """One finding.

    Attributes:
        kind: one of :data:`KINDS`.
        what: in words, the same in every run that finds it.
        proof: signed checkpoints that prove it to anybody; empty when none are needed.
    """

    kind: str
    what: str
    proof: tuple[SignedNote, ...] = ()

    def __post_init__(self) -> None:
        # foreign words stand in it; it goes into files and onto terminals
        plain = "".join(char if char.isprintable() else "?" for char in self.what[:MOST_WORDS])
        object.__setattr__(self, "what", plain)

    @property
    def lasting(self) -> bool:
        """Whether it stands until it is acknowledged."""
        return KINDS[self.kind].lasting

    @property
    def proof_text(self) -> str:
        """The signed checkpoints, one after the other."""
        return "\n".join(note.encode().decode() for note in self.proof)

    def as_json(self) -> Object:
        """For ``--json``."""
        return {"kind": self.kind, "what": self.what, "proof": [note.encode().decode() for note in self.proof]}
