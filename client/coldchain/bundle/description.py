"""``bundle.json``: what one region's bundle consists of. Its SHA-256 is the *bundle digest* that roles sign.

Canonical JSON (:mod:`coldchain.canonical`), shown here with line breaks::

    {"channel":"stable","format":"coldchain-bundle-1","product":"coldchain","region":"us","release":42,
     "sections":[
      {"bytes":133,"engine":"clamav","kind":"set","name":"coldchain-canary.ndb","records":1,"sha256":"…"},
      {"bytes":486,"engine":"clamav","kind":"set","name":"daily.hsb","records":6,"sha256":"…"}]}

Sections stand in bytewise order of their names, each name once. ``kind`` is ``set`` (sorted unique lines) or ``file``
(kept byte for byte); ``records`` counts a set's lines, and of a file what its engine counts (rules, lines; 0 where
that has no meaning). On disk a bundle is a directory of its sections beside this file; nothing in it depends on time or
machine.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal, cast

from coldchain import canonical
from coldchain.canonical import Fields, Object
from coldchain.errors import MalformedError, NewerFormatError
from coldchain.limits import LIMITS, Limits

FORMAT = "coldchain-bundle-1"
FILE_NAME = "bundle.json"

Kind = Literal["set", "file"]
Engine = Literal["clamav", "yara", "list"]

_SECTION_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\Z")
_TOKEN = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")


def check_section_name(name: str, limits: Limits = LIMITS) -> str:
    """One safe path component: ``[A-Za-z0-9._-]``, not starting with a dot, bounded, not ``bundle.json``.

    Raises:
        MalformedError: for any other name (so no name can leave the bundle's directory or hide in it).
    """
    if not _SECTION_NAME.match(name) or len(name) > limits.section_name_bytes or name.lower() == FILE_NAME:
        raise MalformedError(f"section name {name[:60]!r} is not a plain file name")
    return name


def check_token(value: str, what: str) -> str:
    """A region, channel or product name: lower-case letters, digits and dashes, 1 to 32, a letter first."""
    if not _TOKEN.match(value):
        raise MalformedError(
            f"{what} {value[:40]!r}: use 1 to 32 lower-case letters, digits and dashes, a letter first"
        )
    return value


@dataclass(frozen=True, slots=True, order=True)
class Section:
    """One database of a bundle: ``bytes`` is its length, ``sha256`` its digest in lower-case hexadecimal."""

    name: str
    kind: Kind
    engine: Engine
    records: int
    bytes: int
    sha256: str

    def as_json(self) -> Object:
        """The section's member of ``bundle.json``."""
        return {
            "name": self.name,
            "kind": self.kind,
            "engine": self.engine,
            "records": self.records,
            "bytes": self.bytes,
            "sha256": self.sha256,
        }


@dataclass(frozen=True, slots=True)
class BundleDescription:
    """A parsed ``bundle.json``. ``release`` is the release's number, growing per channel."""

    product: str
    region: str
    channel: str
    release: int
    sections: tuple[Section, ...]

    def encode(self) -> bytes:
        """The canonical bytes of ``bundle.json``."""
        return canonical.encode(
            {
                "format": FORMAT,
                "product": self.product,
                "region": self.region,
                "channel": self.channel,
                "release": self.release,
                "sections": [section.as_json() for section in self.sections],
            }
        )

    @property
    def digest(self) -> str:
        """The bundle digest: SHA-256 of ``bundle.json``, lower-case hexadecimal."""
        return hashlib.sha256(self.encode()).hexdigest()

    @property
    def total_bytes(self) -> int:
        """Sum of the sections' lengths."""
        return sum(section.bytes for section in self.sections)

    @property
    def total_records(self) -> int:
        """Sum of the sections' records."""
        return sum(section.records for section in self.sections)

    def section(self, name: str) -> Section | None:
        """The section of that name, or None."""
        return next((section for section in self.sections if section.name == name), None)


def parse_description(data: bytes, limits: Limits = LIMITS) -> BundleDescription:
    """``bundle.json`` from foreign bytes: parsed strictly, re-encoded, compared.

    Raises:
        MalformedError: not canonical, a member missing or unknown, sections out of order, a bound exceeded.
        NewerFormatError: a later version of the format.
    """
    if len(data) > limits.description_bytes:
        raise MalformedError("bundle.json: longer than allowed")
    fields = Fields(canonical.read_canonical(data, FILE_NAME), FILE_NAME)
    format_ = fields.text("format")
    if format_ != FORMAT:
        if format_.startswith("coldchain-bundle-"):
            raise NewerFormatError(f"bundle.json has format {format_[:40]!r}", todo="install a newer client")
        raise MalformedError("bundle.json: not a bundle description")
    sections = []
    for item in fields.items("sections", limits.sections):
        part = Fields(item, "bundle.json: section")
        kind, engine = part.text("kind"), part.text("engine")
        if kind not in ("set", "file") or engine not in ("clamav", "yara", "list"):
            raise MalformedError(f"bundle.json: unknown kind {kind[:20]!r} or engine {engine[:20]!r}")
        sections.append(
            Section(
                name=check_section_name(part.text("name"), limits),
                kind=cast(Kind, kind),
                engine=cast(Engine, engine),
                records=part.integer("records", most=limits.records),
                bytes=part.integer("bytes", most=limits.section_bytes),
                sha256=part.sha256("sha256"),
            )
        )
        part.done()
    names = [section.name for section in sections]
    if names != sorted(names) or len({name.lower() for name in names}) != len(names):
        raise MalformedError("bundle.json: sections are not in order, or two differ only in case")
    if sum(section.bytes for section in sections) > limits.bundle_bytes:
        raise MalformedError("bundle.json: the bundle is larger than allowed")
    description = BundleDescription(
        product=check_token(fields.text("product"), "product"),
        region=check_token(fields.text("region"), "region"),
        channel=check_token(fields.text("channel"), "channel"),
        release=fields.integer("release", least=1),
        sections=tuple(sections),
    )
    fields.done()
    return description
