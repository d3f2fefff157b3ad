"""Sections for the tests of the assembler, in a store of their own."""

from __future__ import annotations

import hashlib

from coldchain.bundle.description import Engine, Kind
from coldchain_server.assembly.assemble import AssembledBundle, assemble
from coldchain_server.assembly.canonical_sections import canonical_set, section_name
from coldchain_server.assembly.regions import DEFAULT, load_regions
from coldchain_server.assembly.sections import PreparedSection


class Content:
    """Content in memory, by SHA-256."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.held[digest] = data
        return digest

    def get(self, digest: str) -> bytes:
        return self.held[digest]

    def section(self, feed: str, path: str, data: bytes | list[bytes], *, engine: Engine = "clamav") -> PreparedSection:
        """A set of lines, or a file as it stands."""
        kind: Kind = "set" if isinstance(data, list) else "file"
        held, records = canonical_set(data) if isinstance(data, list) else (data, data.count(b"rule ") or 1)
        return PreparedSection(section_name(feed, path, engine), feed, kind, engine, records, len(held), self.put(held))

    def assemble(
        self, sections: list[PreparedSection], region: str, policies: str = "", release: int = 1
    ) -> AssembledBundle:
        """One region's bundle under the default regions and these policies."""
        return assemble(
            sections,
            load_regions(DEFAULT + policies),
            region,
            product="coldchain",
            channel="stable",
            release=release,
            content=self.get,
            store=self.put,
        )


def policy(region: str, action: str, kind: str, name: str, reason: str = "a test") -> str:
    """One policy in the words of regions.toml."""
    return f'[[regions.{region}.policy]]\naction = "{action}"\nkind = "{kind}"\nname = "{name}"\nreason = "{reason}"\n'
