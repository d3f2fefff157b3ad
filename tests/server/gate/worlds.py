"""Releases as they would be served, made of any bytes at all: past the lint and past the assembler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from coldchain.bundle.canary import canary_section
from coldchain.bundle.description import BundleDescription, Engine, Kind, Section
from coldchain.bundle.manifest import BundleFacts, FileFacts, Policy, RegionFacts
from coldchain_server.deltas.changes import BundleChange
from coldchain_server.deltas.encode import encode_delta
from coldchain_server.deltas.encoded import Encoded
from coldchain_server.gate.gate import Order, Outcome, run_gate
from coldchain_server.gate.new_detections import Detections
from coldchain_server.gate.settings import GateSettings
from coldchain_server.home import Home
from coldchain_server.release.drafts import measure

EICAR_LINE = b"44d88612fea8a8f36de82e1278abb02f:68:Eicar-Test-Signature\n"
GOOD = b"".join(b"%032x:%d:Acme.Good-%d\n" % (number, 100 + number, number) for number in range(1, 4))
QUICK = GateSettings(system=(), eicar=False)
LEAVES_OUT = Policy("leave-out", "signature", "Acme.Some-1", "a test", 1)


@dataclass(frozen=True)
class File:
    """One section; a set where its bytes are canonical lines, else a file as it stands."""

    data: bytes
    records: int | None = None

    @property
    def count(self) -> int:
        """What ``bundle.json`` says."""
        return self.data.count(b"\n") if self.records is None else self.records

    def kind(self, name: str) -> Kind:
        """A set, if a client would take it for one."""
        lines = self.data.split(b"\n")
        good = lines[-1] == b"" and lines[:-1] == sorted(set(lines[:-1])) and all(lines[:-1]) and b"\r" not in self.data
        good = good and not self.data.startswith(b"\xef\xbb\xbf") and bool(self.data)
        return "set" if good and not name.endswith(".yar") else "file"


def engine_of(name: str) -> Engine:
    return "yara" if name.endswith((".yar", ".yara")) else "list" if name.endswith(".list") else "clamav"


class World:
    """An origin's directory without an origin, and releases in it."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "origin")
        self.folder = folder

    def order(
        self,
        regions: Mapping[str, Mapping[str, bytes | File]],
        policies: Mapping[str, tuple[Policy, ...]] | None = None,
        *,
        release: int = 2,
        before: Detections | None = None,
    ) -> Order:
        """Serves these sections, with their canaries, to these regions."""
        facts, files = {}, {}
        for region, sections in regions.items():
            description = self._describe(region, sections, release)
            path = self.folder / f"{region}-{release}.full.ccd"
            with path.open("wb") as out:
                encode_delta(BundleChange(None, description), self.home.content, out, Encoded(self.folder / "encoded"))
            whole = BundleFacts(description.digest, description.total_bytes, description.total_records)
            policy = (policies or {}).get(region, ())
            facts[region], files[region] = RegionFacts(whole, policy, FileFacts(*measure(path))), path
        return Order("coldchain", facts, files, {region: [path] for region, path in files.items()}, "as told", before)

    def _describe(self, region: str, sections: Mapping[str, bytes | File], release: int) -> BundleDescription:
        found = []
        for name, given in sections.items():
            file = given if isinstance(given, File) else File(given)
            digest = self.home.content.put(file.data)
            found.append(Section(name, file.kind(name), engine_of(name), file.count, len(file.data), digest))
        for engine in sorted({section.engine for section in found}):
            made = canary_section(engine, "coldchain", region, "stable", release)
            if made is not None:
                kind: Kind = "set" if engine == "clamav" else "file"
                found.append(Section(made[0], kind, engine, 1, len(made[1]), self.home.content.put(made[1])))
        found.sort(key=lambda section: section.name)
        return BundleDescription("coldchain", region, "stable", release, tuple(found))

    def gate(
        self,
        regions: Mapping[str, Mapping[str, bytes | File]],
        settings: GateSettings = QUICK,
        policies: Mapping[str, tuple[Policy, ...]] | None = None,
        **order: object,
    ) -> Outcome:
        """What the gate says of them."""
        return run_gate(self.home, replace(self.order(regions, policies), **order), settings)  # type: ignore[arg-type]


def results(outcome: Outcome) -> dict[str, str]:
    """Check -> result."""
    return {check.check: check.result for check in outcome.checks}


def detail(outcome: Outcome, check: str) -> str:
    """What a check says in public."""
    return next(one.detail for one in outcome.checks if one.check == check)


def told(outcome: Outcome, check: str) -> str:
    """What a check says to the operator."""
    return "\n".join(next(one.findings for one in outcome.results if one.check.check == check))
