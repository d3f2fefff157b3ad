"""The check *new-detections*: what is found in the corpora that the release before did not find, and the other way round.

What a release finds in the must-detect corpus is kept for the next one::

    HOME/gate/stable-42.json
    {"engines":["clamav","yara"],"format":"coldchain-detections-1",
     "samples":{"<sha256 of a sample>":["clamav Eicar-Test-Signature","yara Acme_Eicar"]}}

Only samples and engines that both releases were tried with are compared. New detections in clean files are none at all: one would have
failed the check *clean*. The counts fail nothing; they are there for whoever approves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from coldchain import canonical
from coldchain.canonical import Fields
from coldchain.errors import MalformedError
from coldchain_server.gate.result import Result, not_run, passed, some
from coldchain_server.gate.trial import Files, Trials

FORMAT: Final = "coldchain-detections-1"
_MOST_BYTES: Final = 256 << 20
_MOST_SAMPLES: Final = 1_000_000
_MOST_NAMES: Final = 4096
_MOST_NAME: Final = 4096


@dataclass(frozen=True, slots=True)
class Detections:
    """What a release finds: the engines it was tried in, and sample (its SHA-256) -> ``engine name``."""

    engines: frozenset[str] = frozenset()
    samples: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The canonical bytes of the file."""
        samples: canonical.Object = {digest: [*sorted(names)] for digest, names in self.samples.items()}
        return canonical.encode({"format": FORMAT, "engines": [*sorted(self.engines)], "samples": samples})


def parse_detections(data: bytes) -> Detections:
    """Reads the file. Raises MalformedError for anything that :meth:`Detections.encode` does not write."""
    what = "detections"
    if len(data) > _MOST_BYTES:
        raise MalformedError(f"{what}: longer than allowed")
    fields = Fields(canonical.read_canonical(data, what), what)
    if fields.text("format") != FORMAT:
        raise MalformedError(f"{what}: another format")
    engines = frozenset(_texts(fields.items("engines", 8)))
    samples = {}
    for digest, names in fields.object("samples", _MOST_SAMPLES).items():
        if not canonical.is_sha256(digest) or not isinstance(names, list) or len(names) > _MOST_NAMES:
            raise MalformedError(f"{what}: a sample is not as written")
        samples[digest] = frozenset(_texts(names))
    fields.done()
    return Detections(engines, samples)


def _texts(items: list[canonical.JSON]) -> list[str]:
    texts = [item for item in items if isinstance(item, str) and len(item) <= _MOST_NAME]
    if len(texts) != len(items):
        raise MalformedError("detections: not a list of names")
    return texts


def detections(trials: Trials, files: Files) -> Detections:
    """What the trials found in the samples, in all regions together."""
    found = {}
    for path in files.samples:
        names = {f"{trial.group.kind} {name}" for trial in trials.done for name in trial.found(path)}
        found[_digest(path)] = frozenset(names)
    return Detections(frozenset(trial.group.kind for trial in trials.done), found)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_new_detections(trials: Trials, before: Detections | None, now: Detections) -> Result:
    """Compares with the release before; ``before`` is None where there is none."""
    check = "new-detections"
    if not trials.done:
        if not trials.absent:
            return passed(check, "no bundle has a section for an engine")
        return not_run(check, f"no engine ran; {trials.missing()}")
    if not trials.loaded:
        return not_run(check, "a set was not loaded as it is, so that what it finds says nothing")
    if before is None:
        return passed(check, f"no release before this one; {_count(now):,} in {len(now.samples):,} samples")
    engines, both = before.engines & now.engines, before.samples.keys() & now.samples.keys()
    old = {(digest, name) for digest in both for name in before.samples[digest] if name.split(" ")[0] in engines}
    new = {(digest, name) for digest in both for name in now.samples[digest] if name.split(" ")[0] in engines}
    words = [f"none in clean files; {len(both):,} samples compared with the release before"]
    for what, pairs in (("new", new - old), ("gone", old - new)):
        names = [name.partition(" ")[2] for _, name in pairs]
        words.append(f"{len(pairs):,} {what}" + (f" ({some(names)})" if names else ""))
    return passed(check, ", ".join(words))


def _count(found: Detections) -> int:
    return sum(len(names) for names in found.samples.values())
