"""A release comes out the same from nothing but what is published; whatever was done to it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

import coldchain
from coldchain.attestation import GLOBAL, open_rebuild
from coldchain.errors import (
    DigestError,
    EvidenceError,
    LintError,
    NotPublishedError,
    RebuildError,
    TransportError,
    UsageError,
    VerificationError,
)
from coldchain.keys import PublicKey
from coldchain_server.assembly.again import assemble_again, assemble_all, regions_of
from coldchain_server.assembly.provenance import source_digest
from coldchain_server.assembly.regions import PolicyEntry
from coldchain_server.feeds.snapshots import parse_snapshot
from coldchain_server.home import Home
from coldchain_server.log.public_log import PublicLog
from coldchain_server.rebuild import rebuild as module
from coldchain_server.rebuild.rebuild import Order, Rebuilding, rebuild
from coldchain_server.release.build import discard
from coldchain_server.signing.log_policy import log_signer, policy_of
from coldchain_server.signing.roles import load_state
from coldchain_server.web.origin import running
from tests.client.tlog.logs import LOG, witness
from tests.client.tuf.repository import NOW
from tests.server import origins
from tests.server.rebuild import worlds

SIGNER = SigningKey(bytes([9]) * 32)
KEY = PublicKey(bytes(SIGNER.verify_key))


async def rebuilt(home: Home, number: int = 2, **more: Any) -> Rebuilding:
    return await rebuild(Order(str(home.public), number, root=home.pinned_root(), **more), NOW)


def all_the_same(found: Rebuilding, names: Sequence[str] = worlds.NAMES) -> None:
    assert found.error is None
    assert [row.region for row in found.rows] == [GLOBAL, *names]
    assert all(row.published == row.rebuilt and not row.differs for row in found.rows)
    assert found.feeds == ()
    assert found.same_assembler


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_every_region_comes_out_bit_for_bit(home: Home, number: int) -> None:
    """Published or only logged; with policies of every sort, and bad lines that were left out."""
    found = await rebuilt(home, number)
    all_the_same(found)
    assert found.manifest.release == number
    assert len({row.rebuilt for row in found.rows}) == 5, "every bundle is another one, so equality says something"
    skipped = {feed.name: dict(feed.skipped) for feed in found.manifest.feeds}
    assert skipped["acme"] == {"bad-hash": 1, "magic-only": 1}
    assert not skipped["lists"]
    policies = {
        name: [(one.kind, one.records) for one in facts.policy] for name, facts in found.manifest.regions.items()
    }
    assert policies == {
        "us": [],
        "eu": [("feed", 2)],
        "jp": [("signature", 1), ("signature", 1)],
        "kr": [("feed", 2)],
    }
    assert found.as_json()["rebuilt"] is True


async def test_over_a_real_origin_and_without_a_pinned_root(home: Home) -> None:
    async with running(home.storage) as origin:
        all_the_same(await rebuild(Order(origin.url, 2), NOW))


async def test_only_what_is_published_is_used(home: Home) -> None:
    published = home.directory / "elsewhere"
    home.public.rename(published)
    for other in list(home.directory.iterdir()):
        if other != published:
            other.rename(home.directory.parent / f"gone-{other.name}")
    all_the_same(await rebuild(Order(str(published), 2), NOW))


async def test_some_regions(home: Home) -> None:
    for names in (["jp"], ["us", "kr"], ["kr", "kr"]):
        all_the_same(await rebuilt(home, regions=names), sorted(set(names)))
    with pytest.raises(UsageError, match="has no region 'row'"):
        await rebuilt(home, regions=["row"])


async def test_a_release_that_the_log_does_not_hold(home: Home) -> None:
    for number, channel in ((4, "stable"), (99, "stable"), (1, "early")):
        with pytest.raises(NotPublishedError, match=f"no release {number} of coldchain {channel}"):
            await rebuilt(home, number, channel=channel)
    with pytest.raises(NotPublishedError):
        await rebuilt(home, 1, product="other")


# What the log says


async def test_a_policy_of_ones_own_counts(home: Home) -> None:
    log = policy_of(await load_state(home.storage)).logs[0].vkey
    good = f"log {log}\nquorum none\n".encode()
    all_the_same(await rebuilt(home, policy=good))
    one = witness(77)
    with pytest.raises(EvidenceError, match="no quorum of witnesses"):
        await rebuilt(home, policy=f"log {log}\nwitness w {one.vkey}\nquorum w\n".encode())
    with pytest.raises(EvidenceError, match="not a log that is known here"):
        await rebuilt(home, policy=f"log {LOG.vkey}\nquorum none\n".encode())
    with pytest.raises(UsageError):
        await rebuilt(home, policy=b"nonsense\n")


async def test_another_root_than_the_publishers(home: Home) -> None:
    with pytest.raises(UsageError, match="not a good root"):
        await rebuild(Order(str(home.public), 2, root=b"{}"), NOW)


async def test_two_manifests_of_one_number_are_refused(home: Home) -> None:
    first = (await rebuilt(home, 3)).manifest
    for number, special in ((3, replace(first, created="2026-06-01T12:00:01Z")),):
        log = PublicLog(home.storage, policy_of(await load_state(home.storage)).log_keys[0])
        await log.append([special.encode()], log_signer(origins.keyring(home), log.key))
        with pytest.raises(EvidenceError, match="two manifests of release 3"):
            await rebuilt(home, number)
    all_the_same(await rebuilt(home, 2))


async def test_entries_that_are_no_manifest_are_passed_over(home: Home) -> None:
    log = PublicLog(home.storage, policy_of(await load_state(home.storage)).log_keys[0])
    await log.append([b"", b"{}", b"anything"] * 100, log_signer(origins.keyring(home), log.key))
    all_the_same(await rebuilt(home))


# What is fetched


def flip(data: bytes) -> bytes:
    return data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "flipped": flip,
    "longer": lambda data: data + b"x",
    "shorter": lambda data: data[:-1],
    "gone": lambda _: None,
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_every_file_that_a_rebuild_reads_is_checked(home: Home, damage: str) -> None:
    snapshots = [feed.snapshot for feed in (await rebuilt(home)).manifest.feeds]
    files = [path for path in sorted((home.public / "snapshots").iterdir()) if path.name in _read_by(home, snapshots)]
    assert len(files) == 7
    log = [path for path in sorted((home.public / "log").rglob("*")) if path.is_file() and _newest(path)]
    assert len(log) == 3, "checkpoint, hashes, entries"
    for path in [*files, *log]:
        good = path.read_bytes()
        bad = DAMAGE[damage](good)
        path.unlink()
        if bad is not None:
            path.write_bytes(bad)
        with pytest.raises((VerificationError, EvidenceError, TransportError)) as refused:
            await rebuilt(home)
        assert refused.value.exit_code in (12, 16, 20, 22)
        path.write_bytes(good)
    all_the_same(await rebuilt(home))


def _read_by(home: Home, snapshots: Sequence[str]) -> set[str]:
    parsed = [parse_snapshot((home.public / "snapshots" / name).read_bytes()) for name in snapshots]
    return {*snapshots, *(file.sha256 for one in parsed for file in one.files)}


def _newest(path: Path) -> bool:
    return path.name in ("checkpoint", "3")


async def test_a_snapshot_in_place_of_another_is_refused(home: Home) -> None:
    one, two, *_ = (feed.snapshot for feed in (await rebuilt(home)).manifest.feeds)
    folder = home.public / "snapshots"
    (folder / one).unlink()
    (folder / one).write_bytes((folder / two).read_bytes())
    with pytest.raises(DigestError, match="not the one that the manifest names"):
        await rebuilt(home)


# An origin that logs what does not follow from its sources


async def coerced(home: Home, monkeypatch: pytest.MonkeyPatch) -> int:
    """Release 3 is given up; 4 lacks a signature in one region, and says nothing of it."""
    entry = PolicyEntry("leave-out", "signature", "Win.Trojan.Agent-9-0", "nobody is to know")

    def special(content: Any, regions: Any, *rest: Any, **more: Any) -> Any:
        made = assemble_all(content, regions, *rest, **more)
        us = replace(regions.regions["us"], policy=(entry,))
        quiet = assemble_all(content, replace(regions, regions={**regions.regions, "us": us}), *rest, **more)["us"]
        assert quiet.description != made["us"].description
        return {**made, "us": replace(quiet, applied=())}

    async with home.catalogue() as catalogue:
        await discard(home, catalogue, "stable", 3, now=NOW)
    with monkeypatch.context() as patched:
        patched.setattr("coldchain_server.release.build.assemble_all", special)
        built = await origins.only_build(home, None)
    await origins.log_built(home, built.number)
    return built.number


async def test_a_region_that_is_served_something_else_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    number = await coerced(home, monkeypatch)
    found = await rebuilt(home, number)
    assert isinstance(found.error, RebuildError)
    assert found.error.exit_code == 52
    assert "1 of 5 bundles differ: us" in found.error.what
    assert {row.region for row in found.rows if row.differs} == {"us"}
    (row,) = [row for row in found.rows if row.differs]
    assert row.published == found.manifest.regions["us"].facts.bundle != row.rebuilt
    with pytest.raises(RebuildError):
        found.attestation(KEY, lambda message: SIGNER.sign(message).signature, NOW)
    assert found.as_json()["rebuilt"] is False
    all_the_same(await rebuilt(home, number, regions=["jp"]), ["jp"])


async def test_another_assembler_is_said_first(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    number = await coerced(home, monkeypatch)
    monkeypatch.setattr(module, "source_digest", lambda: "5c" * 32)
    error = (await rebuilt(home, number)).error
    assert error is not None
    assert error.what.startswith("another assembler is at work here")
    assert "5c5c5c5c5c5c5c5c…" in error.what
    assert source_digest()[:16] in error.what
    assert "bundles differ: us" in error.what
    # by itself it is no reason to doubt what came out the same
    found = await rebuilt(home, 2)
    assert found.error is None
    assert not found.same_assembler


async def test_sources_that_this_assembler_refuses(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object) -> None:
        raise LintError("feed 'acme' has 1 errors")

    monkeypatch.setattr(module, "assemble_again", refusing)
    found = await rebuilt(home)
    assert isinstance(found.error, RebuildError)
    assert "makes nothing of its snapshots: feed 'acme' has 1 errors" in found.error.what


async def test_everything_a_manifest_says_of_its_bundles_is_compared(home: Home) -> None:
    """Manifests that differ in one number, as if the log held them."""
    found = await rebuilt(home)
    stated = found.manifest
    again = assemble_again(stated, regions_of(stated), home.content)
    jp = stated.regions["jp"]
    whole = stated.whole
    wrong: list[tuple[str, Any]] = [
        ("jp", {"regions": {**stated.regions, "jp": replace(jp, facts=replace(jp.facts, bytes=1))}}),
        ("jp", {"regions": {**stated.regions, "jp": replace(jp, facts=replace(jp.facts, records=1))}}),
        ("jp", {"regions": {**stated.regions, "jp": replace(jp, facts=replace(jp.facts, bundle="5c" * 32))}}),
        (
            "jp",
            {"regions": {**stated.regions, "jp": replace(jp, policy=(replace(jp.policy[0], records=2), jp.policy[1]))}},
        ),
        (GLOBAL, {"whole": replace(whole, bundle="5c" * 32)}),
        (GLOBAL, {"whole": replace(whole, records=1)}),
        ("", {"feeds": (replace(stated.feeds[0], records=1), *stated.feeds[1:])}),
        ("", {"feeds": (replace(stated.feeds[0], skipped={"bad-hash": 7}), *stated.feeds[1:])}),
        ("", {"feeds": stated.feeds[1:]}),
    ]
    for region, change in wrong:
        logged = replace(found.logged, manifest=replace(stated, **change))
        compared = module.compare(logged, again, worlds.NAMES)
        assert compared.error is not None
        assert [row.region for row in compared.rows if row.differs] == ([region] if region else [])
        assert bool(compared.feeds) is (not region)
    all_the_same(module.compare(found.logged, again, worlds.NAMES))


# What is signed


async def test_the_attestation_names_exactly_what_was_rebuilt(home: Home) -> None:
    for names in ([], ["jp"], ["us", "kr"]):
        found = await rebuilt(home, regions=names)
        data = found.attestation(KEY, lambda message: SIGNER.sign(message).signature, NOW).encode()
        stated = open_rebuild(data, KEY)
        stated.check(found.manifest)
        assert set(stated.bundles) == {GLOBAL, *(names or worlds.NAMES)}
        assert (stated.assembler, stated.source) == (coldchain.__version__, source_digest())
        assert stated.rebuilt == "2026-06-01T12:00:00Z"
