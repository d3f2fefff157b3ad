"""Log, then sign: a release has its entry and its quorum before any role of it can be valid. Real witnesses on real sockets."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from coldchain.agent.outcome import Outcome
from coldchain.agent.update import Settings, update
from coldchain.bundle.evidence_file import encode_evidence
from coldchain.bundle.manifest import Manifest, parse_manifest
from coldchain.errors import ApprovalError, EvidenceError, KeyringError, StateError, UsageError
from coldchain.evidence import check_chain
from coldchain.install import trusted
from coldchain.install.directory import ROOT_POLICY, ClientDirectory, Config
from coldchain.limits import LIMITS
from coldchain.tlog.checkpoint import Checkpoint, check_extends, parse_checkpoint
from coldchain.tlog.note import parse_note
from coldchain.tlog.proof import parse_proof
from coldchain.tlog.tiles import ENTRIES, Tile, parse_bundle
from coldchain.verify import EVIDENCE, MANIFEST, PROOF
from coldchain_server.assembly.regions import GLOBAL
from coldchain_server.deltas import pack
from coldchain_server.deltas.changes import BundleChange
from coldchain_server.deltas.encode import encode_delta
from coldchain_server.home import Home
from coldchain_server.log.public_log import PublicLog
from coldchain_server.release.build import MOST_CHANGES, OTHERS, discard, fit_changes
from coldchain_server.release.bundle_files import load_description
from coldchain_server.release.drafts import Draft
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.log_policy import LOG_KEY
from coldchain_server.signing.roles import decode, load_state, sign
from coldchain_server.signing.rotation import ROTATABLE, renew_offline, rotate
from tests.client.tuf.repository import NOW
from tests.server import origins
from tests.server.witnesses import Team, policy_in, set_policy, team

CONTENTS = (origins.FIRST, origins.SECOND, origins.THIRD)


def content(number: int) -> dict[str, bytes]:
    return CONTENTS[number % 3]


def tree(home: Home) -> dict[str, bytes]:
    return {str(path.relative_to(home.public)): path.read_bytes() for path in home.public.rglob("*") if path.is_file()}


def signed_tree(home: Home) -> dict[str, bytes]:
    return {path: data for path, data in tree(home).items() if path.startswith("metadata/")}


async def log_of(home: Home) -> PublicLog:
    return PublicLog(home.storage, (await policy_in(home)).log_keys[0])


def entries(home: Home) -> list[bytes]:
    """All entries of a log of fewer than 256, those that wait for a quorum too."""
    size = max(published_size(home, "checkpoint"), published_size(home, "pending"))
    return parse_bundle((home.public / "log" / Tile(ENTRIES, 0, size).path).read_bytes(), size) if size else []


def published_size(home: Home, name: str = "checkpoint") -> int:
    file = home.public / "log" / name
    return parse_checkpoint(parse_note(file.read_bytes()).text).size if file.exists() else 0


def manifests(home: Home, channel: str = "stable") -> list[Manifest]:
    found = [parse_manifest(data) for data in entries(home)]
    return [one for one in found if one.channel == channel]


def endpoint(home: Home, path: Path, region: str = "us", channel: str = "stable") -> ClientDirectory:
    """What ``coldchain init`` makes: root version 1 is pinned, the root's policy counts."""
    directory = ClientDirectory(path)
    directory.make()
    pinned = home.pinned_root()
    trusted.pin(directory, pinned)
    digest = hashlib.sha256(pinned).hexdigest()
    directory.write_config(Config("coldchain", region, channel, digest, (str(home.public),), ROOT_POLICY))
    return directory


async def updated(directory: ClientDirectory) -> Outcome:
    return await update(directory, Settings(now=lambda: NOW))


async def discarded(home: Home, number: int, channel: str = "stable") -> bool:
    async with home.catalogue() as catalogue:
        return await discard(home, catalogue, channel, number, now=NOW)


async def state_of(home: Home, number: int) -> str:
    return (await origins.states(home))[number]


@pytest.fixture
async def witnesses(memory: Path) -> AsyncIterator[Team]:
    async with team(memory / "witnesses") as found:
        yield found


@pytest.fixture
def home(published_home: Home) -> Home:
    """Release 1 is published under a policy without witnesses."""
    return published_home


# -- the whole way ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[(0, ()), (1, ("oslo",)), (2, ("zurich", "tokyo", "oslo"))], ids=["none", "1 of 1", "2 of 3"])
async def watched(request: pytest.FixtureRequest, new_home: Home, witnesses: Team) -> tuple[Home, tuple[str, ...]]:
    need, names = request.param
    if need:
        await witnesses.join(new_home, need, names)
    return new_home, names


async def test_a_release_goes_from_the_log_to_its_endpoints(
    watched: tuple[Home, tuple[str, ...]], witnesses: Team, memory: Path
) -> None:
    home, names = watched
    key = (await log_of(home)).key
    followers = [endpoint(home, memory / f"endpoint-{region}", region) for region in ("us", "jp")]
    for number in (1, 2, 3):
        built = await origins.only_build(home, content(number))
        assert await state_of(home, number) == "built"
        assert len(entries(home)) == number - 1, "building does not log"
        assert not (Draft(home.draft("stable", number)).roles).exists(), "nothing to sign before the log has it"
        logged = await origins.log_built(home, number)
        assert (logged.origin, logged.index, logged.size) == ("coldchain-log", number - 1, number)
        assert set(logged.witnesses) == set(names)
        assert await state_of(home, number) == "logged"
        assert entries(home)[-1] == built.manifest.encode()
        assert (home.public / "manifests" / f"{built.manifest.digest}.json").read_bytes() == entries(home)[-1]
        for name in names:
            held = witnesses.held(name, key)
            assert held == await (await log_of(home)).checkpoint()
        for region in ("us", "jp"):
            role = decode(Draft(home.draft("stable", number)).role(region), region)
            assert list(role.signatures) == [origins.keyring(home).public("assembler").keyid], "one of two"
        assert await origins.approve_release(home, number) == ("approver-1", True)
        await origins.publish_release(home, number)
        for directory in followers:
            assert (await updated(directory)).release == number
    late = endpoint(home, memory / "late")
    assert (await updated(late)).release == 3


async def test_the_files_that_an_entry_names_are_there_before_the_entry(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who follows the log fetches what it names, though the release is not published yet."""
    await origins.only_build(home, origins.SECOND)
    real = PublicLog.append
    seen: list[Sequence[bytes]] = []

    async def append(
        log: PublicLog, data: Sequence[bytes], by: Callable[[bytes], bytes], *, pending: bool = False
    ) -> object:
        seen.append(data)
        manifest = parse_manifest(data[0])
        for region, facts in manifest.regions.items():
            assert facts.full is not None
            file = home.public / f"targets/{region}/stable/{facts.full.sha256}.full.ccd"
            found = file.read_bytes()
            assert (len(found), hashlib.sha256(found).hexdigest()) == (facts.full.bytes, facts.full.sha256)
        for feed in manifest.feeds:
            assert (home.public / "snapshots" / feed.snapshot).is_file()
        assert (home.public / f"manifests/{manifest.digest}.json").read_bytes() == data[0]
        return await real(log, data, by, pending=pending)

    monkeypatch.setattr(PublicLog, "append", append)
    await origins.log_built(home, 2)
    assert len(seen) == 1


async def test_the_full_facts_are_the_published_file(home: Home) -> None:
    await origins.release(home, origins.SECOND)
    for region in ("us", "jp"):
        read = origins.read(home, region)
        full = read.manifest.regions[region].full
        assert full is not None
        assert (full.bytes, full.sha256) == (read.release.full.length, read.release.full.sha256)
        assert parse_proof(origins.proof(home, region)).index == 1


# -- no quorum --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "away", [away for n in (2, 3) for away in itertools.combinations(("zurich", "tokyo", "oslo"), n)]
)
async def test_without_a_quorum_nothing_is_signed_and_a_retry_finds_the_same_entry(
    home: Home, witnesses: Team, away: tuple[str, ...]
) -> None:
    await witnesses.join(home, 2)
    await origins.only_build(home, origins.SECOND)
    before = signed_tree(home)
    await witnesses.stop(away)
    for _ in range(2):
        with pytest.raises(EvidenceError, match="no quorum of witnesses") as caught:
            await origins.log_built(home, 2)
        said = caught.value
        assert all(name in said.what for name in away), said.what
        assert not any(name in said.what for name in witnesses.names if name not in away), said.what
        assert said.kept == "the log holds the entry (1); nothing is signed or published"
        assert said.exit_code == 16
        assert await state_of(home, 2) == "built"
        assert len(entries(home)) == 2, "one entry, however often it is tried"
        assert published_size(home) == 1, "who follows the log never finds a checkpoint without its quorum"
        draft = Draft(home.draft("stable", 2))
        assert not draft.roles.exists()
        assert not (draft.directory / PROOF).exists()
        assert signed_tree(home) == before
        for step in (origins.approve_release, origins.publish_release):
            with pytest.raises((StateError, ApprovalError), match="log"):
                await step(home, 2)
    await witnesses.start(away[: len(away) - 1])
    logged = await origins.log_built(home, 2)
    assert (logged.index, logged.size, len(entries(home)), published_size(home)) == (1, 2, 2, 2)
    assert not (home.public / "log" / "pending").exists()
    assert set(logged.witnesses) == set(witnesses.names) - {away[-1]}
    await origins.approve_release(home, 2)
    await origins.publish_release(home, 2)
    assert origins.read_all(home) == 2


async def test_cosignatures_that_came_before_are_kept_for_the_retry(home: Home, witnesses: Team) -> None:
    """The quorum may come together from two tries: the witnesses need not be there at the same time."""
    await witnesses.join(home, 3)
    await origins.only_build(home, origins.SECOND)
    for there in witnesses.names:
        await witnesses.stop()
        await witnesses.start([there])
        if there != witnesses.names[-1]:
            with pytest.raises(EvidenceError):
                await origins.log_built(home, 2)
    assert set((await origins.log_built(home, 2)).witnesses) == set(witnesses.names)
    assert len(entries(home)) == 2


async def test_a_witness_that_does_not_know_the_log_is_named_with_what_to_do(home: Home, memory: Path) -> None:
    async with team(memory / "witnesses", "zurich") as strangers:
        await set_policy(home, strangers.lines(1))
        await origins.only_build(home, origins.SECOND)
        with pytest.raises(EvidenceError, match=r"zurich: it answers 404: .* must add the log's vkey"):
            await origins.log_built(home, 2)
        strangers.follow((await log_of(home)).key)
        assert (await origins.log_built(home, 2)).index == 1


# -- an old copy ------------------------------------------------------------------------------------------------------


async def refused_as_it_is(home: Home, match: str) -> None:
    before = tree(home)
    number = max(await origins.states(home))
    with pytest.raises(StateError, match=match) as caught:
        await origins.log_built(home, number)
    assert caught.value.kept == "nothing was signed; the tree is as it was"
    assert caught.value.todo
    assert tree(home) == before
    assert await state_of(home, number) == "built"


@pytest.mark.parametrize("only", ["zurich", "tokyo", "oslo"])
async def test_a_log_restored_from_an_old_backup_does_not_go_on(
    home: Home, witnesses: Team, memory: Path, only: str
) -> None:
    """It is enough that one witness can be seen."""
    await witnesses.join(home, 2)
    backup = origins.copy(home, memory / "backup")
    await origins.release(home, origins.SECOND)
    restored = origins.copy(backup, memory / "restored")
    await origins.only_build(restored, origins.THIRD)
    await witnesses.stop(name for name in witnesses.names if name != only)
    await refused_as_it_is(restored, f"witness {only} holds 2, signed by this log's own key: this is an old copy")
    # what the message says: the log's files from a newer copy
    shutil.rmtree(restored.public / "log")
    shutil.copytree(home.public / "log", restored.public / "log")
    await witnesses.start(name for name in witnesses.names if name != only)
    assert (await origins.log_built(restored, 2)).index == 2


async def test_a_copy_that_grew_another_way_does_not_go_on(home: Home, witnesses: Team, memory: Path) -> None:
    await witnesses.join(home, 2)
    other = origins.copy(home, memory / "other")
    await origins.only_build(other, origins.THIRD)
    await witnesses.stop()
    with pytest.raises(EvidenceError):
        await origins.log_built(other, 2)  # an entry that nobody saw
    await witnesses.start()
    await origins.release(home, origins.SECOND)
    await refused_as_it_is(other, "the log has forked")


# -- the chain of manifests -------------------------------------------------------------------------------------------


async def test_the_chain_has_no_gap_over_published_discarded_and_forgotten_releases(
    home: Home, witnesses: Team, memory: Path
) -> None:
    """Every fate a release can have, and what it means for its number and for the one after it."""
    await witnesses.join(home, 2)
    follower = endpoint(home, memory / "endpoint")
    await origins.release(home, origins.SECOND)  # 2 is published
    assert (await updated(follower)).release == 2
    await origins.only_build(home, content(0))
    assert await discarded(home, 3) is False  # 3 was never logged: forgotten
    assert 3 not in await origins.states(home)
    await origins.build_release(home, content(1))
    assert await discarded(home, 3) is True  # 3 again, logged and given up
    await origins.build_release(home, content(2))
    await origins.approve_release(home, 4)
    assert await discarded(home, 4) is True  # approved and given up
    await witnesses.stop()
    await origins.only_build(home, content(0))
    with pytest.raises(EvidenceError):
        await origins.log_built(home, 5)
    assert await discarded(home, 5) is True  # its entry is there, though nobody cosigned it yet
    await witnesses.start()
    assert await origins.release(home, content(1)) == 6
    states = await origins.states(home)
    assert [states[number] for number in range(1, 7)] == [
        *("published", "published", "discarded", "discarded", "discarded", "published")
    ]
    found = entries(home)
    assert [one.release for one in manifests(home)] == [1, 2, 3, 4, 5, 6]
    for newer, older in itertools.pairwise(reversed(range(6))):
        check_chain([found[newer]], found[older])
    check_chain(found[:0:-1], found[0])
    assert (await updated(follower)).release == 6, "the links between are published"
    assert not list(home.drafts.glob("*"))


async def test_a_forgotten_release_leaves_no_trace_in_the_log_or_the_next_one(home: Home) -> None:
    first = manifests(home)[0]
    await origins.only_build(home, origins.SECOND)
    assert await discarded(home, 2) is False
    with pytest.raises(StateError):
        await discarded(home, 2)
    built = await origins.build_release(home, origins.THIRD)
    assert (built.number, built.manifest.previous) == (2, first.digest)
    assert [one.release for one in manifests(home)] == [1, 2]


async def test_after_a_lost_catalogue_the_signed_tree_still_names_the_release_before(home: Home) -> None:
    """A catalogue from an old backup: the number and the link come from what is published."""
    old = home.directory / "catalogue.sqlite"
    saved = old.read_bytes()
    await origins.release(home, origins.SECOND)
    second = manifests(home)[-1]
    for file in home.directory.glob("catalogue.sqlite*"):
        file.unlink()
    old.write_bytes(saved)
    built = await origins.build_release(home, origins.THIRD)
    assert (built.number, built.manifest.previous) == (3, second.digest)


async def test_two_channels_share_one_log(home: Home, memory: Path, witnesses: Team) -> None:
    await witnesses.join(home, 2)
    stable, early = endpoint(home, memory / "stable"), endpoint(home, memory / "early", channel="early")
    turns = ["stable", "early", "early", "stable", "early"]
    for turn, channel in enumerate(turns):
        await origins.release(home, content(len(entries(home))), channel)
        for directory in (stable, early) if turn else (stable,):
            await updated(directory)
    assert [one.release for one in manifests(home)] == [1, 2, 3]
    assert [one.release for one in manifests(home, "early")] == [1, 2, 3]
    assert [parse_manifest(one).channel for one in entries(home)] == ["stable", *turns]
    for channel in ("stable", "early"):
        chain = [one.encode() for one in manifests(home, channel)]
        assert parse_manifest(chain[0]).previous is None
        check_chain(chain[:0:-1], chain[0])
    assert (await updated(stable)).release == (await updated(early)).release == 3


# -- what approve and publish refuse ----------------------------------------------------------------------------------


async def dishonest_roles(home: Home, number: int) -> None:
    """The assembler signs roles that name evidence with whatever lies in the draft as the proof."""
    draft = Draft(home.draft("stable", number))
    data = encode_evidence(draft.read(draft.directory / MANIFEST), draft.read(draft.directory / PROOF))
    draft.write(draft.directory / EVIDENCE, data)
    for region in ("us", "jp"):
        role = decode(draft.role(region), region)
        target = role.signed.targets[f"{region}/stable/{EVIDENCE}"]
        target.length, target.hashes["sha256"] = len(data), hashlib.sha256(data).hexdigest()
        role.signatures.clear()
        sign(role, [origins.keyring(home).signer("assembler")])
        draft.put_role(region, role)


@pytest.mark.parametrize("resigned", [False, True], ids=["proof alone", "and the roles"])
async def test_approvers_refuse_every_bad_proof(home: Home, witnesses: Team, resigned: bool) -> None:
    await witnesses.join(home, 2)
    await origins.build_release(home, origins.SECOND)
    file = home.draft("stable", 2) / PROOF
    good = file.read_bytes()
    proof = parse_proof(good)
    note = proof.checkpoint
    first = origins.proof(home, "us")
    text_end = good.rindex(b"\n\n")
    bads = {
        "another manifest's": first,
        "of the entry before": replace(proof, index=0).encode(),
        "without cosignatures": replace(proof, checkpoint=replace(note, signatures=note.signatures[:1])).encode(),
        "one cosignature": replace(proof, checkpoint=replace(note, signatures=note.signatures[:2])).encode(),
        "without the log's signature": replace(
            proof, checkpoint=replace(note, signatures=note.signatures[1:])
        ).encode(),
        "without hashes": replace(proof, hashes=()).encode(),
        "empty": b"",
        "cut": good[:-2],
        **{f"byte {at}": good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :] for at in range(0, text_end, 29)},
    }
    for what, bad in bads.items():
        file.write_bytes(bad)
        if resigned:
            await dishonest_roles(home, 2)
        with pytest.raises(ApprovalError, match="the public log: ") as caught:
            await origins.approve_release(home, 2)
        assert caught.value.kept, what
        assert await state_of(home, 2) == "logged"
    file.unlink()
    with pytest.raises(StateError, match=f"no {PROOF}"):
        await origins.approve_release(home, 2)
    file.write_bytes(good)
    if resigned:
        await dishonest_roles(home, 2)
    assert await origins.approve_release(home, 2) == ("approver-1", True)


async def test_approvers_refuse_an_evidence_file_of_something_else(home: Home) -> None:
    """Manifest and proof in the draft are good, and customers would be given others."""
    await origins.build_release(home, origins.SECOND)
    draft = Draft(home.draft("stable", 2))
    manifest, proof = draft.read(draft.directory / MANIFEST), draft.read(draft.directory / PROOF)
    good = draft.read(draft.directory / EVIDENCE)
    newer = zstandard.ZstdCompressor().compress(b"coldchain-evidence-2\n" + manifest + b"\n" + proof)
    for bad in (
        encode_evidence(manifest, None),
        encode_evidence(manifest, origins.proof(home, "us")),
        encode_evidence(manifest[:-1], proof),
        good[:-1],
        newer,
        b"",
        good,
    ):
        draft.write(draft.directory / EVIDENCE, bad)
        for region in ("us", "jp"):
            role = decode(draft.role(region), region)
            target = role.signed.targets[f"{region}/stable/{EVIDENCE}"]
            target.length, target.hashes["sha256"] = len(bad), hashlib.sha256(bad).hexdigest()
            role.signatures.clear()
            sign(role, [origins.keyring(home).signer("assembler")])
            draft.put_role(region, role)
        if bad != good:
            with pytest.raises(ApprovalError, match="evidence"):
                await origins.approve_release(home, 2)
    assert await origins.approve_release(home, 2) == ("approver-1", True)


async def test_approvers_refuse_a_full_bundle_that_the_logged_manifest_does_not_name(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file of the very same bundle, in the draft and in the roles: it would be fetched, and nobody logged it."""
    built = await origins.build_release(home, origins.SECOND)
    draft = Draft(home.draft("stable", 2))
    file = draft.target("us", "full.ccd")
    good, out = file.read_bytes(), BytesIO()
    bundle = load_description(home.content, built.manifest.regions["us"].facts.bundle)
    monkeypatch.setattr(pack, "_candidates", lambda *_: [])  # nothing but plain columns and the text model
    encode_delta(BundleChange(None, bundle), home.content, out)
    assert out.getvalue() != good
    for data in (out.getvalue(), good):
        file.write_bytes(data)
        role = decode(draft.role("us"), "us")
        target = role.signed.targets["us/stable/full.ccd"]
        target.length, target.hashes["sha256"] = len(data), hashlib.sha256(data).hexdigest()
        role.signatures.clear()
        sign(role, [origins.keyring(home).signer("assembler")])
        draft.put_role("us", role)
        if data != good:
            with pytest.raises(
                ApprovalError, match="us: the full bundle's file is not the one that the logged manifest"
            ):
                await origins.approve_release(home, 2)
    assert await origins.approve_release(home, 2) == ("approver-1", True)


async def test_publishing_needs_the_log_before_the_approval(home: Home) -> None:
    await origins.only_build(home, origins.SECOND)
    before = signed_tree(home)
    with pytest.raises(ApprovalError, match="release 2 of stable is not logged") as caught:
        await origins.publish_release(home, 2)
    assert caught.value.todo == "coldchain-server release log 2"
    with pytest.raises(StateError, match="not in the public log yet"):
        await origins.approve_release(home, 2)
    await origins.log_built(home, 2)
    with pytest.raises(ApprovalError, match="release 2 of stable is not approved"):
        await origins.publish_release(home, 2)
    with pytest.raises(StateError, match="is logged already"):
        await origins.log_built(home, 2)
    assert signed_tree(home) == before
    with pytest.raises(StateError, match="not built"):
        await origins.log_built(home, 3)


async def test_a_policy_that_changed_after_the_approval_is_asked_again(home: Home, witnesses: Team) -> None:
    """Customers would refuse the release: it is not published."""
    await origins.build_release(home, origins.SECOND)
    await origins.approve_release(home, 2)
    await witnesses.join(home, 2)
    before = signed_tree(home)
    with pytest.raises(ApprovalError, match=r"the public log: .*no quorum of witnesses"):
        await origins.publish_release(home, 2)
    assert signed_tree(home) == before
    assert origins.read_all(home) == 1
    await discarded(home, 2)
    assert await origins.release(home, origins.SECOND) == 3


async def test_without_the_logs_key_nothing_is_logged(home: Home) -> None:
    await origins.only_build(home, origins.SECOND)
    key = home.keys / f"{LOG_KEY}.json"
    good = key.read_bytes()
    before = tree(home)
    for bad in (None, (home.keys / "timestamp.json").read_bytes()):
        key.unlink(missing_ok=True)
        if bad is not None:
            key.write_bytes(bad)
        with pytest.raises(KeyringError):
            await origins.log_built(home, 2)
        assert tree(home) == before
    key.write_bytes(good)
    assert (await origins.log_built(home, 2)).index == 1


# -- the manifest's size ----------------------------------------------------------------------------------------------


async def test_a_manifest_too_long_for_the_log_is_refused_with_words(home: Home) -> None:
    text = home.directory / "regions.toml"
    good = text.read_text()
    rows = "".join(
        f'\n[[regions.{region}.policy]]\naction = "leave-out"\nkind = "signature"\nname = "Win.Trojan.Agent-{number}-0"\n'
        f'reason = "{"because of a printer driver " * 16}{number}"\n'
        for region in ("us", "jp")
        for number in (*range(4, 60), *range(1000, 1050))
    )
    text.write_text(good + rows)
    before = tree(home)
    with pytest.raises(StateError, match=r"the manifest has [0-9,]+ bytes, and an entry .* holds 65,535") as caught:
        await origins.only_build(home, origins.SECOND)
    assert "shorten the reasons" in caught.value.todo
    assert tree(home) == before
    assert await origins.states(home) == {1: "published"}
    text.write_text(good)
    assert await origins.release(home, None) == 2


COUNTS = st.dictionaries(
    st.text("abcdefghijklmnop-.", min_size=1, max_size=6).map(lambda name: f"{name}.hsb"),
    st.tuples(st.integers(0, 50), st.integers(0, 50)),
    max_size=450,
)


@given(st.dictionaries(st.sampled_from([GLOBAL, "us", "jp"]), COUNTS))
def test_very_many_changes_are_summed_up(counts: dict[str, dict[str, tuple[int, int]]]) -> None:
    fitted = fit_changes(counts)
    assert set(fitted) == set(counts)
    for region, sections in counts.items():
        most = MOST_CHANGES if region == GLOBAL else MOST_CHANGES // 10
        kept = dict(fitted[region])
        others = kept.pop(OTHERS, None)
        assert len(kept) == min(len(sections), most)
        assert (others is not None) == (len(sections) > most)
        assert all(sections[name] == count for name, count in kept.items())
        for at in (0, 1):
            whole = sum(count[at] for count in sections.values())
            assert sum(count[at] for count in kept.values()) + (others[at] if others else 0) == whole
        rest = [sum(count) for name, count in sections.items() if name not in kept]
        assert max(rest, default=0) <= min((sum(count) for count in kept.values()), default=0) or not rest


async def test_a_release_of_very_many_changed_sections_fits_into_the_log(home: Home) -> None:
    files = {
        f"section-with-quite-a-long-name-{number:04}.hsb": (
            f"{hashlib.sha256(b'%d' % number).hexdigest()}:{1000 + number}:Win.Trojan.Many-{number}-0\n".encode()
        )
        for number in range(MOST_CHANGES + 60)
    }
    assert await origins.release(home, files) == 2
    data = entries(home)[-1]
    assert len(data) <= LIMITS.log_entry_bytes
    changes = parse_manifest(data).changes[GLOBAL]
    assert (changes[OTHERS], changes["acme-daily.hsb"], changes["acme-main.hsb"]) == ((62, 0), (0, 60), (0, 60))
    assert origins.read_all(home) == 2


# -- what stays -------------------------------------------------------------------------------------------------------


async def test_files_of_releases_that_were_logged_and_given_up_stay_for_a_while(home: Home) -> None:
    """As long as those of published ones (keep_generations = 2): who follows the log wants to see them."""
    built = await origins.build_release(home, origins.SECOND)
    paths = {region: facts.full.sha256 for region, facts in built.manifest.regions.items() if facts.full is not None}
    files = [home.public / f"targets/{region}/stable/{sha256}.full.ccd" for region, sha256 in paths.items()]
    assert len(files) == 2
    await discarded(home, 2)
    there = []
    for number in range(3, 7):
        assert await origins.release(home, content(number)) == number
        there.append([file.is_file() for file in files])
    assert there == [[True, True], [True, True], [False, False], [False, False]]
    every = {one.digest for one in manifests(home)}
    assert {path.stem for path in (home.public / "manifests").iterdir()} == every, "manifests stay for ever"


# -- keys and policies change -----------------------------------------------------------------------------------------


async def rotated(home: Home, role: str) -> None:
    async with home.catalogue() as catalogue, catalogue.publisher():
        state = await load_state(home.storage)
        await rotate(state, origins.keyring(home), home.storage, role, now=NOW, strength=DEMO)


async def test_rotations_keep_the_policy_and_the_log(home: Home, witnesses: Team, memory: Path) -> None:
    await witnesses.join(home, 2)
    policy = (await policy_in(home)).encode()
    follower, sleeper = endpoint(home, memory / "follower"), endpoint(home, memory / "sleeper")
    for number, role in enumerate(ROTATABLE, 2):
        await rotated(home, role)
        assert (await policy_in(home)).encode() == policy
        assert await origins.release(home, content(number)) == number
        assert (await updated(follower)).release == number
    assert (await updated(sleeper)).release == 1 + len(ROTATABLE)
    assert len(entries(home)) == 1 + len(ROTATABLE)


async def test_clients_follow_a_new_policy(home: Home, witnesses: Team, memory: Path) -> None:
    """From none to 1 of 1, to 2 of 3, and to another witness; an endpoint with an old root walks all of them."""
    follower, sleeper = endpoint(home, memory / "follower"), endpoint(home, memory / "sleeper")
    for directory in (follower, sleeper):
        assert (await updated(directory)).release == 1
    key = (await log_of(home)).key
    steps = [(1, ("zurich",)), (2, ("zurich", "tokyo", "oslo")), (1, ("oslo",))]
    for number, (need, names) in enumerate(steps, 2):
        assert await witnesses.join(home, need, names) == key, "the log stays the same one"
        assert (await updated(follower)).release == number - 1, "what is installed stays in order"
        assert await origins.release(home, content(number)) == number
        assert (await updated(follower)).release == number
    assert (await updated(sleeper)).release == 4
    assert (await updated(endpoint(home, memory / "late"))).release == 4


async def test_until_the_next_release_a_new_endpoint_judges_the_newest_by_the_new_policy(
    home: Home, witnesses: Team, memory: Path
) -> None:
    await witnesses.join(home, 2)
    new = endpoint(home, memory / "new")
    with pytest.raises(EvidenceError, match="no quorum of witnesses"):
        await updated(new)
    await origins.release(home, None)
    assert (await updated(new)).release == 2


async def test_a_policy_that_is_none_changes_nothing(home: Home, witnesses: Team) -> None:
    before = tree(home)
    log = (await policy_in(home)).logs[0].vkey
    for lines in (
        b"",
        b"quorum q\n",
        b"nonsense\n",
        b"quorum none",
        b"quorum none\nquorum none\n",
        witnesses.lines(2).replace(b"quorum q\n", b""),
        witnesses.lines(3, ["zurich", "tokyo"]),
        f"log {log}\n".encode() + witnesses.lines(2),
        b"log log.example/other+a7468cf6+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop\nquorum none\n",
        b"\xff\n",
    ):
        with pytest.raises(UsageError, match="log policy: "):
            await set_policy(home, lines)
        assert tree(home) == before, lines


async def test_without_root_keys_the_policy_stays(home: Home, witnesses: Team) -> None:
    for key in ("root-1", "root-2"):
        (home.keys / f"{key}.json").unlink()
    before = tree(home)
    with pytest.raises(KeyringError):
        await set_policy(home, witnesses.lines(2))
    assert tree(home) == before


async def test_an_origin_from_before_the_log_gets_one(home: Home, witnesses: Team, memory: Path) -> None:
    """A root without a policy: everything says what to type; after it, the log begins and clients follow."""
    async with home.catalogue() as catalogue, catalogue.publisher():
        state = await load_state(home.storage)
        del state.root.signed.unrecognized_fields["coldchain"]
        await renew_offline(state, origins.keyring(home), home.storage, "root", now=NOW)
    (home.keys / f"{LOG_KEY}.json").unlink()
    shutil.rmtree(home.public / "log")
    await origins.only_build(home, origins.SECOND)
    attempts: list[Callable[[], Awaitable[object]]] = [lambda: origins.log_built(home, 2), lambda: discarded(home, 2)]
    for attempt in attempts:
        with pytest.raises(StateError, match="the root carries no log policy") as caught:
            await attempt()
        assert "keys policy" in caught.value.todo
    key = await witnesses.join(home, 2)
    assert key.name == "log.example/new"
    logged = await origins.log_built(home, 2)
    assert (logged.origin, logged.index) == ("log.example/new", 0)
    await origins.approve_release(home, 2)
    await origins.publish_release(home, 2)
    assert (await updated(endpoint(home, memory / "endpoint"))).release == 2


async def test_what_witnesses_cosigned_is_always_continued(home: Home, witnesses: Team) -> None:
    """Over refusals, discards and channels: every checkpoint anybody holds is a part of the newest one."""
    await witnesses.join(home, 2)
    log = await log_of(home)
    held: list[Checkpoint] = []
    for number in range(2, 8):
        await witnesses.stop(witnesses.names[: number % 3])
        await origins.only_build(home, content(number))
        try:
            await origins.log_built(home, number)
            assert number % 3 < 2
        except EvidenceError:
            assert number % 3 == 2
        await witnesses.start(witnesses.names[: number % 3])
        await discarded(home, number)
        held += [one for name in witnesses.names if (one := witnesses.held(name, log.key)) is not None]
    head = await log.checkpoint()
    assert head.size == 7
    for one in held:
        check_extends(one, head, await log.growth(one.size, head))
