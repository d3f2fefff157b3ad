"""``coldchain explain``: where a name that an engine reported stands in the installed set, and what it means.

An engine adds to names that are not its vendor's own: ``Acme.X-7.UNOFFICIAL``, ``YARA.my_rule.UNOFFICIAL``. Both are taken off
before the search. A name that is not there may have been left out for the region on purpose; the release's manifest says so, with
the reason, and so does the answer.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from coldchain.bundle.description import BundleDescription, Section
from coldchain.bundle.manifest import Policy, parse_manifest
from coldchain.bundle.sections import blocks
from coldchain.canonical import Object
from coldchain.errors import ColdchainError
from coldchain.install import durable, trusted
from coldchain.install.directory import ClientDirectory
from coldchain.install.versions import OldVersion, Version
from coldchain.limits import LIMITS, Limits
from coldchain.records import extension, in_words, record_name, rule_text
from coldchain.verify import MANIFEST

MOST = 20
SIGTOOL_SECONDS = 10
_DECODABLE = frozenset({"hdb", "hsb", "mdb", "msb", "ndb", "ldb", "ndu", "ldu"})


@dataclass(slots=True)
class Place:
    """One record of the name: its section, its raw line (a rule's lines), and what it means in words."""

    section: str
    line: str
    words: list[str]
    sigtool: str | None = None


@dataclass(slots=True)
class Explanation:
    """The answer: where the name stands, and the policies of the region that speak of it."""

    name: str
    release: int
    region: str
    places: list[Place] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)

    def as_json(self) -> Object:
        """For ``--json``."""
        return {
            "name": self.name,
            "release": self.release,
            "region": self.region,
            "found": bool(self.places),
            "places": [
                {"section": one.section, "line": one.line, "words": list(one.words), "sigtool": one.sigtool}
                for one in self.places
            ],
            "policies": [{"action": one.action, "kind": one.kind, "reason": one.reason} for one in self.policies],
        }


def plain_name(name: str) -> str:
    """The name without what an engine adds to it."""
    return name.strip().removesuffix(".UNOFFICIAL").removeprefix("YARA.")


def explain(directory: ClientDirectory, version: Version, name: str, limits: Limits = LIMITS) -> Explanation:
    """Looks a name up in an installed version.

    Raises:
        DamagedError: the version cannot be read.
    """
    old = OldVersion(version, limits)
    found = Explanation(plain_name(name), version.release, old.description.region)
    for section, line in _search(old, old.description, found.name, limits):
        words = (
            in_words(section.name, line)
            if section.engine != "list"
            else ["an entry of a list: it matches as it stands"]
        )
        found.places.append(Place(section.name, line.decode("utf-8", "replace"), words, _sigtool(section, line)))
        if len(found.places) == MOST:
            break
    found.policies = _policies(directory, version, found, limits)
    return found


def _search(
    old: OldVersion, description: BundleDescription, name: str, limits: Limits
) -> Iterator[tuple[Section, bytes]]:
    wanted = name.encode("utf-8", "surrogateescape")
    for section in description.sections if wanted else ():
        with old.open(section.name) as file, durable.disk(old.version.path / section.name):
            if section.kind == "set":
                for block in blocks(file, section.name, limits):
                    if wanted not in block:
                        continue
                    for line in block.split(b"\n"):
                        if wanted in line and _is(section, line, name):
                            yield section, line
            elif section.bytes <= limits.zstd_dictionary_bytes * 8:
                data = file.read()
                text = rule_text(data, name) if section.engine == "yara" else _line(section, data, wanted, name)
                if text is not None:
                    yield section, text


def _is(section: Section, line: bytes, name: str) -> bool:
    if section.engine == "list":
        return name in line.decode("utf-8", "replace").replace("\t", " ").split(" ")
    return record_name(section.name, line) == name


def _line(section: Section, data: bytes, wanted: bytes, name: str) -> bytes | None:
    return next((line for line in data.splitlines() if wanted in line and _is(section, line, name)), None)


def _policies(directory: ClientDirectory, version: Version, found: Explanation, limits: Limits) -> list[Policy]:
    data = trusted.read_evidence(directory, version.name, limits).get(MANIFEST)
    try:
        region = parse_manifest(data, limits).regions.get(found.region) if data is not None else None
    except ColdchainError:
        return []
    return [one for one in region.policy if one.kind == "signature" and one.name == found.name] if region else []


def _sigtool(section: Section, line: bytes) -> str | None:
    """What ClamAV's own decoder says, where it is installed: an addition, never relied upon."""
    program = shutil.which("sigtool")
    if program is None or section.engine != "clamav" or extension(section.name) not in _DECODABLE:
        return None
    try:
        done = subprocess.run(  # noqa: S603  a fixed program; the line goes in as data
            [str(Path(program)), "--decode-sigs"],
            input=line + b"\n",
            capture_output=True,
            timeout=SIGTOOL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() or None if done.returncode == 0 else None
