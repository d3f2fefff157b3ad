"""Rebuilding a release: assemble again what the manifest names, compare every digest, and say so with a signature.

What must come out the same, per region and for the global bundle: digest, bytes, records, and what each policy counted; and what
the manifest says of the feeds (files, records, what was skipped and why). The compressed files are not compared: they depend on the
version of zstd, and a client checks the digest of what is in them.

Worked example of an answer::

    release 42 of stable: assembled again from 3 feeds
      global  same    5c1f0a9e33b07d12…
      us      same    8d0211cc4e5f9a07…
      jp      DIFFERS 77aa… is published, 01f3… came out

Nothing of the origin is used but what is published, and no network after the files are there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import coldchain
from coldchain.agent.transport import Progress, Traffic, open_sources
from coldchain.attestation import Envelope, Rebuild, Sign, bundles_of, sign_statement
from coldchain.bundle.manifest import Manifest, RegionFacts
from coldchain.canonical import JSON, Object
from coldchain.errors import LintError, RebuildError, UsageError
from coldchain.install.directory import ClientDirectory
from coldchain.keys import PublicKey
from coldchain.limits import LIMITS, Limits
from coldchain_server.assembly.again import Again, assemble_again, bundle_facts, region_facts, regions_of
from coldchain_server.assembly.provenance import source_digest
from coldchain_server.assembly.regions import GLOBAL
from coldchain_server.rebuild.sources import Logged, fetch_snapshots, find_manifest, policy_for
from coldchain_server.storage.content import ContentStore


def _nothing(_line: str) -> None:
    return


def _no_progress(_there: int, _length: int) -> None:
    return


@dataclass(frozen=True, slots=True)
class Order:
    """What to rebuild, and whom to believe about the log.

    Attributes:
        url: a base URL or directory.
        number: the release.
        channel: of the release.
        product: of the release.
        regions: only these besides the global bundle; empty for all.
        root: the publisher's root.json; None takes the server's own.
        policy: a log policy in place of the root's.
        say: told what happens, a line at a time.
        progress: told how a download comes on.
        limits: bounds.
    """

    url: str
    number: int
    channel: str = "stable"
    product: str = "coldchain"
    regions: Sequence[str] = ()
    root: bytes | None = None
    policy: bytes | None = None
    say: Callable[[str], None] = _nothing
    progress: Progress = _no_progress
    limits: Limits = LIMITS


@dataclass(frozen=True, slots=True)
class Row:
    """One bundle: the published digest, the one that came out, and in words what else differs."""

    region: str
    published: str
    rebuilt: str
    differs: str


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """What came out. ``refusal`` says why nothing did; ``feeds`` names feeds of which the manifest says something else."""

    logged: Logged
    rows: tuple[Row, ...] = ()
    feeds: tuple[str, ...] = ()
    refusal: str = ""

    @property
    def manifest(self) -> Manifest:
        """Of the release."""
        return self.logged.manifest

    @property
    def same_assembler(self) -> bool:
        """Whether the assembler here is the manifest's, by version and source."""
        return (self.manifest.assembler, self.manifest.source) == (coldchain.__version__, source_digest())

    @property
    def error(self) -> RebuildError | None:
        """What to end with; None when everything came out the same."""
        what = self.refusal
        if not what and (wrong := [row for row in self.rows if row.differs]):
            what = f"{len(wrong)} of {len(self.rows)} bundles differ: {', '.join(row.region for row in wrong)}"
        if not what and self.feeds:
            what = f"the manifest does not say what the snapshots hold: {', '.join(self.feeds)}"
        if not what:
            return None
        stated = self.manifest
        if not self.same_assembler:
            return RebuildError(
                f"another assembler is at work here ({coldchain.__version__}, source {source_digest()[:16]}…; the manifest "
                f"names {stated.assembler}, source {(stated.source or 'unknown')[:16]}…); release {stated.release}: {what}",
                todo="rebuild with the assembler that the manifest names before you conclude anything",
            )
        return RebuildError(
            f"release {stated.release}: {what}",
            kept="nothing was signed",
            todo="do not apply the release; publish what you found, and ask the publisher in public",
        )

    def attestation(self, key: PublicKey, sign: Sign, now: datetime) -> Envelope:
        """The signed statement that the bundles of ``rows`` came out the same.

        Raises:
            RebuildError: they did not.
        """
        if self.error is not None:
            raise self.error
        stated = self.manifest
        bundles = {row.region: row.rebuilt for row in self.rows}
        made = Rebuild(
            product=stated.product,
            channel=stated.channel,
            release=stated.release,
            manifest=stated.digest,
            bundles=bundles,
            assembler=coldchain.__version__,
            source=source_digest(),
            rebuilt=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            key=key,
        )
        made.check(stated)
        return sign_statement(made.statement(), key, sign)

    def as_json(self) -> Object:
        """For ``--json``."""
        rows: list[JSON] = [
            {
                "region": row.region,
                "published": row.published,
                "rebuilt": row.rebuilt or None,
                "same": not row.differs,
                "differs": row.differs,
            }
            for row in self.rows
        ]
        head = self.logged.head.checkpoint
        feeds: list[JSON] = list(self.feeds)
        return {
            "product": self.manifest.product,
            "channel": self.manifest.channel,
            "release": self.manifest.release,
            "manifest": self.manifest.digest,
            "log": {"origin": head.origin, "index": self.logged.index, "size": head.size},
            "assembler": {
                "here": {"version": coldchain.__version__, "source": source_digest()},
                "manifest": {"version": self.manifest.assembler, "source": self.manifest.source},
                "same": self.same_assembler,
            },
            "bundles": rows,
            "feeds_differ": feeds,
            "rebuilt": self.error is None,
        }


async def rebuild(order: Order, now: datetime) -> Rebuilding:
    """Fetches, assembles and compares.

    Raises:
        EvidenceError: the log does not hold the release as it must, or a snapshot is not published.
        NotPublishedError: the log holds no such release.
        UsageError: a region that the release does not have.
        VerificationError: something fetched is not what the manifest names.
        TransportError: something could not be had.
    """
    limits = order.limits
    with tempfile.TemporaryDirectory(prefix="coldchain-rebuild-") as folder:
        work, content = ClientDirectory(Path(folder) / "work"), ContentStore(Path(folder) / "content")
        work.make()
        async with open_sources([order.url], Traffic(), limits) as (source,):
            policy = await policy_for(source, order.root, order.policy, limits)
            logged = await find_manifest(source, policy, order.product, order.channel, order.number, now, limits)
            order.say(logged.words())
            names = _names(logged.manifest, order.regions)
            await fetch_snapshots(source, logged.manifest, work, content, say=order.say, progress=order.progress)
        order.say(f"assembling {len(names) + 1} bundles")
        try:
            again = assemble_again(logged.manifest, regions_of(logged.manifest), content, names)
        except LintError as error:
            return Rebuilding(logged, refusal=f"this assembler makes nothing of its snapshots: {error.what}")
    return compare(logged, again, names)


def _names(manifest: Manifest, asked: Sequence[str]) -> list[str]:
    for name in asked:
        if name not in manifest.regions:
            raise UsageError(
                f"release {manifest.release} has no region {name!r}",
                todo=f"regions are {', '.join(sorted(manifest.regions))}",
            )
    return sorted(set(asked) or manifest.regions)


def compare(logged: Logged, again: Again, names: Sequence[str]) -> Rebuilding:
    """What came out against what the manifest says."""
    stated = logged.manifest
    published = bundles_of(stated)
    expected: Mapping[str, RegionFacts] = {
        GLOBAL: RegionFacts(stated.whole),
        **{name: replace(stated.regions[name], full=None) for name in names},
    }
    rows = []
    for name, facts in expected.items():
        bundle = again.bundles[name]
        found = region_facts(bundle) if name != GLOBAL else RegionFacts(bundle_facts(bundle.description))
        rows.append(Row(name, published[name], found.facts.bundle, _difference(facts, found)))
    said, seen = {one.name: one for one in stated.feeds}, {one.name: one for one in again.feeds}
    feeds = tuple(sorted(name for name in {*said, *seen} if said.get(name) != seen.get(name)))
    return Rebuilding(logged, tuple(rows), feeds)


def _difference(said: RegionFacts, found: RegionFacts) -> str:
    if found.facts.bundle != said.facts.bundle:
        return "the bundle"
    if found.facts != said.facts:
        return "the bundle is the same, the manifest's counts of its bytes or records are not"
    if found.policy != said.policy:
        return "the bundle is the same, what the manifest says its policies did is not"
    return ""
