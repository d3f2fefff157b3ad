"""What feeds hand to the assembler: checked, canonical sections, each with the feed it came from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coldchain.bundle.description import Engine, Kind, Section


@dataclass(frozen=True, slots=True)
class PreparedSection:
    """A section before regions' policies: ``length`` in bytes, ``sha256`` of its canonical bytes in lower-case hexadecimal."""

    name: str
    feed: str
    kind: Kind
    engine: Engine
    records: int
    length: int
    sha256: str

    def replaced(self, *, records: int, length: int, sha256: str) -> PreparedSection:
        """The same section with other content."""
        return PreparedSection(self.name, self.feed, self.kind, self.engine, records, length, sha256)

    def named(self, name: str) -> PreparedSection:
        """The same section under another name."""
        return replace(self, name=name)

    def described(self) -> Section:
        """Its entry in ``bundle.json``."""
        return Section(self.name, self.kind, self.engine, self.records, self.length, self.sha256)
