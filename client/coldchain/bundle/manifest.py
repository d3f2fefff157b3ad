"""The release manifest: one public statement about one release, for all regions. Canonical JSON, shown with line breaks.

::

    {"assembler":{"source":"<sha256>","version":"0.1.0"},
     "changes":{"global":{"acme-main.hsb":{"added":3,"removed":1}}},
     "channel":"stable",
     "created":"2026-11-24T02:00:00Z",
     "feeds":[{"files":2,"name":"acme","records":1200,"skipped":{},"snapshot":"<sha256>"}],
     "format":"coldchain-manifest-1",
     "gate":[{"check":"lint","detail":"1200 records in 2 files","result":"passed"}],
     "global":{"bundle":"<sha256>","bytes":97000,"records":1201},
     "previous":"<sha256 of the manifest before>" or null,
     "product":"coldchain",
     "regions":{"us":{"bundle":"<sha256>","bytes":97000,"full":{"bytes":21000,"sha256":"<sha256>"},"policy":[],"records":1201},
                "jp":{"bundle":"<sha256>","bytes":96900,"full":{…},"records":1200,"policy":[
                   {"action":"leave-out","kind":"signature","name":"A-7","reason":"why","records":1}]}},
     "release":42}

``previous`` is the manifest of release 41, whether it was published or given up after it was logged: the log's entries of a channel
are one chain. ``full`` is the published file of the whole bundle, so that whoever reads the log can fetch what the entry speaks of;
``source`` is the digest of the assembler's code (:mod:`coldchain_server.assembly.provenance`). Both may be absent.

A release that takes others back says so in one more member, with the reason in public::

    "withdraws":{"reason":"matches a printer driver","releases":[41],"restores":40}

``releases`` were published and should not run any longer; the content is that of release ``restores``.

``changes`` counts records of set sections against the release before (a changed file: 1 added, 1 removed): under ``global`` for all
changed sections, under a region where its counts are other ones. ``skipped`` counts bad records that were left out, by the lint's
code. ``result`` of a gate's check is ``passed``, ``failed`` or ``not-run``; where one was not run, the check ``without-gate`` holds the
publisher's reason to go on. The region roles carry the manifest's SHA-256, so one
manifest binds what every region gets.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from coldchain import canonical
from coldchain.bundle.description import check_section_name, check_token
from coldchain.canonical import Fields
from coldchain.errors import MalformedError, NewerFormatError
from coldchain.limits import LIMITS, Limits

FORMAT = "coldchain-manifest-1"
RESULTS = ("passed", "failed", "not-run")
WITHOUT_GATE = "without-gate"
MOST_TEXT = 1000
MOST_REGIONS = 64
MOST_POLICIES = 4096
MOST_FEEDS = 1024
MOST_CHECKS = 256
MOST_WITHDRAWN = 64

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """A bundle's digest, its sections' bytes and records."""

    bundle: str
    bytes: int
    records: int


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A published file's length and digest."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Policy:
    """A declared difference from the global bundle, and how many records it concerned."""

    action: str
    kind: str
    name: str
    reason: str
    records: int


@dataclass(frozen=True, slots=True)
class RegionFacts:
    """One region's bundle and why it differs from the global one."""

    facts: BundleFacts
    policy: tuple[Policy, ...] = ()
    full: FileFacts | None = None


@dataclass(frozen=True, slots=True)
class FeedFacts:
    """One feed's snapshot, what it held, and what was left out of it."""

    name: str
    snapshot: str
    files: int
    records: int
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One check before publishing; ``result`` is one of :data:`RESULTS`."""

    check: str
    result: str
    detail: str


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """``releases`` (growing) are taken back for ``reason``; the content is again that of the release ``restores``."""

    releases: tuple[int, ...]
    restores: int
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A parsed manifest. ``changes`` is region -> section -> (added, removed)."""

    product: str
    channel: str
    release: int
    previous: str | None
    created: str
    whole: BundleFacts
    regions: Mapping[str, RegionFacts]
    feeds: tuple[FeedFacts, ...]
    assembler: str
    changes: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)
    gate: tuple[GateCheck, ...] = ()
    source: str | None = None
    withdraws: Withdrawal | None = None

    @property
    def without_gate(self) -> str | None:
        """Why the publisher released it although a check of the gate was not run; None when every check was."""
        return next((one.detail for one in self.gate if one.check == WITHOUT_GATE), None)

    def gate_words(self) -> str:
        """One line about the gate, for a person."""
        checks = [one for one in self.gate if one.check != WITHOUT_GATE]
        if not checks:
            return "gate: the publisher says nothing of a gate"
        counts = ((sum(one.result == result for one in checks), result.replace("-", " ")) for result in RESULTS)
        return f"gate: of {len(checks)} checks " + ", ".join(f"{count} {result}" for count, result in counts if count)

    def gate_exceptions(self) -> list[str]:
        """A line for each check that did not pass, and one with the publisher's public reason."""
        lines = [
            f"gate: {one.check} {one.result.replace('-', ' ')}: {one.detail}"
            for one in self.gate
            if one.result != "passed" and one.check != WITHOUT_GATE
        ]
        reason = self.without_gate
        return lines if reason is None else [*lines, f"gate: released without that, because: {reason}"]

    def encode(self) -> bytes:
        """The canonical bytes."""
        regions: canonical.Object = {
            name: {
                **_facts(region.facts),
                "policy": [_policy(entry) for entry in region.policy],
                **({"full": {"bytes": region.full.bytes, "sha256": region.full.sha256}} if region.full else {}),
            }
            for name, region in self.regions.items()
        }
        changes: canonical.Object = {
            name: {section: {"added": added, "removed": removed} for section, (added, removed) in sections.items()}
            for name, sections in self.changes.items()
        }
        feeds: list[canonical.JSON] = [
            {
                "name": feed.name,
                "snapshot": feed.snapshot,
                "files": feed.files,
                "records": feed.records,
                "skipped": dict(feed.skipped),
            }
            for feed in self.feeds
        ]
        gate: list[canonical.JSON] = [
            {"check": one.check, "result": one.result, "detail": one.detail} for one in self.gate
        ]
        return canonical.encode(
            {
                "format": FORMAT,
                "product": self.product,
                "channel": self.channel,
                "release": self.release,
                "previous": self.previous,
                "created": self.created,
                "global": _facts(self.whole),
                "regions": regions,
                "feeds": feeds,
                "assembler": {"version": self.assembler, **({"source": self.source} if self.source else {})},
                "changes": changes,
                "gate": gate,
                **({"withdraws": _withdrawal(self.withdraws)} if self.withdraws else {}),
            }
        )

    @property
    def created_at(self) -> datetime:
        """``created`` as a time."""
        return datetime.strptime(self.created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)

    @property
    def digest(self) -> str:
        """SHA-256 of :meth:`encode`, lower-case hexadecimal."""
        return hashlib.sha256(self.encode()).hexdigest()


def _facts(facts: BundleFacts) -> canonical.Object:
    return {"bundle": facts.bundle, "bytes": facts.bytes, "records": facts.records}


def _withdrawal(one: Withdrawal) -> canonical.Object:
    return {"releases": list(one.releases), "restores": one.restores, "reason": one.reason}


def _policy(entry: Policy) -> canonical.Object:
    return {
        "action": entry.action,
        "kind": entry.kind,
        "name": entry.name,
        "reason": entry.reason,
        "records": entry.records,
    }


def parse_manifest(data: bytes, limits: Limits = LIMITS) -> Manifest:
    """A manifest from foreign bytes: parsed strictly, every member known, every bound checked.

    Raises:
        MalformedError: not canonical, a member missing or unknown, out of bounds.
        NewerFormatError: a later version of the format.
    """
    what = "manifest"
    if len(data) > limits.manifest_bytes:
        raise MalformedError("manifest: longer than allowed")
    fields = Fields(canonical.read_canonical(data, what), what)
    format_ = fields.text("format")
    if format_ != FORMAT:
        if format_.startswith("coldchain-manifest-"):
            raise NewerFormatError(f"manifest has format {format_[:40]!r}", todo="install a newer client")
        raise MalformedError("manifest: not a release manifest")
    created = fields.text("created")
    _check_time(created)
    assembler = Fields(fields.object("assembler"), "manifest: assembler")
    manifest = Manifest(
        product=check_token(fields.text("product"), "product"),
        channel=check_token(fields.text("channel"), "channel"),
        release=fields.integer("release", least=1),
        previous=fields.sha256_or_null("previous"),
        created=created,
        whole=_read_facts(Fields(fields.object("global"), "manifest: global"), done=True),
        regions=_read_regions(fields),
        feeds=tuple(_read_feed(item) for item in fields.items("feeds", MOST_FEEDS)),
        assembler=assembler.text("version", 64),
        changes=_read_changes(fields, limits),
        gate=tuple(_read_check(item) for item in fields.items("gate", MOST_CHECKS)),
        source=assembler.sha256("source") if assembler.has("source") else None,
        withdraws=_read_withdrawal(fields) if fields.has("withdraws") else None,
    )
    assembler.done()
    fields.done()
    return manifest


def _read_withdrawal(fields: Fields) -> Withdrawal:
    part = Fields(fields.object("withdraws"), "manifest: withdraws")
    one = Withdrawal(
        part.integers("releases", MOST_WITHDRAWN, least=1),
        part.integer("restores", least=1),
        part.text("reason", MOST_TEXT),
    )
    part.done()
    if not one.restores < min(one.releases, default=0) or max(one.releases) >= fields.integer("release"):
        raise MalformedError("manifest: it withdraws no release, or restores one that is not before them")
    return one


def _check_time(text: str) -> None:
    try:
        if not _TIME.match(text):
            raise ValueError("not of that form")
        datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)  # refuses February 30
    except ValueError as error:
        raise MalformedError("manifest: created is not a time in UTC such as 2026-11-24T02:00:00Z") from error


def _read_facts(fields: Fields, *, done: bool = False) -> BundleFacts:
    facts = BundleFacts(fields.sha256("bundle"), fields.integer("bytes"), fields.integer("records"))
    if done:
        fields.done()
    return facts


def _read_regions(fields: Fields) -> dict[str, RegionFacts]:
    regions = {}
    for name, value in fields.object("regions", MOST_REGIONS).items():
        part = Fields(value, f"manifest: region {check_token(name, 'region')}")
        policy = tuple(_read_policy(item) for item in part.items("policy", MOST_POLICIES))
        regions[name] = RegionFacts(_read_facts(part), policy, _read_file(part) if part.has("full") else None)
        part.done()
    return regions


def _read_file(region: Fields) -> FileFacts:
    part = Fields(region.object("full"), "manifest: full")
    file = FileFacts(part.integer("bytes"), part.sha256("sha256"))
    part.done()
    return file


def _read_policy(item: canonical.JSON) -> Policy:
    part = Fields(item, "manifest: policy")
    entry = Policy(
        part.text("action"),
        part.text("kind"),
        part.text("name", MOST_TEXT),
        part.text("reason", MOST_TEXT),
        part.integer("records"),
    )
    part.done()
    if entry.action not in ("leave-out", "add") or entry.kind not in ("feed", "signature"):
        raise MalformedError("manifest: a policy of an unknown kind")
    return entry


def _read_feed(item: canonical.JSON) -> FeedFacts:
    part = Fields(item, "manifest: feed")
    skipped = Fields(part.object("skipped"), "manifest: skipped")
    codes = part.object("skipped")
    feed = FeedFacts(
        check_token(part.text("name"), "feed"),
        part.sha256("snapshot"),
        part.integer("files"),
        part.integer("records"),
        {code: skipped.integer(code) for code in codes},
    )
    skipped.done()
    part.done()
    return feed


def _read_changes(fields: Fields, limits: Limits) -> dict[str, dict[str, tuple[int, int]]]:
    changes: dict[str, dict[str, tuple[int, int]]] = {}
    for region, value in fields.object("changes", MOST_REGIONS).items():
        what = f"manifest: changes of {check_token(region, 'region')}"
        if not isinstance(value, dict) or len(value) > limits.sections:
            raise MalformedError(f"{what}: not an object, or too large")
        changes[region] = {}
        for section, counts in value.items():
            part = Fields(counts, what)
            changes[region][check_section_name(section, limits)] = (part.integer("added"), part.integer("removed"))
            part.done()
    return changes


def _read_check(item: canonical.JSON) -> GateCheck:
    part = Fields(item, "manifest: gate")
    check = GateCheck(part.text("check", 64), part.text("result", 16), part.text("detail", MOST_TEXT))
    part.done()
    if check.result not in RESULTS:
        raise MalformedError("manifest: a gate's result is unknown")
    return check
