"""``coldchain explain``: where a name that an engine reported stands in the installed set, and what it means.

For each place: the record decoded, the feed it came from, and whether it is in force::

    active          the engine reports it
    unwanted-only   only where unwanted programs are reported too (clamd: DetectPUA)
    suppressed      a list of the bundle (.ign, .ign2) switches the name off
    exception       it keeps files from being reported
    switch          it switches another signature off
    private         a YARA rule that others use, and that is not reported by itself
    listed          an entry of a list, which no engine loads
    not-loaded      no engine of its kind is set up here

and for the name: since which release, as far as what is kept here tells it (``--history`` asks the published releases), and which
entry of the public log speaks of it.

An engine adds to names that are not its vendor's own: ``Acme.X-7.UNOFFICIAL``, ``YARA.my_rule.UNOFFICIAL``. Both are taken off
before the search. A name that is not there may have been left out for the region on purpose; the release's manifest says so, with
the reason, and so does the answer.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from coldchain.bundle.description import BundleDescription, Section
from coldchain.bundle.header import CANARIES
from coldchain.bundle.manifest import Manifest, Policy, parse_manifest
from coldchain.bundle.sections import blocks
from coldchain.canonical import Object
from coldchain.engines.settings import engine_settings
from coldchain.errors import ColdchainError
from coldchain.install import durable, trusted, versions
from coldchain.install.directory import ClientDirectory
from coldchain.install.log_status import log_status
from coldchain.install.policy_file import read_customer_policy
from coldchain.install.versions import OldVersion, Version
from coldchain.limits import LIMITS, Limits
from coldchain.records import extension, in_words, record_name, rule_text
from coldchain.verify import MANIFEST

MOST = 20
SIGTOOL_SECONDS = 10
_UNWANTED: Final = frozenset({"hdu", "hsu", "ldu", "mdu", "msu", "ndu"})
_PRIVATE: Final = re.compile(rb"[ \t]*(?:global[ \t]+)?private[ \t]")
_DECODABLE = frozenset({"hdb", "hsb", "mdb", "msb", "ndb", "ldb", "ndu", "ldu"})


@dataclass(slots=True)
class Place:
    """One record of the name.

    Attributes:
        section: where it stands.
        engine: what loads the section: clamav, yara, or list for none.
        feed: where the section came from; None for what is the publisher's own (canaries) or not known.
        line: the raw line, or a rule's lines.
        words: what it means.
        state: one of the words of the module.
        why: the state in words.
        sigtool: what ClamAV's own decoder says, where it is installed.
    """

    section: str
    engine: str
    feed: str | None
    line: str
    words: list[str]
    state: str
    why: str
    sigtool: str | None = None


@dataclass(frozen=True, slots=True)
class Since:
    """Since when the name is there: ``release`` is the earliest that is known to have it; ``exact`` if none before it had it."""

    release: int
    exact: bool
    reason: str


@dataclass(slots=True)
class Explanation:
    """The answer: where the name stands, since when, the entry of the public log, and the region's policies that speak of it.

    ``entry`` is the release whose entry of the log ``index`` and ``origin`` name: the earliest one (``since``) if it is kept here, else
    the running one. All three are None when the log's evidence does not show it.
    """

    name: str
    release: int
    region: str
    places: list[Place] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    since: Since | None = None
    entry: int | None = None
    index: int | None = None
    origin: str | None = None

    @property
    def active(self) -> bool:
        """Whether an engine reports the name."""
        return any(one.state == "active" for one in self.places)

    def as_json(self) -> Object:
        """For ``--json``."""
        return {
            "name": self.name,
            "release": self.release,
            "region": self.region,
            "found": bool(self.places),
            "places": [
                {
                    "section": one.section,
                    "engine": one.engine,
                    "feed": one.feed,
                    "line": one.line,
                    "words": list(one.words),
                    "state": one.state,
                    "why": one.why,
                    "sigtool": one.sigtool,
                }
                for one in self.places
            ],
            "active": self.active,
            "since": {"release": self.since.release, "exact": self.since.exact, "reason": self.since.reason}
            if self.since
            else None,
            "log": {"release": self.entry, "index": self.index, "origin": self.origin}
            if self.entry is not None
            else None,
            "policies": [{"action": one.action, "kind": one.kind, "reason": one.reason} for one in self.policies],
        }


def plain_name(name: str) -> str:
    """The name without what an engine adds to it."""
    return name.strip().removesuffix(".UNOFFICIAL").removeprefix("YARA.")


def explain(
    directory: ClientDirectory, version: Version, name: str, now: datetime, limits: Limits = LIMITS
) -> Explanation:
    """Looks a name up in an installed version.

    Args:
        directory: the endpoint's.
        version: of it.
        name: as an engine reports it.
        now: cosignatures of the log from after it do not count.
        limits: bounds.

    Raises:
        DamagedError: the version cannot be read.
        UsageError: the customer's policy.toml is not in order.
    """
    old = OldVersion(version, limits)
    found = Explanation(plain_name(name), version.release, old.description.region)
    kinds = _engines(directory, limits)
    manifest = _manifest(directory, version, limits)
    ignored = _ignored(old, found.name, limits)
    for section, line in search(old, found.name, limits):
        words = (
            in_words(section.name, line)
            if section.engine != "list"
            else ["an entry of a list: it matches as it stands"]
        )
        state, why = _state(section, line, ignored, kinds)
        found.places.append(
            Place(
                section.name,
                section.engine,
                _feed(section.name, manifest),
                line.decode("utf-8", "replace"),
                words,
                state,
                why,
                _sigtool(section, line),
            )
        )
        if len(found.places) == MOST:
            break
    region = manifest.regions.get(found.region) if manifest else None
    found.policies = (
        [one for one in region.policy if one.kind == "signature" and one.name == found.name] if region else []
    )
    if found.places:
        _since(directory, version, found, limits)
    find_entry(directory, version, found, now, limits)
    return found


def _engines(directory: ClientDirectory, limits: Limits) -> dict[str, list[str]] | None:
    """The names of the engines that are set up here, by their kind; None when none is, and whatever reads ``current`` is unknown."""
    settings = engine_settings(read_customer_policy(directory, limits).tables)
    out: dict[str, list[str]] = {}
    for one in settings.engines:
        out.setdefault(one.kind, []).append(one.name)
    return out or None


def _ignored(old: Content, name: str, limits: Limits) -> list[tuple[str, bytes]]:
    """The lines that switch the name off, each with its section."""
    lists = [one for one in old.description.sections if extension(one.name) in ("ign", "ign2")]
    out = []
    for section in lists:
        with old.open(section.name) as file:
            for line in file.read(min(section.bytes, limits.compared_file_bytes)).splitlines():
                parts = line.split(b":")
                named = parts[-1] if extension(section.name) == "ign" else parts[0]
                if named.decode("utf-8", "replace") == name:
                    out.append((section.name, line))
    return out


def _state(
    section: Section, line: bytes, ignored: list[tuple[str, bytes]], kinds: dict[str, list[str]] | None
) -> tuple[str, str]:
    """Whether a record is in force, and why."""
    kind = extension(section.name)
    if section.engine == "list":
        return "listed", "no engine loads a list; whoever uses it decides"
    if kinds is not None and section.engine not in kinds:
        return "not-loaded", f"no engine of kind {section.engine} is set up in policy.toml"
    if kind in ("ign", "ign2"):
        return "switch", "it switches the signature of this name off"
    if kind in ("fp", "sfp"):
        return "exception", "such a file is never reported"
    for name, entry in ignored if section.engine == "clamav" else ():
        digest = entry.split(b":")[1:2] if extension(name) == "ign2" else []
        if not digest or digest[0].decode("latin-1").lower() == hashlib.md5(line, usedforsecurity=False).hexdigest():
            return "suppressed", f"{name} switches it off"
    if section.engine == "yara" and _PRIVATE.match(line):
        return "private", "a private rule: other rules use it, and it is not reported by itself"
    if kind in _UNWANTED:
        return "unwanted-only", "it counts only where unwanted programs are reported too (clamd: DetectPUA yes)"
    who = f"by {', '.join(kinds[section.engine])}" if kinds else f"by whatever {section.engine} engine loads this set"
    off = f"; ClamAV would leave it out ({ignored[0][0]})" if ignored and section.engine == "yara" else ""
    return "active", f"reported {who}{off}"


def _feed(section: str, manifest: Manifest | None) -> str | None:
    """A section is called by its feed, a dash and the file's name there."""
    if section in CANARIES or manifest is None:
        return None
    return max((one.name for one in manifest.feeds if section.startswith(f"{one.name}-")), key=len, default=None)


def _since(directory: ClientDirectory, version: Version, found: Explanation, limits: Limits) -> None:
    """As far as the versions that are kept here tell it."""
    earlier = [one for one in versions.installed(directory) if one.release < version.release]
    if not earlier:
        found.since = Since(version.release, exact=False, reason=f"release {version.release} is the only one kept here")
        return
    (before,) = earlier
    there = any(True for _ in search(OldVersion(before, limits), found.name, limits))
    if there:
        found.since = Since(
            before.release, exact=False, reason=f"release {before.release} is the oldest kept here, and has it"
        )
    elif before.release == version.release - 1:
        found.since = Since(version.release, exact=True, reason=f"release {before.release} does not have it")
    else:
        why = f"release {before.release} does not have it, and those between are not kept here"
        found.since = Since(version.release, exact=False, reason=why)


def find_entry(
    directory: ClientDirectory, version: Version, found: Explanation, now: datetime, limits: Limits = LIMITS
) -> None:
    """Fills in the entry of the public log: of the release since which the name is there, if it is kept here, else of ``version``."""
    first = found.since.release if found.since else version.release
    version = next((one for one in versions.installed(directory) if one.release == first), version)
    known = log_status(directory, directory.config(), version, now, limits)
    if known.index is not None and not known.problem:
        found.entry, found.index, found.origin = version.release, known.index, known.origin


def _manifest(directory: ClientDirectory, version: Version, limits: Limits) -> Manifest | None:
    data = trusted.read_evidence(directory, version.name, limits).get(MANIFEST)
    try:
        return parse_manifest(data, limits) if data is not None else None
    except ColdchainError:
        return None


class Content(Protocol):
    """A bundle's sections and their content."""

    @property
    def description(self) -> BundleDescription:
        """Its sections."""

    def open(self, name: str) -> BinaryIO:
        """A section's content."""


def search(bundle: Content, name: str, limits: Limits = LIMITS) -> Iterator[tuple[Section, bytes]]:
    """The records of a name (without what an engine adds to it), each with its section.

    Raises:
        DamagedError: a section cannot be read.
    """
    wanted = name.encode("utf-8", "surrogateescape")
    for section in bundle.description.sections if wanted else ():
        with bundle.open(section.name) as file, durable.disk(Path(section.name)):
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
