"""``coldchain compare``: fetch two regions' bundles of one release with all their evidence, and explain every difference.

::

    root -> roles of both regions (TUF)      what each region is offered
    manifest and proof                       one logged statement for both, by the log policy
    release N, if asked for                  back along ``previous``: every manifest commits to the one before it
    full bundles                             to the digests that the manifest names
    :mod:`coldchain.monitor.differences`     record by record
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from coldchain.agent.transport import Progress, Source, Traffic, open_sources
from coldchain.agent.update import silent, utc_now
from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.canonical import Object
from coldchain.errors import DifferenceError, EvidenceError, NotPublishedError, ResponseError, UsageError
from coldchain.evidence import DO_NOT, check_evidence, effective_policy, open_evidence
from coldchain.limits import LIMITS, Limits
from coldchain.monitor.declared import check_counts
from coldchain.monitor.decoded import fetch_bundle
from coldchain.monitor.differences import Comparison, check_region, compare_bundles
from coldchain.monitor.taken_apart import WorkDirectory
from coldchain.tuf.refresh import Fetch, Step, refresh
from coldchain.tuf.trusted_set import TrustedSet
from coldchain.verify import ROLLOUT_ROLE, RegionRelease, Target, region_release, says_who_it_is


@dataclass
class CompareSettings:
    """How a comparison runs.

    Attributes:
        root: the pinned root.json; None takes the server's own word for it, which is said aloud.
        policy: the customer's own log policy; None takes the root's.
        channel: of the release.
        product: whose.
        release: its number; None for the newest.
        now: the clock.
        progress: told how a download comes on.
        limits: bounds.
    """

    root: bytes | None = None
    policy: bytes | None = None
    channel: str = "stable"
    product: str = "coldchain"
    release: int | None = None
    now: Callable[[], datetime] = utc_now
    progress: Progress = silent
    limits: Limits = LIMITS


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of it. ``problems`` are those of each region alone and of the manifest's counts."""

    manifest: Manifest
    manifest_sha256: str
    root: str
    pinned: bool
    evidence: str
    comparison: Comparison
    problems: tuple[str, ...] = ()
    requests: int = 0
    bytes_down: int = 0

    @property
    def unexplained(self) -> int:
        """How many differences no policy explains."""
        return len(self.problems) + self.comparison.problems.count

    @property
    def error(self) -> DifferenceError | None:
        """What to end with; None when all is explained."""
        if not self.unexplained:
            return None
        first = (*self.problems, *self.comparison.problems.shown)[0]
        return DifferenceError(
            f"{self.unexplained} difference{'s' * (self.unexplained > 1)} between {' and '.join(self.comparison.regions)} "
            f"that no declared policy explains, the first: {first}",
            todo="ask the publisher in public; the manifest is in the log, so the difference can be shown to anyone",
        )

    def as_json(self) -> Object:
        """For ``--json``."""
        return {
            "product": self.manifest.product,
            "channel": self.manifest.channel,
            "release": self.manifest.release,
            "manifest": self.manifest_sha256,
            "root": self.root,
            "root_pinned": self.pinned,
            "evidence": self.evidence,
            "problems": list(self.problems),
            "requests": self.requests,
            "bytes_down": self.bytes_down,
            **self.comparison.as_json(),
        }


async def compare_regions(url: str, names: tuple[str, str], settings: CompareSettings) -> Compared:
    """Compares two regions' bundles of a release.

    Args:
        url: a base URL, or a directory with a copy of the published tree.
        names: the regions.
        settings: how.

    Raises:
        UsageError: one region twice.
        NotPublishedError: a region or release that is not there.
        ColdchainError: one kind per cause; nothing was decided then.
    """
    if names[0] == names[1]:
        raise UsageError(f"{names[0]} and {names[1]} are one region", todo="name two")
    traffic = Traffic()
    with tempfile.TemporaryDirectory(prefix="coldchain-compare-") as folder:
        work = WorkDirectory(Path(folder))
        work.make()
        async with open_sources([url], traffic, settings.limits) as (source,):
            return await _Comparing(source, traffic, work, names, settings).run()


class _Comparing:
    def __init__(
        self, source: Source, traffic: Traffic, work: WorkDirectory, names: tuple[str, str], settings: CompareSettings
    ) -> None:
        self.source, self.traffic, self.work, self.names, self.settings = source, traffic, work, names, settings
        self.limits, self.now = settings.limits, settings.now()

    async def run(self) -> Compared:
        settings, limits = self.settings, self.limits
        pinned = settings.root
        if pinned is None:
            pinned = await self._get("metadata/1.root.json", limits.root_bytes)
        trusted = await self._refresh(pinned)
        policy = effective_policy(trusted.root, settings.policy, limits)
        manifests: dict[int, dict[str, bytes]] = {}
        words = ""
        for name in self.names:
            release = self._release(trusted, name)
            data, proof = open_evidence(await self._target(release.evidence), release, limits)
            words = check_evidence(data, proof, release, policy, self.now, limits).words()
            manifests.setdefault(release.release, {})[hashlib.sha256(data).hexdigest()] = data
        data = await self._wanted(manifests)
        manifest = parse_manifest(data, limits)
        for name in self.names:
            if name not in manifest.regions:
                raise NotPublishedError(f"release {manifest.release} was not made for region {name!r}")
        a, b = [
            await fetch_bundle(self.source, self.work, manifest, name, settings.progress, limits) for name in self.names
        ]
        problems = [
            text
            for name, bundle in zip(self.names, (a, b), strict=True)
            for text in check_region(bundle, manifest, name, limits).shown
        ]
        return Compared(
            manifest=manifest,
            manifest_sha256=hashlib.sha256(data).hexdigest(),
            root=hashlib.sha256(pinned).hexdigest(),
            pinned=settings.root is not None,
            evidence=words,
            comparison=compare_bundles(a, b, manifest, self.names, limits),
            problems=(*problems, *check_counts(manifest)),
            requests=self.traffic.requests,
            bytes_down=self.traffic.bytes,
        )

    def _release(self, trusted: TrustedSet, name: str) -> RegionRelease:
        settings = self.settings
        return region_release(trusted.role(name), name, settings.channel, product=settings.product, limits=self.limits)

    async def _refresh(self, pinned: bytes) -> TrustedSet:
        files = {"root.json": pinned}
        known = (await self._steps(files, [])).role("targets").roles.keys() - {ROLLOUT_ROLE}
        for name in self.names:
            if name not in known:
                raise NotPublishedError(f"there is no region {name!r}", todo=f"regions are {', '.join(sorted(known))}")
        return await self._steps(files, list(self.names))

    async def _steps(self, files: dict[str, bytes], roles: list[str]) -> TrustedSet:
        steps = refresh(files, self.now, roles, self.limits, lambda role: says_who_it_is(role, self.settings.product))
        answer: bytes | None = None
        while True:
            try:
                step: Step = steps.send(answer)
            except StopIteration as done:
                trusted: TrustedSet = done.value
                return trusted
            answer = None
            if isinstance(step, Fetch):
                answer = (await self.source.get(step.path, step.max_bytes)).data
            else:
                files[step.name] = step.data

    async def _wanted(self, manifests: dict[int, dict[str, bytes]]) -> bytes:
        """The manifest of the release to compare: of the newest both have, or back along the chain to the one asked for."""
        number = min(manifests)
        if len(manifests[number]) > 1:
            raise DifferenceError(
                f"the regions' roles name two manifests for one release {number}",
                todo="do not go on; keep the files and ask the publisher in public: one release is one statement",
            )
        (data,) = manifests[number].values()
        wanted = self.settings.release or number
        if wanted > number:
            raise NotPublishedError(f"release {wanted} is not published; the newest is {number}")
        if number - wanted > self.limits.chain_walk:
            raise NotPublishedError(f"release {wanted} is more than {self.limits.chain_walk} releases back")
        while number > wanted:
            previous = parse_manifest(data, self.limits).previous
            if previous is None:
                raise NotPublishedError(f"the chain of manifests begins with release {number}")
            data = await self._get(f"manifests/{previous}.json", self.limits.manifest_bytes)
            if hashlib.sha256(data).hexdigest() != previous:
                raise EvidenceError(f"the manifest {previous[:16]}… is another one", todo=DO_NOT)
            number -= 1
            found = parse_manifest(data, self.limits)
            if (found.product, found.channel, found.release) != (self.settings.product, self.settings.channel, number):
                raise EvidenceError(f"the manifest before release {number + 1} is not that of {number}", todo=DO_NOT)
        return data

    async def _target(self, target: Target) -> bytes:
        data = await self._get(target.url_path, target.length)
        if len(data) != target.length or hashlib.sha256(data).hexdigest() != target.sha256:
            raise EvidenceError(f"{target.path} is not the signed one", todo=DO_NOT)
        return data

    async def _get(self, path: str, most: int) -> bytes:
        data = (await self.source.get(path, most)).data
        if data is None:
            raise ResponseError(f"{self.source.url} does not have {path}", todo="check the URL, or try again later")
        return data
