"""``coldchain compare`` over real sockets: real releases are explained, what a publisher with all keys slips into one is not."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from typing import Any

import pytest

from coldchain import cli
from coldchain.bundle.manifest import parse_manifest
from coldchain.errors import (
    DifferenceError,
    DigestError,
    EvidenceError,
    NotPublishedError,
    ResponseError,
    UsageError,
)
from coldchain.monitor.regions import Compared, CompareSettings, compare_regions
from coldchain.tlog.checkpoint import parse_checkpoint
from coldchain.tlog.proof import OfflineProof
from coldchain.tlog.vkey import Kind
from tests.client.monitor.watched import NOW, Watched
from tests.client.tlog.logs import Signer


async def compare(world: Watched, one: str = "us", other: str = "jp", **options: Any) -> Compared:
    given = {"root": world.home.pinned_root(), "now": lambda: NOW, **options}
    return await compare_regions(world.url, (one, other), CompareSettings(**given))


async def test_real_releases_differ_by_their_declared_policies_only(world: Watched) -> None:
    for one in ("us", "jp", "kr"):
        for other in {"us", "jp", "kr"} - {one}:
            found = await compare(world, one, other)
            assert found.error is None
            assert found.pinned
            policies = {"jp": "Win.Trojan.Agent-3-0", "kr": "Win.Trojan.Agent-1007-0"}
            names = {policies[region] for region in (one, other) if region in policies}
            assert {
                declared.policy.name: count for declared, count in found.comparison.explained.items()
            } == dict.fromkeys(names, 1)


async def test_earlier_releases_follow_from_the_chain_of_manifests(world: Watched) -> None:
    found = await compare(world, release=1)
    assert (found.manifest.release, found.error) == (1, None)
    with pytest.raises(NotPublishedError):
        await compare(world, release=3)
    newest = await world.manifest()
    path = world.public(f"manifests/{newest.previous}.json")
    data = path.read_bytes()
    path.write_bytes(replace(parse_manifest(data), created="2026-01-01T00:00:00Z").encode())
    with pytest.raises(EvidenceError):
        await compare(world, release=1)
    path.unlink()
    with pytest.raises(ResponseError):
        await compare(world, release=1)


async def test_what_was_never_declared_is_not_explained(world: Watched) -> None:
    manifest = await world.draft()
    jp = manifest.regions["jp"]
    undeclared = replace(manifest, regions={**manifest.regions, "jp": replace(jp, policy=())})
    await world.append(undeclared.encode())
    log = await world.log()
    note = await log.head()
    assert note is not None
    proof = OfflineProof(2, tuple(await log.inclusion(2, parse_checkpoint(note.text))), note).encode()
    for region in ("us", "jp"):
        await world.offer(region, undeclared, proof=proof)
    found = await compare(world)
    assert isinstance(found.error, DifferenceError)
    assert "Win.Trojan.Agent-3-0" in found.error.what
    assert found.as_json()["unexplained_count"] == 1


async def test_evidence_and_digests_come_first(world: Watched) -> None:
    third = Signer("wit.example/three", Kind.COSIGNATURE, 9)
    with pytest.raises(EvidenceError):
        await compare(world, policy=await world.own_policy("three", f"witness three {third.vkey}"))
    with pytest.raises(NotPublishedError):
        await compare(world, channel="early")
    with pytest.raises(UsageError):
        await compare(world, "us", "us")
    newest = await world.manifest()
    file = world.full(newest, "jp")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(DigestError):
        await compare(world)


async def test_two_manifests_for_one_release_are_a_difference(world: Watched) -> None:
    newest = replace(await world.manifest(), created="2026-01-01T00:00:00Z")
    await world.append(newest.encode())
    log = await world.log()
    note = await log.head()
    assert note is not None
    proof = OfflineProof(2, tuple(await log.inclusion(2, parse_checkpoint(note.text))), note).encode()
    await world.offer("jp", newest, proof=proof)
    with pytest.raises(DifferenceError, match="two manifests"):
        await compare(world)


async def test_an_unpinned_root_is_said_aloud(world: Watched) -> None:
    found = await compare(world, root=None)
    assert not found.pinned
    assert found.root == hashlib.sha256(world.home.pinned_root()).hexdigest()


def test_the_command_explains_and_ends_with_its_code(world: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    # a copy on a stick: the command runs an event loop of its own
    tree = world.folder / "tree"
    shutil.copytree(world.home.public, tree)
    root = world.folder / "root.json"
    root.write_bytes(world.home.pinned_root())
    assert cli.run(["compare", str(tree), "us", "jp", "--root", str(root)]) == 0
    text = capsys.readouterr().out
    assert "every difference is a declared one" in text
    assert "matches a printer driver sold only there" in text
    assert "NOT pinned" not in text
    assert cli.run(["compare", str(tree), "us", "kr", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["unexplained_count"], found["root_pinned"]) == (0, False)
    assert [one["name"] for one in found["explained"]] == ["Win.Trojan.Agent-1007-0"]
    for words, code in (
        (["compare", str(tree), "us", "xx"], 18),
        (["compare", str(tree), "us", "us"], 2),
        (["compare", str(tree), "us", "jp", "--release", "7"], 18),
        (["compare", str(tree / "nothing"), "us", "jp"], 20),
    ):
        assert cli.run(words) == code, words
    capsys.readouterr()
