"""What goes out, in which order, what is refused, what is pruned, and what is mended after a crash."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from coldchain import canonical
from coldchain.errors import ApprovalError, ColdchainError, StateError, StorageError, VerificationError
from coldchain.verify import region_release
from coldchain_server.catalogue.sqlite import SqliteCatalogue
from coldchain_server.home import Home
from coldchain_server.release import publish as publish_room
from coldchain_server.release.build import discard
from coldchain_server.release.drafts import Draft
from coldchain_server.signing.roles import check_as_client, load_state
from coldchain_server.storage.directory import DirectoryStorage
from tests.client.agent.publisher import hashes
from tests.client.tuf.repository import NOW
from tests.server import origins


def tree(home: Home) -> dict[str, bytes]:
    return {str(path.relative_to(home.public)): path.read_bytes() for path in home.public.rglob("*") if path.is_file()}


def targets(home: Home) -> set[str]:
    return {path for path in tree(home) if path.startswith("targets/")}


async def test_files_go_out_in_the_order_readers_need(approved_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    real = DirectoryStorage.put

    async def put(self: DirectoryStorage, path: str, data: bytes | Path, *, replace: bool = False) -> None:
        await real(self, path, data, replace=replace)
        written.append(path)
        assert origins.read_all(approved_home) == (2 if path == "metadata/timestamp.json" else 1)

    joined = DirectoryStorage.put_joined

    async def put_joined(
        self: DirectoryStorage, path: str, head: bytes, content: str, *, replace: bool = False
    ) -> None:
        await joined(self, path, head, content, replace=replace)
        written.append(path)
        assert origins.read_all(approved_home) == 1

    monkeypatch.setattr(DirectoryStorage, "put", put)
    monkeypatch.setattr(DirectoryStorage, "put_joined", put_joined)
    await origins.publish_release(approved_home, 2)
    kinds = [path.split("/")[0] if not path.startswith("metadata/") else path.split(".")[-2] for path in written]
    order = ["targets", "snapshots", "packs", "jp", "us", "rollout", "snapshot", "metadata/timestamp"]
    assert sorted(kinds, key=order.index) == kinds
    assert set(kinds) == set(order)


async def test_published_files_never_change(published_home: Home) -> None:
    before = tree(published_home)
    await origins.release(published_home, origins.SECOND)
    after = tree(published_home)
    assert {path for path in before if after.get(path) != before[path]} == {
        "metadata/timestamp.json",
        "log/checkpoint",
    }


FILES = (
    "manifest.json",
    "evidence.zst",
    "targets/us/full.ccd",
    "targets/us/from-1.ccd",
    "targets/jp/full.ccd",
    "targets/jp/from-1.ccd",
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", ["flip", "cut", "gone"])
async def test_nothing_is_published_under_a_digest_it_does_not_have(
    approved_home: Home, name: str, change: str
) -> None:
    """A draft that was damaged after its approval: the name could never be given to the right bytes again."""
    home = approved_home
    file = home.draft("stable", 2) / name
    good = file.read_bytes()
    if change == "gone":
        file.unlink()
    else:
        file.write_bytes(good[:-1] if change == "cut" else bytes([good[0] ^ 1]) + good[1:])
    with pytest.raises((StorageError, ApprovalError, StateError)) as caught:
        await origins.publish_release(home, 2)
    assert caught.value.kept
    assert origins.read_all(home) == 1
    for path, data in tree(home).items():
        if path.startswith("targets/"):
            assert hashlib.sha256(data).hexdigest() == path.split("/")[-1].split(".")[0]
    file.write_bytes(good)
    await origins.publish_release(home, 2)
    assert origins.read_all(home) == 2


@pytest.mark.parametrize("change", ["signature gone", "signature flipped", "content", "other draft", "garbage", "gone"])
async def test_a_role_changed_after_its_approval_is_not_published(approved_home: Home, change: str) -> None:
    home = approved_home
    draft = Draft(home.draft("stable", 2))
    file = draft.roles / "us.json"
    document: dict[str, Any] = json.loads(draft.role("us"))
    if change == "signature gone":
        del document["signatures"][0]
    elif change == "signature flipped":
        sig = document["signatures"][0]["sig"]
        document["signatures"][0]["sig"] = ("0" if sig[0] != "0" else "1") + sig[1:]
    elif change == "content":
        document["signed"]["targets"]["us/stable/full.ccd"]["length"] += 1
    elif change == "other draft":
        document["signed"]["coldchain"]["channels"]["stable"]["manifest"] = "0" * 64
    file.write_bytes(b"{" if change == "garbage" else canonical.encode(document))
    if change == "gone":
        file.unlink()
    before = tree(home)["metadata/timestamp.json"]
    with pytest.raises((VerificationError, ApprovalError, StateError, StorageError)):
        await origins.publish_release(home, 2)
    assert tree(home)["metadata/timestamp.json"] == before
    assert origins.read_all(home) == 1
    assert (await origins.states(home))[2] == "approved"


async def test_an_approved_draft_that_was_given_up_is_not_smuggled_in(approved_home: Home) -> None:
    """Its roles are well signed and of the right version; they speak of another release."""
    home = approved_home
    kept = home.directory.parent / "kept"
    shutil.copytree(home.draft("stable", 2), kept)
    async with home.catalogue() as catalogue:
        await discard(home, catalogue, "stable", 2, now=NOW)
    await origins.build_release(home, origins.THIRD)
    await origins.approve_release(home, 3)
    draft = home.draft("stable", 3)
    for folder in ("roles", "targets"):
        shutil.rmtree(draft / folder)
        shutil.copytree(kept / folder, draft / folder)
    with pytest.raises(ApprovalError, match="not about release 3"):
        await origins.publish_release(home, 3)
    shutil.copy(kept / "manifest.json", draft)
    with pytest.raises(ApprovalError, match="not the one that was built"):
        await origins.publish_release(home, 3)
    assert origins.read_all(home) == 1


async def test_damaged_content_is_not_published(approved_home: Home) -> None:
    home = approved_home
    manifest = json.loads((home.draft("stable", 2) / "manifest.json").read_bytes())
    snapshot = home.content(manifest["feeds"][0]["snapshot"])
    file = json.loads(snapshot.read_bytes())["files"][0]["sha256"]
    home.content(file).write_bytes(b"damaged")
    with pytest.raises(StorageError, match="was changed"):
        await origins.publish_release(home, 2)
    assert origins.read_all(home) == 1


async def test_a_published_file_that_the_disk_damaged_is_mended(approved_home: Home) -> None:
    """Feeds' files go out with every release that holds them; under its digest only the right bytes may stand."""
    home = approved_home
    snapshots = sorted((home.public / "snapshots").iterdir())
    for file in snapshots:
        file.write_bytes(b"")
    await origins.publish_release(home, 2)
    named = {feed.snapshot for feed in origins.read(home, "us").manifest.feeds}
    good = {file.name for file in snapshots if hashlib.sha256(file.read_bytes()).hexdigest() == file.name}
    assert hashes_of(home.content.get(next(iter(named)))) <= {
        path.name for path in (home.public / "snapshots").iterdir()
    }
    assert hashlib.sha256(origins.FIRST["main.hsb"]).hexdigest() in good, "it stands in both releases"
    assert hashes_of(home.content.get(next(iter(named)))) <= good


def hashes_of(snapshot: bytes) -> set[str]:
    return {file["sha256"] for file in json.loads(snapshot)["files"]}


# -- pruning ----------------------------------------------------------------------------------------------------------


async def test_an_update_in_progress_finds_its_files(published_home: Home) -> None:
    """keep_generations is 2 here: what a client read of release N can be fetched until N + 3 is out."""
    home = published_home
    asked: dict[int, list[str]] = {}
    contents = [origins.FIRST | {"daily.hsb": hashes(*range(n, 60 + n))} for n in range(7)]
    for number in range(1, 7):
        if number > 1:
            assert await origins.release(home, contents[number]) == number
        trusted = await check_as_client(home.storage, {}, ["us"], NOW)
        found = region_release(trusted.role("us"), "us", "stable")
        asked[number] = [one.url_path for one in (found.evidence, found.full, *found.deltas.values())]
        there = targets(home)
        for old, paths in asked.items():
            if old >= number - 2:
                assert set(paths) <= there, f"release {old} is needed while {number} is the newest"
            else:
                assert not set(paths) & there, f"release {old} is pruned when {number} is out"
    assert origins.read_all(home) == 6


async def test_the_other_channel_and_renewals_take_nobodys_time_away(published_home: Home) -> None:
    home = published_home
    trusted = await check_as_client(home.storage, {}, ["us"], NOW)
    old = region_release(trusted.role("us"), "us", "stable")
    assert await origins.release(home, origins.SECOND) == 2
    for number in range(1, 6):  # many versions of the same role
        files = origins.FIRST | {"daily.hsb": hashes(*range(number, 60 + number))}
        assert await origins.release(home, files, channel="early") == number
    assert old.full.url_path in targets(home)
    early = {path for path in targets(home) if path.startswith("targets/us/early/") and path.endswith("full.ccd")}
    assert len(early) == 3


async def test_what_a_crash_left_is_pruned_by_the_next_publish(approved_home: Home) -> None:
    left = "targets/us/stable/" + "0" * 64 + ".full.ccd"
    await approved_home.storage.put(left, b"from a publish that died and was discarded")
    hidden = approved_home.public / "metadata" / ".9.us.json.0123456789abcdef"
    hidden.write_bytes(b"half")
    await origins.publish_release(approved_home, 2)
    assert left not in targets(approved_home)
    assert not hidden.exists()


async def test_a_file_that_cannot_be_deleted_does_not_fail_a_publish(
    approved_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = "targets/us/stable/" + "0" * 64 + ".full.ccd"
    await approved_home.storage.put(left, b"x")

    async def refuse(self: DirectoryStorage, path: str) -> None:
        raise StorageError(f"{path}: busy")

    monkeypatch.setattr(DirectoryStorage, "delete", refuse)
    await origins.publish_release(approved_home, 2)
    assert origins.read_all(approved_home) == 2


# -- after a crash ----------------------------------------------------------------------------------------------------


async def _died_before_the_row(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    async def die(*_: object) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(publish_room, "_finish", die)
        with pytest.raises(InterruptedError):
            await origins.publish_release(home, 2)


@pytest.mark.parametrize("step", ["publish", "build", "approve"])
async def test_a_release_that_is_out_is_told_so_by_the_next_step(
    approved_home: Home, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = approved_home
    await _died_before_the_row(home, monkeypatch)
    assert origins.read_all(home) == 2
    assert (await origins.states(home))[2] == "approved"
    if step == "build":
        await origins.build_release(home, origins.THIRD)
    else:
        with pytest.raises(StateError, match="release 2 of stable is published"):
            await (origins.publish_release if step == "publish" else origins.approve_release)(home, 2)
    assert (await origins.states(home))[2] == "published"
    assert not home.draft("stable", 2).exists()
    assert (home.changes / "stable" / "us" / "1-2.cch").is_file()


async def test_a_discard_of_what_is_out_is_refused(approved_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    await _died_before_the_row(approved_home, monkeypatch)
    async with approved_home.catalogue() as catalogue:
        with pytest.raises(StateError, match="is published"):
            await discard(approved_home, catalogue, "stable", 2, now=NOW)
    assert (await origins.states(approved_home))[2] == "published"


async def test_drafts_that_nobody_knows_are_swept(published_home: Home) -> None:
    stray = published_home.draft("stable", 99)
    stray.mkdir(parents=True)
    (stray / "manifest.json").write_bytes(b"{}")
    await origins.build_release(published_home, origins.SECOND)
    assert [path.name for path in published_home.drafts.iterdir()] == ["stable-2"]


async def test_change_lists_are_a_help_and_not_needed(approved_home: Home) -> None:
    """Gone, damaged, or in the way: the deltas are the same."""
    home = approved_home
    await origins.publish_release(home, 2)
    other = origins.copy(home, home.directory.parent / "other")
    (other.changes / "stable" / "us" / "1-2.cch").unlink()
    (other.changes / "stable" / "jp" / "1-2.cch").write_bytes(b"damaged")
    for one in (home, other):
        assert await origins.release(one, origins.THIRD) == 3
        assert origins.read_all(one) == 3
        assert set(origins.read(one, "us").release.deltas) == {1, 2}
    blocked = origins.copy(other, home.directory.parent / "blocked")
    shutil.rmtree(blocked.changes)
    blocked.changes.write_bytes(b"a file where the directory should be")
    assert await origins.release(blocked, origins.FIRST) == 4
    assert origins.read_all(blocked) == 4


async def test_the_catalogue_is_no_proof_of_approval(published_home: Home) -> None:
    """Who can write the database can call a draft approved; the signatures are still missing."""
    home = published_home
    await origins.build_release(home, origins.SECOND)
    catalogue = await SqliteCatalogue.open(home.directory / "catalogue.sqlite")
    await catalogue.set_state("stable", 2, "approved", "2026-06-01T12:00:00Z")
    await catalogue.close()
    with pytest.raises(ColdchainError, match="signatures"):
        await origins.publish_release(home, 2)
    assert origins.read_all(home) == 1
    assert (await load_state(home.storage)).delegated["us"].signed.version == 2
