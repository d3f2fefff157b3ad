"""The metadata in force: a poll of one conditional request, and the full TUF workflow when that is due.

::

    poll      GET timestamp.json, conditional; unchanged: the stored metadata is loaded and verified again, offline
    pack      another one: what it leads to, in one more request (:mod:`coldchain.agent.quick_update`)
    refresh   otherwise the full TUF workflow, from the first source that carries it to its end
    doubt     no news for long: do other sources have any? (:mod:`coldchain.agent.second_opinion`)
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Literal

from coldchain.agent.quick_update import QuickUpdate
from coldchain.agent.second_opinion import newer_elsewhere
from coldchain.agent.sources import Sources
from coldchain.agent.streamed_pack import StreamedPack
from coldchain.agent.transport import Answer, Source, computed_etag
from coldchain.agent.workflow import drive
from coldchain.errors import ColdchainError, ThrottledError, TransportError
from coldchain.install import trusted
from coldchain.install.directory import ClientDirectory, Config
from coldchain.install.source_health import SourceMemory
from coldchain.install.state import EntityTag, State
from coldchain.limits import Limits
from coldchain.tuf.metadata import Metadata
from coldchain.tuf.poll import full_refresh_reason
from coldchain.tuf.refresh import Fetch, refresh
from coldchain.tuf.trusted_set import TrustedSet


class CurrentMetadata:
    """One run's search for it.

    Attributes:
        state: what is remembered, with the entity tag of what came and the time of a full workflow.
        why: why the full workflow ran; None after a poll, or a poll and a pack, that sufficed.
        pack: the pack that came with the news, still open: whoever gets it closes it. None when there is none.
        lacks_pack: the server that was polled and had no pack; None when none was missed.
    """

    def __init__(
        self,
        directory: ClientDirectory,
        config: Config,
        sources: Sources,
        memory: SourceMemory,
        state: State,
        now: datetime,
        limits: Limits,
        installed: int | None = None,
    ) -> None:
        self._directory, self._config, self._sources, self._now, self._limits = directory, config, sources, now, limits
        self._memory = memory
        self._age = 0.0
        self._refused: tuple[Source, ColdchainError, Metadata] | None = None
        self._installed = installed
        self.state = state
        self.why: str | None = None
        self.lacks_pack: Source | None = None
        self.pack: StreamedPack | None = None

    async def find(self) -> TrustedSet:
        """What is in force now.

        Raises:
            ColdchainError: the most telling refusal of the sources.
        """
        found = await self._poll()
        if found is None:
            found = await self._full()
            self._blame(found)
        found = await self._doubt(found)
        self._memory.health.saw(hashlib.sha256(found.timestamp.raw).hexdigest(), self._now)
        return found

    def _blame(self, found: TrustedSet) -> None:
        """Notes who sent a pack that was refused, now that the same roles are good; if not by a root that it could not hold."""
        if self._refused is not None:
            source, error, root = self._refused
            if found.root.version == root.version:
                self._memory.conduct.note(source.url, error)

    async def _doubt(self, found: TrustedSet) -> TrustedSet:
        """What is in force by the newest timestamp of all sources, where there is a reason to ask the others."""
        first, others, raw = self._sources.first, self._sources.others, found.timestamp.raw
        health = self._memory.health
        if not others or not health.doubtful(hashlib.sha256(raw).hexdigest(), self._age, self._now):
            return found
        health.asked = self._now
        while (better := await newer_elsewhere(others, raw, found.timestamp.version, self._limits)) is not None:
            self._sources.prefer(better)
            newest = await self._full()
            if newest.timestamp.version > found.timestamp.version:
                self._memory.conduct.bad[first.url] = "behind"
                self.why = f"{first.url} holds back news"
                return newest
            found, others = newest, others[others.index(better) + 1 :]  # it promised what it does not have
        return found

    async def _poll(self) -> TrustedSet | None:
        """The quick check; None when the full workflow is due, with the reason in ``why``."""
        files = trusted.stored(self._directory, self._config, self._limits)
        timestamp = files.get("timestamp.json")
        self.why = full_refresh_reason(timestamp, self._now, self.state.last_full, limits=self._limits)
        if self.why is not None or timestamp is None:
            return None
        source = self._sources.first
        try:
            answer = await source.get(
                "metadata/timestamp.json", self._limits.timestamp_bytes, etag=self._etag(source, timestamp)
            )
        except ThrottledError:
            # A server that is too busy is not asked for more at once; the others may be.
            if not self._sources.turn():
                raise
            self.why = "the quick check failed"
            return None
        except TransportError:
            self.why = "the quick check failed"
            return None
        self._remember_etag(source, answer)
        self._age = answer.age
        self._memory.conduct.note(source.url, None)
        seen: Literal["not modified", "failed"] | bytes = "failed" if answer.missing else "not modified"
        if answer.data is not None:  # an empty file is a file, and another one
            seen = answer.data
        self.why = full_refresh_reason(timestamp, self._now, self.state.last_full, seen, self._limits)
        if self.why is None:
            try:
                return trusted.recall(files, self._config, self._now, self._limits)
            except ColdchainError:
                self.why = "the stored metadata is incomplete or has expired"
        elif isinstance(seen, bytes):
            return await self._quick(source, files, seen)
        return None

    async def _quick(self, source: Source, files: dict[str, bytes], timestamp: bytes) -> TrustedSet | None:
        """What the new timestamp leads to, with the pack that it names; None when the full workflow is due."""
        if self._installed is None:
            return None
        quick = QuickUpdate(self._directory, self._config, self._installed, self._now, self._limits)
        try:
            done = await quick.run(source, self.state, files, timestamp)
        except ThrottledError:
            if not self._sources.turn():
                raise
            return None
        self.lacks_pack = source if done.missing else None
        if done.refusal is not None:
            self._refused = source, done.refusal, trusted.newest_root(self._directory, self._config, self._limits)
        if done.found is None or done.pack is None:
            return None
        self.pack = done.pack
        self._sources.ask_first(done.pack)
        self.why = None
        return done.found

    def _etag(self, source: Source, timestamp: bytes) -> str:
        digest = hashlib.sha256(timestamp).hexdigest()
        known = self.state.etag
        return known.value if known and (known.sha256, known.url) == (digest, source.url) else computed_etag(digest)

    def _remember_etag(self, source: Source, answer: Answer) -> None:
        if answer.data is not None and answer.etag is not None and len(answer.etag) <= 128:
            digest = hashlib.sha256(answer.data).hexdigest()
            self.state = replace(self.state, etag=EntityTag(digest, source.url, answer.etag))

    async def _full(self) -> TrustedSet:
        """The full workflow, from the first source that carries it through; that one is asked first from then on."""
        found, source = await self._sources.first_good(self._refresh, blame=True)
        self._sources.prefer(source)
        self.state = replace(self.state, last_full=self._now)
        return found

    async def _refresh(self, source: Source) -> TrustedSet:
        files = trusted.stored(self._directory, self._config, self._limits)
        steps = refresh(files, self._now, trusted.roles(self._config), self._limits, trusted.role_check(self._config))

        async def get(step: Fetch) -> bytes | None:
            answer = await source.get(step.path, step.max_bytes)
            if step.path == "metadata/timestamp.json":
                self._age = answer.age
                self._remember_etag(source, answer)
            return answer.data

        return await drive(steps, get, partial(trusted.keep, self._directory))
