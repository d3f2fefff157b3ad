"""What goes into a published pack and what does not, which packs there are, and that nobody fails where one cannot be made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.pack import HEAD_BYTES, Pack, frame_length, parse_head
from coldchain.published_packs import KEPT, LIFE, SEARCHED, is_stale, pack_path, snapshot_of
from coldchain.tlog.checkpoint import parse_checkpoint
from coldchain.tlog.merkle import check_consistency, leaf_hash
from coldchain.tlog.proof import parse_proof
from tests.client.agent.publisher import FIRST, SECOND, THIRD, Publisher
from tests.client.tlog.memory_log import MemoryLog

CREATED = datetime(2026, 6, 1, 9, tzinfo=UTC)
RELEASES = [FIRST, SECOND, THIRD]


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(tmp_path / "publisher", log=MemoryLog(), packs=True)
    for number, content in enumerate(RELEASES, 1):
        made.publish(number, content)
    return made


def head(publisher: Publisher, installed: int, region: str = "us") -> Pack:
    snapshot = publisher.repository.documents["snapshot"]["version"]
    data = publisher.files[pack_path(region, "stable", snapshot, installed)]
    pack = head_of(data)
    assert len(data) == pack.start + pack.length
    return pack


def head_of(data: bytes) -> Pack:
    frame = data[HEAD_BYTES : HEAD_BYTES + frame_length(data[:HEAD_BYTES])]
    return parse_head(data[:HEAD_BYTES], frame, whole=False)


def kinds(pack: Pack) -> list[str]:
    return [path.split("/")[0] if "metadata/" not in path else path.split(".")[1] for path in pack.parts]


def test_there_is_one_for_every_release_that_a_delta_leads_from_and_for_the_newest(publisher: Publisher) -> None:
    snapshot = publisher.repository.documents["snapshot"]["version"]
    made = publisher.made()
    assert [one.path for one in made.made] == [
        pack_path(region, "stable", snapshot, number) for region in ("us", "jp") for number in (3, 2, 1)
    ]
    assert made.left_out == []
    assert publisher.made() == made, "the same files give the same packs"
    for region in ("us", "jp"):
        assert kinds(head(publisher, 2, region)) == ["snapshot", region, "rollout", "targets"]
        assert kinds(head(publisher, 1, region)) == ["snapshot", region, "rollout", "targets", "log", "manifests"]
        assert kinds(head(publisher, 3, region)) == ["snapshot", region, "rollout"]
        assert head(publisher, 3, region).content == ""
        for number in (1, 2):
            assert head(publisher, number, region).content == publisher.target(f"from-{number}.ccd", region)


@pytest.mark.parametrize("others", [0, 1, 5])
def test_the_proof_is_there_when_the_evidence_does_not_hold_it(tmp_path: Path, others: int) -> None:
    log = MemoryLog()
    publisher = Publisher(tmp_path, log=log, packs=True)
    publisher.publish(1, FIRST)
    before = log.head
    log.append(*(b"another entry %d" % number for number in range(others)))
    publisher.publish(2, SECOND)
    new = parse_checkpoint(parse_proof(publisher.proof()).checkpoint.text)
    found = {path: data for path, data in head(publisher, 1).parts.items() if path.startswith("log/")}
    if not others:
        assert found == {}
        return
    ((path, data),) = found.items()
    assert path == f"log/consistency/{before.size}-{new.size}"
    hashes = [data[at : at + 32] for at in range(0, len(data), 32)]
    check_consistency(hashes, before.size, before.root, new.size, new.root)


def test_releases_far_back_in_the_log_come_without_a_proof(tmp_path: Path) -> None:
    log = MemoryLog()
    publisher = Publisher(tmp_path, log=log, packs=True)
    publisher.publish(1, FIRST)
    log.append(*(b"%d" % number for number in range(256 * (SEARCHED + 1))))
    publisher.publish(2, SECOND)
    assert kinds(head(publisher, 1)) == ["snapshot", "us", "rollout", "targets"]


@pytest.mark.parametrize("seconds", [-1, 0, 1])
def test_roots_and_targets_are_in_it_when_they_were_signed_after_the_release(
    publisher: Publisher, seconds: int
) -> None:
    """By their expiry; a root that is in it brings those after it along, and none before."""
    moment = CREATED + LIFE + timedelta(seconds=seconds)
    documents = publisher.repository.documents
    for name in ("root", "root", "targets"):
        documents[name]["expires"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        if name == "root":
            publisher.repository.publish_root()
    publisher.republish("targets")
    late = ["root", "root"] if seconds > 0 else []
    expected = [*late, "snapshot", *(["targets"] if seconds > 0 else []), "us", "rollout"]
    assert kinds(head(publisher, 3)) == expected
    if late:
        assert list(head(publisher, 3).parts)[:2] == ["metadata/2.root.json", "metadata/3.root.json"]


def test_what_cannot_be_made_is_left_out_and_told(publisher: Publisher) -> None:
    files = dict(publisher.files)
    evidence = publisher.target("evidence.zst", "us")
    del publisher.files[evidence]
    made = publisher.made()
    assert {one.path.split("/")[1] for one in made.made} == {"jp"}
    assert len(made.left_out) == 1
    assert "us stable" in made.left_out[0]
    publisher.files.update(files)
    for path in [path for path in publisher.files if path.startswith("manifests/")]:
        del publisher.files[path]
    assert [one.path.rpartition("-")[2] for one in publisher.made().made] == ["3.pack", "3.pack"]
    publisher.files.update(files)
    for path in [path for path in publisher.files if "/tile/" in path]:
        del publisher.files[path]
    made = publisher.made()
    assert len(made.made) == 6
    assert all("tile" in one for one in made.left_out)
    assert not any("log" in kinds(head_of(one.head)) for one in made.made)


def test_the_chain_is_not_followed_into_another_story(publisher: Publisher) -> None:
    manifest = publisher.manifest()
    previous = next(
        path
        for path in publisher.files
        if path.startswith("manifests/") and path.split("/")[1][:64] in manifest.decode()
    )
    publisher.files[previous] = manifest
    assert [one.path.rpartition("-")[2] for one in publisher.made().made] == ["3.pack", "3.pack"]
    assert leaf_hash(manifest)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_which_packs_are_stale(one: int, newest: int) -> None:
    path = pack_path("us", "stable", one, 41)
    assert snapshot_of(path) == one
    assert is_stale(path, newest) is (one > newest or newest - one >= KEPT)


@pytest.mark.parametrize(
    "path",
    [
        "packs/us/stable/latest.pack",
        "packs/us/stable/latest.from-41.pack",
        "packs/us/stable/07.from-1.pack",
        "packs/7.from-1.pack",
        "x",
    ],
)
def test_other_packs_are_never_stale(path: str) -> None:
    assert snapshot_of(path) == 0
    assert not is_stale(path, 9)
