"""What a rebuild starts from: whose log it is, and files within bounds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from coldchain.agent.transport import Answer, DirectorySource, Progress
from coldchain.bundle.manifest import Manifest
from coldchain.errors import DigestError, EvidenceError, MalformedError, UsageError, VerificationError
from coldchain.install.directory import ClientDirectory
from coldchain.install.part import Part
from coldchain.tlog.policy import Policy
from coldchain_server.feeds.archives import FEED_LIMITS, FeedLimits
from coldchain_server.home import Home
from coldchain_server.rebuild.sources import fetch_snapshots, policy_for
from coldchain_server.signing.roles import load_state
from coldchain_server.signing.rotation import set_log_policy
from coldchain_server.storage.content import ContentStore
from tests.client.tlog.logs import witness
from tests.client.tuf.repository import NOW
from tests.server import origins

ONE = witness(77)


async def asking_for_a_witness(home: Home) -> None:
    """A second root carries another policy."""
    lines = f"witness one {ONE.vkey}\nquorum one\n".encode()
    state = await load_state(home.storage)
    await set_log_policy(state, origins.keyring(home), home.storage, lines, log_name="x", now=NOW)


async def policy(home: Home, root: bytes | None = None, own: bytes | None = None) -> Policy:
    return await policy_for(DirectorySource(str(home.public)), root, own)


async def test_the_newest_root_that_follows_from_the_given_one_says_whose_log_it_is(home: Home) -> None:
    assert (await policy(home, home.pinned_root())).quorum == "none"
    await asking_for_a_witness(home)
    second = (home.public / "metadata" / "2.root.json").read_bytes()
    for root in (home.pinned_root(), second, None):
        assert (await policy(home, root)).quorum == "one"


async def test_a_root_that_does_not_follow_is_refused(home: Home) -> None:
    await asking_for_a_witness(home)
    path = home.public / "metadata" / "2.root.json"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data.replace(b"quorum one", b"quorum nno"))
    with pytest.raises(VerificationError):
        await policy(home, home.pinned_root())


async def test_what_is_no_root_and_no_policy(home: Home, tmp_path: Path) -> None:
    for root in (b"", b"{}", home.pinned_root()[:-1]):
        with pytest.raises(UsageError, match="the root that was given is not a good root"):
            await policy(home, root)
    with pytest.raises(UsageError, match=r"1\.root\.json is not a good root"):
        await policy_for(DirectorySource(str(tmp_path)), None, None)
    with pytest.raises(UsageError):
        await policy(home, own=b"quorum none\n")


@dataclass
class Counting(DirectorySource):
    """Remembers what was asked for."""

    asked: list[str] = field(default_factory=list)

    async def get(self, path: str, most: int, *, etag: str | None = None) -> Answer:
        self.asked.append(path)
        return await super().get(path, most, etag=etag)

    async def download(self, path: str, part: Part, progress: Progress) -> None:
        self.asked.append(path)
        await super().download(path, part, progress)


async def fetched(
    home: Home, folder: Path, bounds: FeedLimits = FEED_LIMITS, manifest: Manifest | None = None
) -> tuple[Counting, ContentStore, ClientDirectory]:
    source, work, content = (
        Counting(str(home.public)),
        ClientDirectory(folder / "work"),
        ContentStore(folder / "content"),
    )
    work.make()
    manifest = manifest or origins.read(home, "us").manifest
    await fetch_snapshots(source, manifest, work, content, say=lambda _: None, progress=lambda *_: None, bounds=bounds)
    return source, content, work


async def test_each_file_is_fetched_once_and_nothing_is_left_beside(home: Home, tmp_path: Path) -> None:
    source, content, work = await fetched(home, tmp_path)
    assert len(source.asked) == len(set(source.asked)) == 7
    assert all(path.removeprefix("snapshots/") in content for path in source.asked)
    assert list(work.staging.iterdir()) == []


async def test_bounds_are_checked_before_files_are_fetched(home: Home, tmp_path: Path) -> None:
    for number, bounds in enumerate(
        (
            replace(FEED_LIMITS, files=1),
            replace(FEED_LIMITS, file_bytes=100),
            replace(FEED_LIMITS, total_bytes=1000),
        )
    ):
        with pytest.raises(MalformedError):
            await fetched(home, tmp_path / str(number), bounds)
        assert not list((tmp_path / str(number)).rglob("*.part"))


async def test_a_missing_snapshot_is_a_matter_of_evidence_and_names_the_feed(home: Home, tmp_path: Path) -> None:
    manifest = origins.read(home, "us").manifest
    for number, feed in enumerate(manifest.feeds):
        path = home.public / "snapshots" / feed.snapshot
        good = path.read_bytes()
        path.unlink()
        with pytest.raises(EvidenceError, match=f"the snapshot of feed {feed.name} is not there"):
            await fetched(home, tmp_path / str(number), manifest=manifest)
        path.write_bytes(good[:-1] + b"]")
        with pytest.raises(DigestError):
            await fetched(home, tmp_path / f"{number}-changed", manifest=manifest)
        path.write_bytes(good)
