"""One run of a monitor.

::

    metadata      all roles, by the client's own workflow; keys against those seen last
    witnesses     what each of them shows of the log
    checkpoint    the log's signature, the policy's quorum, growth from the checkpoint seen last
    entries       all since the last run, each a link of its channel's chain
    bundles       of every new entry, for every region: fetched, taken apart, compared with each other
    offers        what regions' roles offer is in this log, with good evidence
    report        proofs, report.json, metrics: durable; then the state

The order is what makes it sound: whatever is in the metadata, or with a witness, was in the log before, so that the log, which is read
after them, must hold it. What is found is reported in any case; what a forked or unreadable log said is not remembered as seen.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from coldchain.agent.transport import Source, Traffic, open_sources
from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.errors import (
    ColdchainError,
    EvidenceError,
    NewerFormatError,
    TransportError,
    VerificationError,
)
from coldchain.evidence import Evidence, check_evidence, effective_policy, open_evidence
from coldchain.limits import Limits
from coldchain.monitor.directory import MonitorDirectory
from coldchain.monitor.entries import REMEMBERED, Chains
from coldchain.monitor.findings import Alert
from coldchain.monitor.log_view import LogView
from coldchain.monitor.releases import check_release
from coldchain.monitor.report import Report, metrics
from coldchain.monitor.roles import Walk, channels, walk
from coldchain.monitor.settings import WatchSettings
from coldchain.monitor.state import MonitorState, Standing
from coldchain.monitor.witnesses import Held, held
from coldchain.prometheus import write_metrics
from coldchain.tlog.checkpoint import Checkpoint, OpenedCheckpoint, open_checkpoint, parse_checkpoint
from coldchain.tlog.note import SignedNote, parse_note
from coldchain.tlog.policy import Policy
from coldchain.tlog.tiles import WIDTH
from coldchain.tuf.metadata import Metadata
from coldchain.verify import RegionRelease, Target, region_release

RETRIED: Final = 8
"""A bundle that could not be had is tried again while its release is among so many newest ones of its channel."""


async def watch(directory: MonitorDirectory, settings: WatchSettings) -> Report:
    """Runs once; the report is on the disk when it returns, and only then the state.

    Raises:
        UsageError, DamagedError, LockedError, StorageError: about the directory.
        TransportError: nothing could be read; what was seen before is remembered.
        EvidenceError: there is no policy to judge by.
    """
    now = settings.now().replace(microsecond=0)
    directory.make()
    try:
        with directory.locked():
            directory.sweep()
            state = directory.begin(settings.url, settings.product, settings.root)
            traffic = Traffic()
            try:
                async with open_sources([settings.url], traffic, settings.limits) as (source,):
                    report = await _Run(directory, state, source, traffic, settings, now).run()
            finally:
                directory.work.clear()
            report.requests, report.bytes_down = traffic.requests, traffic.bytes
            for alert in report.alerts:
                if alert.proof:
                    directory.keep_proof(alert)
            directory.write_report(report.as_json())
            if settings.metrics is not None:
                write_metrics(settings.metrics, metrics(report, now))
            directory.write_state(state)
            return report
    except ColdchainError as error:
        error.kept = error.kept or "what was seen of the log before is remembered"
        if settings.metrics is not None:
            write_metrics(settings.metrics, metrics(None, now, error))
        raise


@dataclass
class _Seen:
    """A checkpoint that is believed in this run, and the log under it."""

    checkpoint: Checkpoint
    note: SignedNote
    view: LogView


@dataclass
class _Run:
    directory: MonitorDirectory
    state: MonitorState
    source: Source
    traffic: Traffic
    settings: WatchSettings
    now: datetime
    alerts: list[Alert] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    roots: dict[tuple[int, bytes], bool] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        return self.settings.limits

    async def run(self) -> Report:
        """The report; the state is changed to what the next run should know.

        Raises:
            TransportError: something could not be had, and nothing was found before.
        """
        first = self.state.checkpoint is None and "timestamp.json" not in self.state.metadata
        report = Report(self.state.url, self.now, self.state.root, first=first)
        try:
            await self._look(report)
        except TransportError as error:
            # whoever hides something would break off here, and must not hide what was found so far
            if not self.alerts:
                raise
            self.notes.append(f"the run ended early, and the next one begins where this one did: {error.what}")
        self._conclude(report)
        return report

    async def _look(self, report: Report) -> None:
        state, settings = self.state, self.settings
        settings.say("signed metadata")
        walked = await self._walk()
        policy = effective_policy(walked.root, settings.policy, self.limits)
        settings.say("witnesses")
        views = await self._held(policy)
        known = self._known()
        left = settings.tries
        while True:
            left -= 1
            base, chains = await self._follow(policy, views, report)
            # a checkpoint from a cache may be some seconds old
            if left <= 0 or not self._overtaken(walked, chains):
                break
            await asyncio.sleep(settings.pause)
        await self._offers(walked, policy, chains, base, known, report)
        report.channels = {name: one.last for name, one in state.channels.items()}
        report.versions = walked.versions
        state.metadata = walked.files

    async def _follow(
        self, policy: Policy, views: dict[str, list[Held]], report: Report
    ) -> tuple[_Seen | None, Chains]:
        """The log as it is shown now: the checkpoint, held against what is known, and its new entries.

        Returns:
            The checkpoint that is believed, if there is one, and all chains so far.
        """
        self.settings.say("checkpoint")
        opened = await self._checkpoint(policy, views)
        known = self._known()
        grown = opened is not None and await self._grown(opened, known)
        base = known
        if opened is not None and grown:
            base = _Seen(opened.checkpoint, opened.note, LogView(self._get, opened.checkpoint, self.limits))
        if base is not None:
            report.origin, report.size = base.checkpoint.origin, base.checkpoint.size
            report.witnesses = views.get(base.checkpoint.origin, [])
            await self._compare_witnesses(base, report.witnesses)
        else:
            self._no_log([one for some in views.values() for one in some])
        if opened is not None:
            times = [time for time in opened.opened.signed.values() if time is not None]
            report.cosigned = max(times, default=None)
        state = copy.deepcopy((self.state.channels, self.state.places))
        chains = Chains(self.settings.product, state[0], self.limits, state[1])
        if grown and base is not None:
            report.read += await self._read(base, chains, report)
        return base, chains

    def _overtaken(self, walked: Walk, chains: Chains) -> bool:
        """Whether a region offers a release above all that the log shows."""
        numbers = [
            (release.release, chains.channels.get(channel))
            for region, role in walked.regions.items()
            for channel, release in self._releases(region, role)
        ]
        return any(number > (chain.last if chain else 0) for number, chain in numbers)

    def _conclude(self, report: Report) -> None:
        """What stands from earlier runs, and what will stand from this one."""
        report.alerts = list(dict.fromkeys(self.alerts))
        report.notes = self.notes
        earlier = {} if self.settings.acknowledge else {(one.kind, one.what): one for one in self.state.alerts}
        found = {(one.kind, one.what) for one in report.alerts}
        report.standing = [one for key, one in earlier.items() if key not in found]
        self.state.alerts = report.standing + [
            earlier.get((one.kind, one.what), Standing(one.kind, one.what, self.now))
            for one in report.alerts
            if one.lasting
        ]

    async def _get(self, path: str, most: int) -> bytes | None:
        return (await self.source.get(path, most)).data

    async def _walk(self) -> Walk:
        steps = walk(self.state.metadata, self.now, self.settings.product, self.limits)
        answer: bytes | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as done:
                found: Walk = done.value
                self.alerts += found.alerts
                self.notes += found.notes
                return found
            answer = await self._get(step.path, step.max_bytes)

    # -- checkpoint and witnesses ------------------------------------------------------------------------------------

    async def _held(self, policy: Policy) -> dict[str, list[Held]]:
        """What the witnesses show, by the origin of each log that the policy lists."""
        origins = dict.fromkeys(key.name for key in policy.log_keys)
        asked = [[key for key in policy.log_keys if key.name == origin] for origin in origins]
        found = await asyncio.gather(*[held(policy, keys, self.traffic, self.limits) for keys in asked])
        return dict(zip(origins, found, strict=True))

    async def _checkpoint(self, policy: Policy, views: dict[str, list[Held]]) -> OpenedCheckpoint | None:
        """The published checkpoint, signed by the log; None when there is none to work with.

        It is looked at again when it has no quorum yet, or less in it than witnesses hold.
        """
        left = self.settings.tries
        while True:
            data = await self._get("log/checkpoint", self.limits.note_bytes)
            if data is None:
                if self.state.checkpoint is not None:
                    self.alerts.append(Alert("log-missing", "log/checkpoint is not there any more"))
                return None
            try:
                opened = open_checkpoint(parse_note(data, self.limits), policy.log_keys, policy.witness_keys)
            except ColdchainError as error:
                self.alerts.append(Alert("checkpoint", f"log/checkpoint: {error.what}"))
                return None
            by_key = policy.witness_keys
            times = {by_key[key].name: time for key, time in opened.opened.signed.items() if time is not None}
            lacking = policy.evaluate(times, self.now, self.limits).lacking
            left -= 1
            shown = views.get(opened.checkpoint.origin, [])
            most = max((one.checkpoint.size for one in shown if one.checkpoint), default=0)
            if (lacking or opened.checkpoint.size < most) and left > 0:
                await asyncio.sleep(self.settings.pause)
                continue
            if lacking:
                what = f"the checkpoint of {opened.checkpoint.size:,} entries lacks its quorum: {lacking}"
                self.alerts.append(Alert("no-quorum", what))
            return opened

    def _known(self) -> _Seen | None:
        """The checkpoint that earlier runs believed."""
        note = self.state.checkpoint
        if note is None:
            return None
        checkpoint = parse_checkpoint(note.text)
        return _Seen(checkpoint, note, LogView(self._get, checkpoint, self.limits))

    async def _grown(self, opened: OpenedCheckpoint, known: _Seen | None) -> bool:
        """Whether the checkpoint continues the one known."""
        new = opened.checkpoint
        if known is None:
            return True
        if known.checkpoint.origin != new.origin:
            what = f"the checkpoint is of {new.origin}, and {known.checkpoint.origin} was followed so far"
            self.alerts.append(Alert("log-changed", what, (known.note, opened.note)))
            self.state.entries, self.state.pending, self.state.waiting = 0, [], {}
            return True
        view = LogView(self._get, new, self.limits)
        return await self._prefix(known, _Seen(new, opened.note, view), "the log itself, seen earlier")

    async def _prefix(self, known: _Seen, shown: _Seen, who: str) -> bool:
        """Whether what the log shows continues ``known``, which its own key signed; an alert says why not."""
        old, new = known.checkpoint, shown.checkpoint
        proof = (known.note, shown.note)
        smaller, larger = (known, shown) if old.size <= new.size else (shown, known)
        try:
            same = await larger.view.root_at(smaller.checkpoint.size) == smaller.checkpoint.root
        except (EvidenceError, VerificationError) as error:
            if larger is shown:
                self.alerts.append(Alert("unreadable", f"under the checkpoint of {new.size:,} entries: {error.what}"))
                return False
            same = True  # the tiles of the larger tree are gone: that the log shows a smaller one is what can be proved
        if not same:
            what = f"{old.size:,} entries ({who}) and {new.size:,} entries, both signed by {new.origin}, are of two histories"
            self.alerts.append(Alert("fork", what, proof))
        elif new.size < old.size:
            what = f"the log shows {new.size:,} entries; it signed {old.size:,} before ({who})"
            self.alerts.append(Alert("backwards", what, proof))
        return same and new.size >= old.size

    def _no_log(self, views: list[Held]) -> None:
        """No log is shown to us: witnesses may know better."""
        for one in views:
            if one.checkpoint is not None and one.note is not None and one.checkpoint.size:
                what = (
                    f"no log is shown, and witness {one.witness} holds {one.checkpoint.size:,} entries that it signed"
                )
                self.alerts.append(Alert("log-missing", what, (one.note,)))

    async def _compare_witnesses(self, base: _Seen, views: list[Held]) -> None:
        waiting: dict[str, datetime] = {}
        for one in views:
            problem = one.problem
            kind = "witness-silent"
            if one.checkpoint is not None and one.note is not None:
                view = LogView(self._get, one.checkpoint, self.limits)
                await self._prefix(_Seen(one.checkpoint, one.note, view), base, f"witness {one.witness}")
            if not problem and (one.checkpoint.size if one.checkpoint else 0) < base.checkpoint.size:
                kind = "witness-behind"
                held_ = f"{one.checkpoint.size:,} entries" if one.checkpoint else "nothing of this log"
                problem = f"it holds {held_}"
            if problem:
                since = self.state.waiting.get(one.witness, self.now)
                waiting[one.witness] = since
                if (self.now - since).total_seconds() >= self.settings.patience:
                    what = f"witness {one.witness}: {problem} (since {since:%Y-%m-%d %H:%M} UTC)"
                    self.alerts.append(Alert(kind, what))
                else:
                    self.notes.append(f"witness {one.witness}: {problem}")
        self.state.waiting = waiting

    # -- entries and what they name ----------------------------------------------------------------------------------

    async def _read(self, base: _Seen, chains: Chains, report: Report) -> int:
        """Reads and judges the new entries, checks what they name, and remembers that. Returns how many were read."""
        state = self.state
        start, size = state.entries, base.checkpoint.size
        newest_only = report.first and not self.settings.every
        checked: dict[int, Manifest] = {}
        newest: dict[str, int] = {}
        retried: list[int] = []
        try:
            for index in state.pending:
                bundle = await base.view.entries(index // WIDTH)
                checked[index] = parse_manifest(bundle[index % WIDTH], self.limits)
            async for index, data in self._entries(base, start):
                if index % WIDTH == 0:
                    self.settings.say(f"entry {index:,} of {size:,}")
                judged = chains.take(index, data)
                self.alerts += judged.alerts
                self.notes += judged.notes
                if judged.manifest is None:
                    continue
                if newest_only:
                    checked.pop(newest.get(judged.manifest.channel, -1), None)
                    newest[judged.manifest.channel] = index
                    checked[index] = judged.manifest
                else:
                    await self._release(index, judged.manifest, retried, report)
        except (EvidenceError, VerificationError) as error:
            self.alerts.append(Alert("unreadable", f"the log's entries from {start:,} on: {error.what}"))
            return 0
        for index, manifest in checked.items():
            await self._release(index, manifest, retried, report)
        recent = {
            index
            for one in chains.channels.values()
            for number, entries in one.entries.items()
            for index, _ in entries
            if number > one.last - RETRIED
        }
        state.pending = [index for index in retried if index in recent]
        for index in set(retried) - recent:
            what = f"entry {index}: not everything that it names could be had, and it is too old to be tried again"
            self.alerts.append(Alert("bundle-missing", what))
        state.checkpoint, state.entries = base.note, size
        state.channels, state.places = chains.channels, chains.places
        return size - start

    async def _entries(self, base: _Seen, start: int) -> AsyncIterator[tuple[int, bytes]]:
        for bundle in range(start // WIDTH, -(-base.checkpoint.size // WIDTH)):
            for place, data in enumerate(await base.view.entries(bundle)):
                index = bundle * WIDTH + place
                if index >= start:
                    yield index, data

    async def _release(self, index: int, manifest: Manifest, retried: list[int], report: Report) -> None:
        settings = self.settings
        settings.say(f"release {manifest.release} of {manifest.channel} (entry {index})")
        found = await check_release(
            self.source, self.directory.work, index, manifest, settings.progress, settings.limits
        )
        self.alerts += found.alerts
        if found.again:
            retried.append(index)
        if found.summary:
            report.checked.append(found.summary)

    # -- what is offered ---------------------------------------------------------------------------------------------

    async def _offers(
        self, walked: Walk, policy: Policy, chains: Chains, base: _Seen | None, known: _Seen | None, report: Report
    ) -> None:
        """Whether what the regions' roles offer is in the log, with good evidence."""
        self.settings.say("what regions offer")
        for region, role in walked.regions.items():
            for channel, release in self._releases(region, role):
                report.offered.setdefault(region, {})[channel] = release.release
                where = f"region {region} offers release {release.release} of {channel}"
                chain = chains.channels.get(channel)
                held_ = chain.digests(release.release) if chain else []
                last = chain.last if chain else 0
                if release.manifest in held_:
                    await self._evidence(where, release, policy, base)
                    continue
                if 0 < release.release <= last - REMEMBERED:
                    self.notes.append(f"{where}: too far back to be told")
                    continue
                instead = f"another manifest, {held_[0][:16]}…" if held_ else f"releases up to {last}"
                what = f"{where} (manifest {release.manifest[:16]}…), and the log holds {instead}"
                self.alerts.append(Alert("unlogged", what))
                if release.release > last and known and base and known.checkpoint.size == base.checkpoint.size:
                    what = f"{where}, and the log stands at {base.checkpoint.size:,} entries since the last run"
                    self.alerts.append(Alert("standing-still", what))

    def _releases(self, region: str, role: Metadata) -> list[tuple[str, RegionRelease]]:
        """What a region's role offers, by channel; what a client would refuse of it is an alert."""
        found: list[tuple[str, RegionRelease]] = []
        try:
            names = channels(role)
        except ColdchainError as error:
            self.alerts.append(Alert("metadata", error.what))
            return found
        for name in names:
            try:
                release = region_release(role, region, name, product=self.settings.product, limits=self.limits)
            except ColdchainError as error:
                self.alerts.append(Alert("metadata", f"region {region}, channel {name}: {error.what}"))
            else:
                found.append((name, release))
        return found

    async def _evidence(self, where: str, release: RegionRelease, policy: Policy, base: _Seen | None) -> None:
        try:
            data, proof = open_evidence(await self._target(release.evidence), release, self.limits)
            found = check_evidence(data, proof, release, policy, self.now, self.limits)
        except (EvidenceError, NewerFormatError, VerificationError) as error:
            self.alerts.append(Alert("evidence", f"{where}: {error.what}"))
            return
        full = found.manifest.regions[release.region].full
        if full is None or (full.sha256, full.bytes) != (release.full.sha256, release.full.length):
            self.alerts.append(Alert("evidence", f"{where} as another file than the one that its entry names"))
        if base is not None:
            await self._same_log(where, found, base)

    async def _same_log(self, where: str, found: Evidence, base: _Seen) -> None:
        """The checkpoint of the proof is one of this log: evidence for one customer could come from a log of its own."""
        head = found.verified.head
        key = (head.checkpoint.size, head.checkpoint.root)
        if key not in self.roots:
            self.roots[key] = True
            view = LogView(self._get, head.checkpoint, self.limits)
            await self._prefix(_Seen(head.checkpoint, head.note, view), base, f"the proof of what {where}")

    async def _target(self, target: Target) -> bytes:
        if target.sha256 not in self.files:
            data = await self._get(target.url_path, target.length)
            if data is None or len(data) != target.length or hashlib.sha256(data).hexdigest() != target.sha256:
                raise EvidenceError(f"{target.path} is not there, or not as signed")
            self.files[target.sha256] = data
        return self.files[target.sha256]
