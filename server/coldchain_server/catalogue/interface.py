"""The catalogue: feeds, their snapshots, releases and their bundles, behind one interface that any database can serve.

It is the origin's memory, not its truth: what is published is what the signed timestamp in the published tree leads to. So every
row is written after the files it speaks of are durable, and a release whose timestamp is out counts as published even if the
process died before the row said so (:mod:`coldchain_server.release.publish` mends that at its next start).

States of a release: ``built`` -> ``logged`` -> ``approved`` -> ``published``; from the first three also ``discarded``. Numbers grow
per channel. One that stands in the public log is never used twice; a release that is given up before it is logged is forgotten, and
its number is the next one's.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

State = Literal["built", "logged", "approved", "published", "discarded"]


@dataclass(frozen=True, slots=True)
class Feed:
    """A source of signatures. ``snapshot`` is the digest of the newest good one, empty before the first."""

    name: str
    kind: str
    path: str
    skip_bad: bool
    snapshot: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a feed held at ``taken`` (UTC, ``…SSZ``)."""

    digest: str
    feed: str
    taken: str
    files: int
    records: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Release:
    """One release: ``manifest`` is the SHA-256 of its manifest, ``changed`` when its state last changed (UTC)."""

    channel: str
    number: int
    state: State
    manifest: str
    created: str
    changed: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """One region's bundle of a release: ``digest`` of its description, which is kept in the content store."""

    channel: str
    number: int
    region: str
    digest: str
    bytes: int
    records: int


class Catalogue(Protocol):
    """Every method is one transaction. A failure of the database is :class:`coldchain.errors.StorageError`."""

    async def put_feed(self, feed: Feed) -> None:
        """Adds a feed or changes it."""

    async def feeds(self) -> list[Feed]:
        """All feeds in the order of their names."""

    async def remove_feed(self, name: str) -> bool:
        """Forgets a feed (its snapshots stay); whether it was there."""

    async def put_snapshot(self, snapshot: Snapshot) -> None:
        """Remembers a snapshot and makes it its feed's newest. The same snapshot again changes nothing but the feed."""

    async def snapshots(self, feed: str) -> list[Snapshot]:
        """A feed's snapshots, oldest first."""

    async def next_number(self, channel: str) -> int:
        """The number the channel's next release gets: one more than the highest ever used."""

    async def put_release(self, release: Release, bundles: list[Bundle]) -> None:
        """Adds a release with its bundles, all or nothing. Raises StateError when the number is taken."""

    async def set_state(self, channel: str, number: int, state: State, changed: str) -> None:
        """Moves a release on. Raises StateError for an unknown release or a step its state does not allow."""

    async def forget_release(self, channel: str, number: int) -> None:
        """Forgets a release that is only built, with its bundles. Raises StateError for any other."""

    async def release(self, channel: str, number: int) -> Release | None:
        """One release, or None."""

    async def releases(self, channel: str) -> list[Release]:
        """A channel's releases in the order of their numbers."""

    async def bundles(self, channel: str, number: int) -> list[Bundle]:
        """A release's bundles in the order of their regions."""

    def publisher(self, *, wait: float = 0.0) -> AbstractAsyncContextManager[None]:
        """The one lock that whoever changes roles or releases holds; it frees itself when its holder dies.

        Args:
            wait: seconds to wait for another holder.

        Raises:
            BusyError: another one holds it.
        """

    async def close(self) -> None:
        """Closes the database."""


STEPS: dict[State, tuple[State, ...]] = {
    "built": ("logged", "discarded"),
    "logged": ("approved", "discarded"),
    "approved": ("published", "discarded"),
    "published": (),
    "discarded": (),
}
"""From a state to those a release may go to next."""
