"""From a poll that brought news to what is in force now, with one more request: for the pack that the news themselves name.

::

    poll         timestamp.json, signed by the keys that the trusted root names, newer, and naming a later snapshot: 107
    pack         GET packs/us/stable/107.from-41.pack, since release 41 is installed
    refresh      the whole TUF workflow: roots and roles from the pack, what it lacks from the same server one by one

The workflow is the full one but for one thing: whether there is a newer root is not asked, it is in the pack or it is not. Asking
is the daily full check's business (:mod:`coldchain.tuf.poll`), which this one does not put off.

An endpoint that waits for its turn in a rollout asks for the beginning of the pack only; when its turn has come, the delta is one more.

Whatever goes wrong on the way, the full workflow is next, from file to file, and judges as if there had been no pack. A server that has
none is no worse for it, and is not asked for one again for a day, unless it could not have one: for a release that no delta leads from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from coldchain.agent.streamed_pack import StreamedPack, open_streamed_pack
from coldchain.agent.transport import HttpSource, Source
from coldchain.agent.workflow import drive
from coldchain.errors import (
    ColdchainError,
    MalformedError,
    NewerFormatError,
    ThrottledError,
    TransportError,
    VerificationError,
)
from coldchain.install import trusted
from coldchain.install.directory import ClientDirectory, Config
from coldchain.install.state import State
from coldchain.limits import Limits
from coldchain.published_packs import pack_path
from coldchain.tuf.metadata import parse_metadata
from coldchain.tuf.refresh import Fetch, refresh
from coldchain.tuf.trusted_set import TrustedSet

PACKLESS: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Quick:
    """How it went.

    Attributes:
        found: what is in force; None when the full workflow has to find it.
        pack: the pack, open, with the rest of it to come.
        missing: the server has no such pack.
        refusal: why the pack, or what is in it, was refused.
    """

    found: TrustedSet | None = None
    pack: StreamedPack | None = None
    missing: bool = False
    refusal: ColdchainError | None = None


@dataclass(frozen=True, slots=True)
class QuickUpdate:
    """See the module.

    Attributes:
        directory: the endpoint's, its lock held.
        config: of the endpoint.
        installed: the release that is installed and looks whole.
        now: the time of the run.
        limits: bounds.
    """

    directory: ClientDirectory
    config: Config
    installed: int
    now: datetime
    limits: Limits

    async def run(self, source: Source, state: State, files: Mapping[str, bytes], timestamp: bytes) -> Quick:
        """Tries it.

        Args:
            source: the server that was polled; others have no packs.
            state: what is remembered of it.
            files: the stored metadata, a timestamp among it.
            timestamp: the other one that came.

        Raises:
            ThrottledError: the server asked to be left alone.
            StorageError: the disk refused.
        """
        if not isinstance(source, HttpSource) or is_packless(state, source.url, self.now):
            return Quick()
        snapshot = self._newer_snapshot(files, timestamp)
        if snapshot is None:
            return Quick()
        path = pack_path(self.config.region, self.config.channel, snapshot, self.installed)
        try:
            pack = await open_streamed_pack(source, path, self.limits, beginning_only=self._waits(state))
            if pack is None:
                return Quick(missing=True)
        except ThrottledError:
            raise
        except (TransportError, VerificationError, NewerFormatError) as error:
            return Quick(refusal=error)
        try:
            return Quick(await self._refresh(source, pack, files, timestamp), pack)
        except (TransportError, VerificationError, NewerFormatError) as error:
            pack.close()
            if isinstance(error, ThrottledError):
                raise
            return Quick(refusal=error)
        except BaseException:
            pack.close()
            raise

    def _waits(self, state: State) -> bool:
        """Whether this endpoint has drawn its bucket for a later release already: most steps of a rollout leave it waiting."""
        return state.bucket is not None and state.bucket[0] > self.installed

    def _newer_snapshot(self, files: Mapping[str, bytes], timestamp: bytes) -> int | None:
        """The version that a good new timestamp names; None when it is no later one, or the timestamp is not good."""
        try:
            known = TrustedSet(files["root.json"], self.now, self.limits)
            known.recall(files.get("timestamp.json"), files.get("snapshot.json"))
            new = known.update_timestamp(timestamp)
            old = parse_metadata(files["timestamp.json"], "timestamp", self.limits)
        except ColdchainError:
            return None
        named = new.files["snapshot.json"].version
        return named if new.raw == timestamp and named > old.files["snapshot.json"].version else None

    async def _refresh(
        self, source: HttpSource, pack: StreamedPack, files: Mapping[str, bytes], timestamp: bytes
    ) -> TrustedSet:
        roles, check = trusted.roles(self.config), trusted.role_check(self.config)

        async def get(step: Fetch) -> bytes | None:
            data = timestamp if step.path == "metadata/timestamp.json" else pack.part(step.path)
            if data is None and not step.path.endswith(".root.json"):
                data = (await source.get(step.path, step.max_bytes)).data
            if data is not None and len(data) > step.max_bytes:
                raise MalformedError(f"{step.path}: longer than the allowed {step.max_bytes} bytes")
            return data

        return await drive(
            refresh(files, self.now, roles, self.limits, check), get, partial(trusted.keep, self.directory)
        )


def is_packless(state: State, url: str, now: datetime) -> bool:
    """Whether the server at ``url`` is remembered to have no packs."""
    known = state.packless
    return known is not None and known.url == url and timedelta() <= now - known.since < PACKLESS
