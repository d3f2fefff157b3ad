"""The monitor over real sockets: in order it is silent, and everything that a publisher with all keys can do has its alert."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta

import pytest
from aiohttp import web

from coldchain.bundle.evidence_file import read_evidence_file
from coldchain.bundle.manifest import parse_manifest
from coldchain.errors import DamagedError, LockedError, ThrottledError, UsageError
from coldchain.monitor.directory import MonitorDirectory
from coldchain.monitor.findings import KINDS, Alert
from coldchain.monitor.settings import WatchSettings
from coldchain.monitor.state import parse_state
from coldchain.monitor.watch import watch
from coldchain.residency import Move, Place
from coldchain.tlog.checkpoint import open_checkpoint, parse_checkpoint
from coldchain.tlog.note import SignedNote, parse_note
from coldchain.tlog.proof import OfflineProof
from coldchain.tlog.vkey import Kind
from coldchain_server.log.public_log import PublicLog
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.rotation import rotate, set_log_policy
from tests.client.agent.publisher import Edge, serving
from tests.client.monitor.watched import NOW, Watched, kinds
from tests.client.tlog.logs import Signer
from tests.server import origins


async def test_in_order_nothing_is_raised_and_only_what_is_new_is_read(world: Watched) -> None:
    first = await world.run()
    assert (kinds(first), first.standing, first.read, first.size, first.first) == ([], [], 2, 2, True)
    assert len(first.checked) == 1
    assert {one.witness: one.checkpoint.size for one in first.witnesses if one.checkpoint} == {"one": 2, "two": 2}
    assert first.offered == {region: {"stable": 2} for region in ("us", "jp", "kr")}
    again = await world.run(root=None)
    assert (kinds(again), again.read, again.checked, again.first) == ([], 0, [], False)
    await world.release()
    third = await world.run()
    assert (kinds(third), third.read, third.size, third.channels) == ([], 1, 3, {"stable": 3})
    assert third.checked == ["release 3 of stable (entry 2): 3 regions differ by their declared policies only"]
    assert third.error is None


# -- entries ---------------------------------------------------------------------------------------------------------


async def test_two_manifests_with_one_number(world: Watched) -> None:
    await world.run()
    second = await world.manifest()
    await world.append(replace(second, created="2026-01-01T00:00:00Z").encode())
    report = await world.run()
    assert kinds(report) == ["duplicate"]
    (alert,) = report.alerts
    assert "entry 2" in alert.what
    assert "entry 1" in alert.what
    assert second.digest[:16] in alert.what


async def test_the_same_entry_twice_is_a_note(world: Watched) -> None:
    await world.run()
    await world.append((await world.manifest()).encode())
    report = await world.run()
    assert kinds(report) == []
    assert any("twice" in note for note in report.notes)


async def test_a_gap_and_a_broken_chain(world: Watched) -> None:
    await world.run()
    manifest = await world.draft()
    await world.append(replace(manifest, release=4).encode())
    assert "gap" in kinds(await world.run(acknowledge=True))
    await world.append(replace(manifest, release=5, previous="0" * 64).encode())
    report = await world.run(acknowledge=True)
    assert "chain" in kinds(report)
    assert "gap" not in kinds(report)


async def test_entries_that_are_no_manifests_of_this_product(world: Watched) -> None:
    await world.run()
    manifest = await world.manifest()
    await world.append(b"hello", replace(manifest, product="other").encode())
    report = await world.run()
    assert [one.kind for one in report.alerts] == ["not-a-manifest", "not-a-manifest"]
    assert report.size == 4


async def test_moves_of_reports_are_notes_and_their_chain_goes_on_from_run_to_run(world: Watched) -> None:
    us, ch = Place("us", "United States"), Place("ch", "Switzerland")
    one = Move("coldchain", "us", us, ch, 5, 2, "0" * 64, NOW)
    await world.run()
    for source, target, expected in ((us, ch, []), (ch, us, []), (ch, us, ["residency"])):
        await world.append(replace(one, source=source, target=target, rows=len(expected)).encode())
        report = await world.run(acknowledge=True)
        assert kinds(report) == expected
        assert [note for note in report.notes if f"moved from store {source} to {target}" in note]
    assert [alert.kind for alert in (await world.run()).standing] == ["residency"]


# -- what entries name -----------------------------------------------------------------------------------------------


async def test_a_bundle_that_is_not_there_is_asked_for_again(world: Watched) -> None:
    await world.run()
    manifest = await world.draft()
    await world.append(manifest.encode())
    file = world.full(manifest, "jp")
    data = file.read_bytes()
    file.unlink()
    report = await world.run()
    assert kinds(report) == ["bundle-missing"]
    assert "jp" in report.alerts[0].what
    assert kinds(await world.run()) == ["bundle-missing"]
    file.write_bytes(data)
    third = await world.run()
    assert kinds(third) == []
    assert third.checked
    assert [one.kind for one in third.standing] == ["bundle-missing"]
    assert (await world.run()).checked == []


async def test_a_bundle_that_cannot_be_had_for_now_is_not_held_against_anyone(world: Watched) -> None:
    await world.run()
    await world.release()
    public = world.home.public
    files = {str(one.relative_to(public)): one.read_bytes() for one in public.rglob("*") if one.is_file()}
    for path in ("full.ccd", "/snapshots/"):
        edge = Edge(files, lambda request, _, path=path: web.Response(status=503) if path in request.path else None)  # type: ignore[misc]
        async with serving(edge) as url:
            report = await world.run(url=url)
            assert kinds(report) == ["unreachable"]
            assert report.size == 3
            assert report.error is not None
    after = await world.run()
    assert (kinds(after), after.standing, len(after.checked)) == ([], [], 1)


async def test_a_bundle_that_never_could_be_had_is_missing_in_the_end(world: Watched) -> None:
    await world.run()
    manifest = await world.draft()
    await world.append(manifest.encode())
    world.full(manifest, "us").unlink()
    await world.run()
    for number in range(4, 12):
        manifest = replace(manifest, release=number, previous=manifest.digest)
        await world.append(manifest.encode())
    report = await world.run(acknowledge=True)
    assert any("entry 2" in one.what and "too old" in one.what for one in report.alerts)


async def test_a_bundle_with_any_other_bytes(world: Watched) -> None:
    await world.run()
    manifest = await world.draft()
    await world.append(manifest.encode())
    file = world.full(manifest, "us")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert kinds(await world.run()) == ["bundle-wrong"]


async def test_a_bundle_that_does_not_decode_to_the_digest_named(world: Watched) -> None:
    await world.run()
    manifest = await world.draft()
    us = manifest.regions["us"]
    named = replace(us, facts=replace(us.facts, bundle="0" * 64))
    await world.append(replace(manifest, regions={**manifest.regions, "us": named}).encode())
    assert kinds(await world.run()) == ["bundle-wrong"]


async def test_a_bundle_longer_than_declared_is_not_taken_apart_to_its_end(world: Watched) -> None:
    await world.run()
    manifest = await world.draft()
    us = manifest.regions["us"]
    named = replace(us, facts=replace(us.facts, bytes=us.facts.bytes - 1))
    await world.append(replace(manifest, regions={**manifest.regions, "us": named}).encode())
    report = await world.run()
    assert kinds(report) == ["bundle-wrong"]
    assert "longer" in report.alerts[0].what


async def test_a_manifest_that_names_no_file(world: Watched) -> None:
    await world.run()
    manifest = await world.draft()
    named = replace(manifest.regions["us"], full=None)
    await world.append(replace(manifest, regions={**manifest.regions, "us": named}).encode())
    assert kinds(await world.run()) == ["bundle-wrong"]


async def test_snapshots_must_be_there_and_be_themselves(world: Watched) -> None:
    await world.run()
    manifest = await world.draft()
    await world.append(manifest.encode())
    file = world.public(f"snapshots/{manifest.feeds[0].snapshot}")
    data = file.read_bytes()
    file.unlink()
    assert kinds(await world.run(acknowledge=True)) == ["snapshot-missing"]
    file.write_bytes(data + b" ")
    await world.append(replace(manifest, release=4, previous=manifest.digest).encode())
    assert "snapshot-missing" in kinds(await world.run(acknowledge=True))


async def test_regions_that_differ_beyond_their_declared_policies(world: Watched) -> None:
    await world.run()
    manifest = await world.draft()
    jp = manifest.regions["jp"]
    undeclared = replace(manifest, regions={**manifest.regions, "jp": replace(jp, policy=())})
    await world.append(undeclared.encode())
    report = await world.run()
    assert kinds(report) == ["regions-differ"]
    assert any("jp and us" in one.what and "Win.Trojan.Agent-3-0" in one.what for one in report.alerts)


async def test_counts_that_contradict_each_other(world: Watched) -> None:
    await world.run()
    manifest = await world.draft()
    for less in (-9, 9):
        whole = replace(manifest.whole, records=manifest.whole.records + less)
        await world.append(replace(manifest, whole=whole).encode())
        report = await world.run(acknowledge=True)
        assert any(one.kind == "regions-differ" and "global" in one.what for one in report.alerts)


async def test_a_first_run_fetches_the_newest_of_each_channel_and_with_all_everything(world: Watched) -> None:
    first = parse_manifest((await world.entries())[0])
    for region in first.regions:
        world.full(first, region).unlink()
    assert kinds(await world.run()) == []
    (world.directory.path / "state.json").unlink()
    assert kinds(await world.run(every=True)) == ["bundle-missing"]


# -- what regions offer ----------------------------------------------------------------------------------------------


async def test_a_release_for_one_region_that_is_not_in_the_log(world: Watched) -> None:
    await world.run()
    manifest = await world.draft()
    await world.offer("jp", manifest)
    report = await world.run()
    assert kinds(report) == ["standing-still", "unlogged"]
    assert all("jp" in one.what for one in report.alerts)
    later = await world.run()
    assert kinds(later) == ["standing-still", "unlogged"]


@pytest.mark.parametrize("witnessed", [True, False])
async def test_a_checkpoint_from_a_cache_that_is_some_seconds_old_is_looked_at_again(
    world: Watched, witnessed: bool
) -> None:
    own = await world.own_policy()
    await world.run()
    stale = world.public("log/checkpoint").read_bytes()
    await world.release()
    if not witnessed:
        for way in world.ways.values():
            way.target = None
    public = world.home.public
    files = {str(one.relative_to(public)): one.read_bytes() for one in public.rglob("*") if one.is_file()}
    for tries in (3, 2, 1):
        left = [2]

        def lie(request: web.Request, _: bytes, left: list[int] = left) -> bytes | None:
            if request.path != "/log/checkpoint" or not left[0]:
                return None
            left[0] -= 1
            return stale

        async with serving(Edge(files, lie)) as url:
            before = (world.directory.path / "state.json").read_bytes()
            report = await world.run(url=url, policy=own, tries=tries, pause=0.0, acknowledge=True)
            (world.directory.path / "state.json").write_bytes(before)
        if tries == 3:
            assert (kinds(report), report.read) == ([], 1)
        elif tries == 1 or not witnessed:
            assert "unlogged" in kinds(report)


async def test_another_manifest_under_a_number_of_the_log(world: Watched) -> None:
    await world.run()
    manifest = replace(await world.manifest(), created="2026-01-01T00:00:00Z")
    await world.offer("us", manifest)
    assert kinds(await world.run()) == ["unlogged"]


async def test_a_logged_release_offered_without_evidence_or_as_another_file(world: Watched) -> None:
    await world.run()
    newest = await world.manifest()
    await world.offer("us", newest)
    report = await world.run(acknowledge=True)
    assert kinds(report) == ["evidence"]
    assert "without a proof" in report.alerts[0].what
    file = world.folder / "other.ccd"
    file.write_bytes(b"CCD\x01other")
    files = world.public("targets/jp/stable").glob("*.evidence.zst")
    proofs = [read_evidence_file(one.read_bytes())[1] for one in files]
    proof = next(one for one in proofs if one is not None and b"\nindex 1\n" in one)
    await world.offer("us", newest, full=file, proof=proof)
    report = await world.run(acknowledge=True)
    assert kinds(report) == ["evidence"]
    assert "the manifest names the full bundle's file" in report.alerts[0].what
    await world.offer("us", newest, proof=proof.replace(b"\nindex 1\n", b"\nindex 0\n"))
    assert kinds(await world.run(acknowledge=True)) == ["evidence"]


async def test_evidence_from_a_log_of_its_own_is_a_fork(world: Watched) -> None:
    own = await world.own_policy()
    await world.run(policy=own)
    manifest = await world.draft()
    true = world.public("log")
    saved = world.folder / "true-log"
    shutil.copytree(true, saved)
    # a second history, with the special release at the place where everybody else sees another entry
    await world.append(manifest.encode(), ask=False)
    log = await world.log()
    note = await log.head()
    assert note is not None
    head = parse_checkpoint(note.text)
    proof = OfflineProof(2, tuple(await log.inclusion(2, head)), note).encode()
    shutil.rmtree(true)
    shutil.copytree(saved, true)
    other = replace(manifest, created="2026-01-01T00:00:00Z")
    await world.append(other.encode(), manifest.encode(), ask=False)
    await world.offer("us", manifest, proof=proof)
    report = await world.run(policy=own)
    assert "fork" in kinds(report)
    (fork,) = [one for one in report.alerts if one.kind == "fork"]
    await check_proof(world, fork)


# -- the log ---------------------------------------------------------------------------------------------------------


async def check_proof(world: Watched, alert: Alert) -> None:
    """Anybody who knows the log's key can tell from the two checkpoints alone (for equal sizes) what happened."""
    log = await world.log()
    one, other = (open_checkpoint(note, [log.key]).checkpoint for note in alert.proof)
    assert (one.size, one.root) != (other.size, other.root)
    kept = [one.read_bytes() for one in (world.directory.path / "forks").iterdir()]
    assert any(all(note.encode() in data for note in alert.proof) for data in kept)


async def rewrite(world: Watched, *entries: bytes) -> None:
    """The log's key signs another history in place of the published one."""
    shutil.rmtree(world.public("log"))
    await world.append(*entries, ask=False)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
async def test_another_history_is_a_fork_whatever_its_size(world: Watched, size: int) -> None:
    own = await world.own_policy()
    await world.run(policy=own)
    entries = await world.entries()
    first = replace(parse_manifest(entries[0]), created="2026-01-01T00:00:00Z")
    others = [first.encode(), *[b"entry %d" % number for number in range(size - 1)]]
    await rewrite(world, *others)
    before = (world.directory.path / "state.json").read_bytes()
    for _ in range(2):
        report = await world.run(policy=own)
        found = [one for one in report.alerts if one.kind in ("fork", "backwards")]
        # what was seen is larger than what is shown, and its tiles are gone: then it is the going back that is proved
        assert {one.kind for one in found} == ({"fork"} if size >= 2 else {"backwards"})
        for one in found:
            assert len(one.proof) == 2
        await check_proof(world, found[0])
        assert report.size == 2
    assert parse_state(before).checkpoint == parse_state((world.directory.path / "state.json").read_bytes()).checkpoint


async def test_a_smaller_history_of_the_same_tiles_is_told_from_a_fork(world: Watched) -> None:
    own = await world.own_policy()
    entries = await world.entries()
    await world.run(policy=own)
    saved = world.folder / "true-log"
    shutil.copytree(world.public("log"), saved)
    await rewrite(world, entries[0])
    smaller = world.public("log/checkpoint").read_bytes()
    await rewrite(world, b"other")
    other = world.public("log/checkpoint").read_bytes()
    for note, kind in ((smaller, "backwards"), (other, "fork")):
        shutil.rmtree(world.public("log"))
        shutil.copytree(saved, world.public("log"))
        world.public("log/checkpoint").write_bytes(note)
        report = await world.run(policy=own, acknowledge=True)
        assert [one.kind for one in report.alerts if one.kind in ("backwards", "fork")][:1] == [kind]


async def test_on_a_first_run_the_witnesses_know_another_history(world: Watched) -> None:
    own = await world.own_policy()
    await rewrite(world, b"other", b"history")
    report = await world.run(policy=own)
    forks = [one for one in report.alerts if one.kind == "fork"]
    assert [name for name in ("one", "two") for one in forks if f"witness {name}" in one.what] == ["one", "two"]
    await check_proof(world, forks[0])


async def test_on_a_first_run_the_witnesses_know_more(world: Watched) -> None:
    own = await world.own_policy()
    entries = await world.entries()
    await rewrite(world, entries[0])
    assert "backwards" in kinds(await world.run(policy=own))


async def test_a_witness_that_lags_or_is_silent_for_too_long(world: Watched) -> None:
    await world.run()
    await world.append((await world.draft()).encode(), ask=False)
    own = await world.own_policy()
    first = await world.run(policy=own)
    assert kinds(first) == []
    assert len([note for note in first.notes if "2 entries" in note]) == 2
    assert kinds(await world.run(policy=own, now=lambda: NOW + timedelta(seconds=3599))) == []
    later = await world.run(policy=own, now=lambda: NOW + timedelta(hours=1))
    assert kinds(later) == ["witness-behind"]
    world.ways["one"].target = None
    silent = await world.run(policy=own, now=lambda: NOW + timedelta(hours=1))
    assert kinds(silent) == ["witness-behind", "witness-silent"]


async def test_a_quorum_that_is_not_there(world: Watched) -> None:
    third = Signer("wit.example/three", Kind.COSIGNATURE, 9)
    own = await world.own_policy("three", f"witness three {third.vkey}")
    report = await world.run(policy=own)
    assert "no-quorum" in kinds(report)
    assert "three" in next(one.what for one in report.alerts if one.kind == "no-quorum")


async def test_a_log_that_is_gone(world: Watched) -> None:
    checkpoint = world.public("log/checkpoint")
    data = checkpoint.read_bytes()
    checkpoint.unlink()
    first = await world.run()
    assert "log-missing" in kinds(first)
    assert "unlogged" in kinds(first)
    checkpoint.write_bytes(data)
    await world.run(acknowledge=True)
    checkpoint.unlink()
    assert kinds(await world.run()) == ["log-missing"]


@pytest.mark.parametrize("change", ["garbage", "other key", "cosignature"])
async def test_a_checkpoint_that_is_none(world: Watched, change: str) -> None:
    await world.run()
    path = world.public("log/checkpoint")
    note = parse_note(path.read_bytes())
    if change == "garbage":
        path.write_bytes(b"hello\n")
    elif change == "other key":
        other = Signer(parse_checkpoint(note.text).origin, Kind.ED25519, 7)
        path.write_bytes(SignedNote(note.text, (other.sign(note.text),)).encode())
    else:
        last = note.signatures[-1]
        bad = replace(last, payload=last.payload[:-1] + bytes([last.payload[-1] ^ 1]))
        path.write_bytes(replace(note, signatures=(*note.signatures[:-1], bad)).encode())
    report = await world.run()
    assert kinds(report) == ["checkpoint"]
    assert report.size == 2


@pytest.mark.parametrize("tile", ["tile/0/000.p/3", "tile/entries/000.p/3"])
@pytest.mark.parametrize("change", ["gone", "altered"])
async def test_tiles_and_entries_that_are_not_those_under_the_root(world: Watched, tile: str, change: str) -> None:
    await world.run()
    await world.release()
    path = world.public(f"log/{tile}")
    data = path.read_bytes()
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    report = await world.run()
    assert "unreadable" in kinds(report)
    path.write_bytes(data)
    after = await world.run(acknowledge=True)
    assert (kinds(after), after.read) == ([], 1)


async def test_another_log_in_place_of_the_one_followed(world: Watched) -> None:
    await world.run()
    other = Signer("log.example/new", Kind.ED25519, 5)
    policy = (await world.own_policy()).decode()
    entries = await world.entries()
    log = PublicLog(world.home.storage, other.key)
    shutil.rmtree(world.public("log"))
    await log.append(entries, lambda message: other.private.sign(message).signature)
    both = f"log {other.vkey}\n{policy}".encode()
    report = await world.run(policy=both)
    assert "log-changed" in kinds(report)
    assert report.origin == "log.example/new"
    assert report.read == 2
    assert "log-changed" not in kinds(await world.run(policy=both))


# -- keys and metadata -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["snapshot", "region", "rollout"])
async def test_other_keys_than_those_seen_last(world: Watched, role: str) -> None:
    await world.run()
    await rotate(await world.state(), origins.keyring(world.home), world.home.storage, role, now=NOW, strength=DEMO)
    report = await world.run()
    assert kinds(report) == ["keys"]
    assert any(("us" if role == "region" else role) in one.what for one in report.alerts)
    again = await world.run()
    assert kinds(again) == []
    assert {one.kind for one in again.standing} == {"keys"}
    (world.directory.path / "state.json").unlink()
    assert kinds(await world.run()) == []  # a first run takes the keys as they are, from the pinned root on


async def test_another_log_policy_in_the_root(world: Watched) -> None:
    await world.run()
    state, keyring = await world.state(), origins.keyring(world.home)
    await set_log_policy(state, keyring, world.home.storage, b"quorum none\n", log_name="x", now=NOW)
    assert kinds(await world.run()) == ["policy"]


async def test_metadata_that_a_client_would_refuse(world: Watched) -> None:
    await world.run()
    assert "metadata" in kinds(await world.run(now=lambda: NOW + timedelta(days=3)))
    state = await world.state()
    version = state.delegated["jp"].signed.version
    path = world.public(f"metadata/{version}.jp.json")
    await world.release()
    path = world.public(f"metadata/{version + 1}.jp.json")
    path.write_bytes(path.read_bytes().replace(b'"release":3', b'"release":2'))
    report = await world.run(acknowledge=True)
    assert kinds(report) == ["metadata"]
    assert "jp" in report.alerts[0].what
    assert set(report.offered) == {"us", "kr"}


async def test_a_role_that_contradicts_itself_hides_no_other(world: Watched) -> None:
    await world.run()
    for named, kind, offered in (("no digest", "metadata", {"jp", "kr"}), ("0" * 64, "unlogged", {"us", "jp", "kr"})):
        await world.offer("us", await world.manifest(), named=named)
        report = await world.run(acknowledge=True)
        assert kinds(report) == [kind]
        assert "us" in report.alerts[0].what
        assert set(report.offered) == offered


# -- report and state ------------------------------------------------------------------------------------------------


async def test_the_state_is_written_after_the_report_so_that_no_alert_is_lost(
    world: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.run()
    await world.append(b"hello")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MonitorDirectory, "write_state", crash)
        with pytest.raises(KeyboardInterrupt):
            await world.run()
    assert "not-a-manifest" in (world.directory.path / "report.json").read_text()
    assert kinds(await world.run()) == ["not-a-manifest"]
    with monkeypatch.context() as patch:
        patch.setattr(MonitorDirectory, "write_report", crash)
        await world.append(b"hello again")
        with pytest.raises(KeyboardInterrupt):
            await world.run()
    assert kinds(await world.run()) == ["not-a-manifest"]


async def test_lasting_alerts_stand_until_they_are_acknowledged(world: Watched) -> None:
    await world.run()
    await world.append(b"hello")
    assert (await world.run()).error is not None
    for _ in range(2):
        report = await world.run()
        assert (report.alerts, [one.kind for one in report.standing]) == ([], ["not-a-manifest"])
        assert report.error is not None
    assert (await world.run(acknowledge=True)).error is None
    assert (await world.run()).error is None


async def test_whoever_breaks_off_hides_nothing_that_was_found_before(world: Watched) -> None:
    await world.run()
    await world.release()

    def tree() -> dict[str, bytes]:
        public = world.home.public
        return {str(one.relative_to(public)): one.read_bytes() for one in public.rglob("*") if one.is_file()}

    edge = Edge(tree(), lambda request, _: web.Response(status=503) if "/log/tile" in request.path else None)
    async with serving(edge) as url:
        with pytest.raises(ThrottledError):
            await world.run(url=url, metrics=world.folder / "m.prom")
        text = (world.folder / "m.prom").read_text()
        assert "coldchain_monitor_up 0\n" in text
        assert "coldchain_monitor_exit_code 21\n" in text
        keyring = origins.keyring(world.home)
        await rotate(await world.state(), keyring, world.home.storage, "snapshot", now=NOW, strength=DEMO)
        edge.files = tree()
        report = await world.run(url=url)
        assert kinds(report) == ["keys"]
        assert any("ended early" in note for note in report.notes)
    after = await world.run(acknowledge=True)
    assert (kinds(after), after.read) == (["keys"], 1)
    assert kinds(await world.run(acknowledge=True)) == []


async def test_a_damaged_state_is_no_empty_one(world: Watched) -> None:
    await world.run()
    path = world.directory.path / "state.json"
    data = path.read_bytes()
    for bad in (b"", data[:-1], data.replace(b'"entries":2', b'"entries":1', 1) + b" ", b"{}"):
        path.write_bytes(bad)
        with pytest.raises(DamagedError):
            await world.run()
    path.write_bytes(data)
    with pytest.raises(UsageError):
        await world.run(root=b"{}")
    with pytest.raises(UsageError):
        await world.run(product="other")
    with world.directory.locked(), pytest.raises(LockedError):
        await world.run()
    (world.folder / "foreign").mkdir()
    (world.folder / "foreign" / "file").write_bytes(b"x")
    with pytest.raises(UsageError):
        MonitorDirectory(world.folder / "foreign").make()
    with pytest.raises(UsageError):
        await watch(MonitorDirectory(world.folder / "new"), WatchSettings(world.url))


async def test_metrics_say_what_the_report_says(world: Watched) -> None:
    await world.run(metrics=world.folder / "m.prom")
    text = (world.folder / "m.prom").read_text()
    for line in (
        "coldchain_monitor_up 1",
        "coldchain_monitor_exit_code 0",
        'coldchain_monitor_log_entries{origin="log.example/watched"} 2',
        'coldchain_monitor_witness_entries{witness="one"} 2',
        'coldchain_monitor_logged_release{channel="stable"} 2',
        'coldchain_monitor_offered_release{region="jp",channel="stable"} 2',
        *(f'coldchain_monitor_alerts{{kind="{kind}"}} 0' for kind in KINDS),
    ):
        assert f"{line}\n" in text
    await world.append(b"hello")
    await world.run(metrics=world.folder / "m.prom")
    text = (world.folder / "m.prom").read_text()
    assert 'coldchain_monitor_alerts{kind="not-a-manifest"} 1\n' in text
    assert "coldchain_monitor_exit_code 50\n" in text
    assert [one.name for one in world.folder.glob("*.tmp")] == []


async def test_nothing_is_left_behind_but_what_the_directory_says(world: Watched) -> None:
    await world.run(every=True)
    assert sorted(one.name for one in world.directory.path.iterdir()) == ["forks", "lock", "report.json", "state.json"]
