"""One update, from the poll to the switch.

::

    lock, remove left-overs
    poll        GET timestamp.json, conditional; unchanged: the stored metadata is loaded and verified again, offline
    pack        another one: all that follows, from one answer, as far as it is in there and good (:mod:`coldchain.agent.quick_update`)
    refresh     no pack: the full TUF workflow, from the first source that carries it to its end
    decide      the region's release against what is installed, its rollout, and this endpoint's bucket
    evidence    the manifest and its proof: in the public log, by the policy in force (:mod:`coldchain.agent.log_evidence`)
    own policy  the customer's own policy about the release (:mod:`coldchain.agent.own_policy`)
    download    the delta from the installed release (or the full bundle), to their signed digests
    stage       decode into staging, every section and the bundle digest checked
    switch      one rename; evidence and previous version stand before it
    engines     each configured engine tries the version, is switched to it, and proves that it runs
                (:mod:`coldchain.engines.activation`)

A delta that is as signed and still does not apply (the old files are damaged, or it was made wrongly) is remembered and not
tried again: the full bundle is fetched in the same run. Bytes that are not as signed are refused; another source may have
better ones. Whatever fails, what ran keeps running, and the error says so. Engines are led to what is installed after a run that
brought nothing new, or failed, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from coldchain.agent.allowance import open_allowance
from coldchain.agent.current_metadata import CurrentMetadata
from coldchain.agent.engine_steps import EngineSteps
from coldchain.agent.log_evidence import LogEvidence
from coldchain.agent.network import NetworkSettings, network_of
from coldchain.agent.outcome import Outcome
from coldchain.agent.own_policy import NEXT, OwnPolicy
from coldchain.agent.pack_source import PackSource, open_pack
from coldchain.agent.reporting import Noting, send_waiting
from coldchain.agent.sources import Sources
from coldchain.agent.streamed_pack import StreamedPack
from coldchain.agent.told import Told
from coldchain.agent.transport import Progress, Source, Traffic, open_sources
from coldchain.bundle.description import BundleDescription
from coldchain.engines.endpoint import first_error
from coldchain.engines.settings import EngineSettings, engine_settings
from coldchain.errors import (
    ColdchainError,
    DamagedError,
    DigestError,
    HeldError,
    MalformedError,
    NewerFormatError,
    OwnPolicyError,
    StaleError,
    TransportError,
    VerificationError,
)
from coldchain.evidence import Evidence, check_manifest, open_evidence
from coldchain.install import durable, trusted, versions
from coldchain.install.directory import ClientDirectory, Config
from coldchain.install.engine_memory import EngineMemory
from coldchain.install.part import SUFFIX
from coldchain.install.policy_file import read_customer_policy
from coldchain.install.source_health import SourceMemory
from coldchain.install.state import Packless
from coldchain.install.versions import Version
from coldchain.limits import LIMITS, Limits
from coldchain.receipt import APPLIED, applied
from coldchain.tuf.trusted_set import TrustedSet
from coldchain.verify import (
    BUCKETS,
    EVIDENCE,
    MANIFEST,
    PROOF,
    RegionRelease,
    Target,
    decide,
    region_release,
    rollout_state,
)


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


def silent(_there: int, _length: int) -> None:
    """No progress."""


@dataclass
class Settings:
    """How an update runs; tests and an agent change what they need.

    Attributes:
        urls: instead of the configured ones; None for those.
        pack: a pack to update from, instead of any URL.
        repair: install the offered release anew from its full bundle, even if it is installed.
        now: the clock.
        draw: draws a bucket below its argument.
        progress: told how a download comes on.
        engines: instead of those that the customer's ``policy.toml`` names; None for those.
        limits: bounds.
        network: instead of the section of the directory's policy.toml; None for that.
        told: what servers asked for in earlier runs, and, after this one, in it.
        reports_later: somebody else sends outcome reports, where the customer wants them sent, at another moment.
    """

    urls: Sequence[str] | None = None
    pack: Path | None = None
    repair: bool = False
    now: Callable[[], datetime] = utc_now
    draw: Callable[[int], int] = secrets.randbelow
    progress: Progress = silent
    engines: EngineSettings | None = None
    limits: Limits = LIMITS
    network: NetworkSettings | None = None
    told: Told = field(default_factory=Told)
    reports_later: bool = False


async def update(directory: ClientDirectory, settings: Settings | None = None) -> Outcome:
    """Brings the directory to the release that is meant for it now, and its engines to the release in the directory.

    An engine that does not come along is no exception here: the outcome's ``error`` says so.

    Raises:
        HeldError: a newer release exists and is not for this endpoint yet.
        OwnPolicyError: it exists, and the customer's own policy keeps it back.
        ColdchainError: one kind per cause; ``kept`` says what still runs.
    """
    settings = settings or Settings()
    try:
        return await _locked_update(directory, settings)
    finally:
        # A run that is told to end sends nothing more, and what a pack is for has no network.
        ending = isinstance(sys.exception(), asyncio.CancelledError)
        if not (settings.reports_later or settings.pack or ending):
            await send_waiting(
                directory, settings.now, urls=settings.urls, network=settings.network, limits=settings.limits
            )


async def _locked_update(directory: ClientDirectory, settings: Settings) -> Outcome:
    kept = "what was installed stays in use"
    try:
        # Whatever else the disk refuses (closing, looking) is told as such too.
        with durable.disk(directory.path):
            config = directory.config()
            with directory.locked():
                run = _Update(directory, config, settings)
                try:
                    outcome = await run.run()
                except ColdchainError as error:
                    run.noting.refused(error)
                    raise
                finally:
                    kept = run.kept
                run.noting.ended(outcome.release, outcome.engines)
                return outcome
    except ColdchainError as error:
        error.kept = error.kept or kept
        raise


class _Update:
    def __init__(self, directory: ClientDirectory, config: Config, settings: Settings) -> None:
        self.directory, self.config, self.settings, self.limits = directory, config, settings, settings.limits
        self.now = settings.now()
        self.traffic = Traffic()
        policy = read_customer_policy(directory, self.limits)
        self.network = settings.network or network_of(policy)
        self.own = OwnPolicy(directory, policy, self.network, self.traffic, self.now, self.limits)
        self.noting = Noting(directory, config, policy.reports)
        self.logged: Evidence | None = None
        self.state, self.memory = directory.state(), SourceMemory(directory, self.now)
        self.old: Version | None = None
        self.pack: PackSource | None = None
        self.streamed: StreamedPack | None = None
        self.lacks_pack: Source | None = None
        self.why: str | None = None
        self.fallback: str | None = None
        self.kept = "what was installed stays in use"
        named = settings.engines if settings.engines is not None else engine_settings(policy.tables)
        memories, remember = self.state.engines, self._remember_engines
        self.engines = EngineSteps(directory, config, named, memories, remember, settings.now, self.limits)

    async def run(self) -> Outcome:
        self.directory.complete()
        self.old = versions.linked(self.directory, self.directory.current)
        self.kept = f"release {self.old.release} stays in use" if self.old else "nothing is installed yet"
        self.directory.sweep()
        self.directory.clean_staging(lambda name: name.endswith(SUFFIX))
        trusted.tidy_evidence(self.directory, versions.tidy(self.directory))
        await self.engines.settle(forgive=self.settings.repair)
        try:
            async with self._open() as opened:
                self.sources = Sources(opened, self.directory, self.settings.progress, self.memory.conduct)
                try:
                    outcome = await self._run()
                finally:
                    if self.streamed is not None:
                        self.streamed.close()
                    self.memory.write(len(opened))
        except ColdchainError as error:
            failed = first_error(await self.engines.follow())
            if failed is not None:
                error.kept = f"{error.kept or self.kept}; {failed.what}"
            raise
        self.directory.clean_staging(lambda _: False)
        return replace(outcome, engines=await self.engines.follow())

    def _remember_engines(self, memories: Mapping[str, EngineMemory]) -> None:
        self.state = replace(self.state, engines=memories)
        self.directory.write_state(self.state)

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[list[Source]]:
        """The pack that was given and nothing else, or else the servers and directories."""
        if self.settings.pack is None:
            network = self.network
            urls = self.memory.order(self.settings.urls or network.urls(self.config.urls))
            allowance = open_allowance(
                self.directory, network.most_bytes_per_day, network.most_bytes_per_update, self.now
            )
            try:
                async with open_sources(
                    urls, self.traffic, self.limits, network, told=self.settings.told, allowance=allowance
                ) as opened:
                    yield opened
            finally:
                allowance.done()
            return
        with open_pack(self.settings.pack, self.traffic, self.limits) as self.pack:
            self.pack.check_for(self.config)
            try:
                yield [self.pack]
            except ColdchainError as error:
                self.pack.explain(error, self.old.release if self.old else None)
                raise

    async def _run(self) -> Outcome:
        found = await self._metadata()
        release = region_release(
            found.role(self.config.region),
            self.config.region,
            self.config.channel,
            product=self.config.product,
            limits=self.limits,
        )
        self._remember_packless(release)
        damage = self._damage(release)
        repair = self.old is not None and self.old.release == release.release and damage is not None
        try:
            if not repair and self._decide(found, release) == "current":
                await self._renew_evidence(found, release)
                return self._outcome("current", found, release, None)
            self._want(release)
            if not repair:
                self.noting.trying(release.release, self.old.release if self.old else None)
            if self.pack is not None:
                self.pack.check_content(release, self.old.release if self.old and damage is None else None)
            statement = await self._statement(found, release)
            if repair:  # no new release: the customer's policy does not stand in its way
                statement |= await self._approval_of_old(release)
            else:
                statement |= await self.own.check(release, statement[MANIFEST], self.logged)
        except (HeldError, OwnPolicyError) as held:
            if damage is not None and not repair:
                await self._restore(found, damage, held)
            raise
        evidence = trusted.gather_evidence(self.directory, self.config, found, statement)
        way = await self._install(release, evidence, damage)
        action = "repaired" if repair else "updated" if self.old else "installed"
        if not repair:
            self.own.record(release.release, "applied", f"release {release.release} is meant for this endpoint")
        return self._outcome(action, found, release, way)

    def _want(self, release: RegionRelease) -> None:
        """Downloads of other releases are given up."""
        every = (release.evidence, release.full, *release.deltas.values())
        self.directory.clean_staging({f"{one.sha256}{SUFFIX}" for one in every}.__contains__)

    async def _restore(self, found: TrustedSet, damage: str, held: HeldError | OwnPolicyError) -> None:
        """Installs the damaged release anew while the newer one is not for this endpoint yet, from its own signed evidence.

        Raises:
            DamagedError: there is no good evidence of it.
            EvidenceError: the policy in force now does not accept what is kept of the public log.
        """
        assert self.old is not None
        evidence = trusted.read_evidence(self.directory, self.old.name, self.limits)
        try:
            release = trusted.kept_release(self.directory, self.config, evidence, self.limits)
        except ColdchainError as error:
            release = None
            why = error.what
        else:
            why = "its evidence is about another one"
        if release is None or (release.release, release.bundle[:16]) != (self.old.release, self.old.prefix):
            raise DamagedError(
                f"{damage}; release {self.old.release} cannot be repaired ({why}), and {held.what}",
                todo="ask the publisher; a newer release repairs it as soon as the rollout gets here",
            ) from held
        self._log().check_kept(found.root, release, evidence)
        self._want(release)
        await self._install(release, evidence, damage)
        held.what += f"; release {release.release} was damaged ({damage}) and is repaired"
        held.args = (held.what,)

    def _outcome(self, action: str, found: TrustedSet, release: RegionRelease, way: str | None) -> Outcome:
        return Outcome(
            action=action,
            release=release.release,
            previous=self.old.release if self.old else None,
            way=way,
            check="full" if self.why else "quick",
            why=self.why,
            fallback=self.fallback,
            requests=self.traffic.requests,
            bytes_down=self.traffic.bytes,
            good_until=trusted.good_until(found, self.config),
        )

    # -- metadata ----------------------------------------------------------------------------------------------------

    async def _metadata(self) -> TrustedSet:
        """What is in force now: a poll, and the full workflow when that is due."""
        old = self.old
        # a pack is for who may go on from what is installed: it must be whole, and the customer's policy must not hold or pin it
        ready = old is not None and not self.settings.repair and self.own.may_apply(old.release + 1)
        installed = old.release if old is not None and ready and old.glance(self.limits) is None else None
        metadata = CurrentMetadata(
            self.directory, self.config, self.sources, self.memory, self.state, self.now, self.limits, installed
        )
        try:
            found = await metadata.find()
        except TransportError as error:
            stale = self._stale(error)
            if stale is None:
                raise
            raise stale from error
        finally:
            self.state, self.why, self.streamed = metadata.state, metadata.why, metadata.pack
            self.lacks_pack = metadata.lacks_pack
        self.state = replace(self.state, last_success=self.now, good_until=trusted.good_until(found, self.config))
        self.directory.write_state(self.state)
        return found

    def _remember_packless(self, release: RegionRelease) -> None:
        """A server without a pack that it could have had is not asked for one for a while."""
        if self.lacks_pack is not None and self.old and self.old.release in (release.release, *release.deltas):
            self.state = replace(self.state, packless=Packless(self.lacks_pack.url, self.now.replace(microsecond=0)))
            self.directory.write_state(self.state)

    def _stale(self, error: TransportError) -> StaleError | None:
        """What a failure to fetch means once the metadata that is kept has expired; None before that."""
        if self.old is None:
            return None
        until = trusted.known_good_until(self.directory, self.config, self.limits)
        if until is None or until > self.now:
            return None
        return StaleError(
            f"no fresh metadata since {until:%Y-%m-%d %H:%M} UTC: {error.what}",
            todo=error.todo or "check the network; protection goes on with what is installed, but it is getting old",
        )

    # -- what is to be done ------------------------------------------------------------------------------------------

    def _decide(self, found: TrustedSet, release: RegionRelease) -> str:
        """``apply`` or ``current``; the bucket of a release is drawn once and kept before it is used."""
        rollout = rollout_state(found.role("rollout"), self.config.region, self.config.channel)
        if self.state.bucket is None or self.state.bucket[0] != release.release:
            self.state = replace(self.state, bucket=(release.release, self.settings.draw(BUCKETS)))
            self.directory.write_state(self.state)
        assert self.state.bucket is not None
        decision = decide(release, rollout, self.old.release if self.old else None, self.state.bucket[1])
        if decision.action != "apply":
            self.own.record(release.release, decision.action, decision.reason)
        if decision.action in ("held", "wait"):
            raise HeldError(decision.reason, todo="nothing; a later update brings it when the rollout gets here")
        if decision.action == "apply":
            self.own.check_number(release.release)
        return decision.action

    def _damage(self, release: RegionRelease) -> str | None:
        """Why the installed version cannot be built upon; None when it looks whole (or nothing is installed).

        Raises:
            VerificationError: the role signs other content under the number of the installed release.
        """
        if self.old is None:
            return None
        if self.old.release == release.release and self.old.prefix != release.bundle[:16]:
            raise VerificationError(
                f"release {release.release} is signed for another bundle than the one installed under this number",
                todo="do not go on; ask the publisher why one release has two contents",
            )
        if self.settings.repair:
            return "a repair was asked for"
        return self.old.glance(self.limits)

    async def _renew_evidence(self, found: TrustedSet, release: RegionRelease) -> None:
        assert self.old is not None
        statement = trusted.statement_of(self.directory, self.old.name, release, self.limits)
        if statement is None or not self._log().still_rebuilt(found.root, release, statement):
            statement = await self._statement(found, release)
        else:  # the root may carry another policy by now, the customer may have set one, the role may say other things of it
            self._log().check_kept(found.root, release, statement)
        files = trusted.gather_evidence(self.directory, self.config, found, statement)
        kept = trusted.read_evidence(self.directory, self.old.name, self.limits)
        files |= {APPLIED: kept[APPLIED]} if APPLIED in kept else {}
        approval, unapproved = await self.own.installed(release, kept)
        trusted.write_evidence(self.directory, self.old.name, files | approval)
        if unapproved:
            raise OwnPolicyError(
                f"release {release.release} is installed, and your own policy asks for an approval of it: {unapproved}",
                todo=NEXT["approval"],
            )

    async def _approval_of_old(self, release: RegionRelease) -> dict[str, bytes]:
        assert self.old is not None
        kept = trusted.read_evidence(self.directory, self.old.name, self.limits)
        return (await self.own.installed(release, kept))[0]

    async def _statement(self, found: TrustedSet, release: RegionRelease) -> dict[str, bytes]:
        """The release's manifest, its proof and rebuilders' attestations, by file name: what is public about the release, checked.

        Raises:
            EvidenceError: the manifest is not about what the role signs, the log does not hold it as it must, or too few rebuilt it.
        """
        data = await self._small(release.evidence)
        manifest, proof = open_evidence(data, release, self.limits)
        check_manifest(manifest, release, self.limits)
        log = self._log()
        self.logged = await log.check(found.root, release, manifest, proof, self.old)
        out = {EVIDENCE: data, MANIFEST: manifest, **({PROOF: proof} if proof is not None else {})}
        return out | await log.rebuilt(found.root, release, manifest)

    def _log(self) -> LogEvidence:
        return LogEvidence(self.directory, self.config, self.sources.answer, self.now, self.limits, self.sources.packed)

    async def _small(self, target: Target) -> bytes:
        part = await self.sources.download(target)
        with part.open() as file, durable.disk(self.directory.staging / part.name):
            return file.read()

    # -- fetch and install -------------------------------------------------------------------------------------------

    async def _install(self, release: RegionRelease, evidence: dict[str, bytes], damage: str | None) -> str:
        """Fetches, builds and switches. Returns ``delta`` or ``full``."""
        target = release.best(self.old.release if self.old else None)
        description: BundleDescription | None = None
        if self.old is not None and target is not release.full:
            if damage is not None:
                self.fallback = damage
            elif self.pack is not None and self.pack.holds(release.full):
                self.fallback = "the pack holds the full bundle"
            elif target.sha256 in self.state.refused_deltas:
                self.fallback = "this delta did not apply here before"
            else:
                part = await self.sources.download(target)
                try:
                    with part.open() as delta:
                        description = versions.stage(self.directory, delta, self.old, release.bundle, self.limits)
                except (DamagedError, MalformedError, DigestError, NewerFormatError) as error:
                    self.fallback = error.what
                    self.state = replace(self.state, refused_deltas=(*self.state.refused_deltas, target.sha256))
                    self.directory.write_state(self.state)
                    damage = versions.check(self.old, self.limits)
        way = "delta" if description else "full"
        if description is None:
            part = await self.sources.download(release.full)
            with part.open() as full:
                description = versions.stage(self.directory, full, None, release.bundle, self.limits)
        named = (description.product, description.region, description.channel, description.release)
        if named != (release.product, release.region, release.channel, release.release):
            raise MalformedError(f"the bundle names itself {' '.join(map(str, named))}")
        new = versions.place(self.directory, description)
        source = self.old.release if self.old and way == "delta" else None
        used = target if way == "delta" else release.full
        said = {APPLIED: applied(release.release, source, used, self.now)}
        trusted.write_evidence(self.directory, new.name, evidence | said)
        versions.switch(self.directory, new, None if damage else self.old)
        trusted.tidy_evidence(self.directory, versions.tidy(self.directory))
        self.state = replace(self.state, refused_deltas=())
        self.directory.write_state(self.state)
        return way
