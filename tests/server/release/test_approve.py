"""An approver refuses a draft in which anything was changed, file by file and lie by lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coldchain import canonical
from coldchain.bundle.evidence_file import encode_evidence
from coldchain.bundle.manifest import parse_manifest
from coldchain.errors import ApprovalError, ColdchainError, GateError, StateError
from coldchain_server.assembly.again import assemble_again
from coldchain_server.catalogue.interface import Feed
from coldchain_server.catalogue.sqlite import SqliteCatalogue
from coldchain_server.feeds import lint
from coldchain_server.feeds.pull import pull
from coldchain_server.gate.result import passed
from coldchain_server.home import Home
from coldchain_server.release.drafts import Draft, measure
from coldchain_server.signing.roles import decode, sign
from tests.client.tuf.repository import NOW
from tests.server import origins

FILES = (
    "manifest.json",
    "manifest.tlog-proof",
    "evidence.zst",
    "roles/us.json",
    "roles/jp.json",
    "targets/us/full.ccd",
    "targets/us/from-1.ccd",
    "targets/jp/full.ccd",
    "targets/jp/from-1.ccd",
)


@pytest.fixture
def home(built_home: Home) -> Home:
    return built_home


def draft_of(home: Home) -> Draft:
    return Draft(home.draft("stable", 2))


async def refused(home: Home, match: str | None = None, cache: Path | None = None) -> ColdchainError:
    """The approver refuses, and no role has another signature than before."""
    draft = draft_of(home)
    before = {path: path.read_bytes() for path in draft.directory.rglob("*") if path.is_file()}
    with pytest.raises((ApprovalError, StateError), match=match) as caught:
        await origins.approve_release(home, 2, cache=cache)
    assert {path: path.read_bytes() for path in draft.directory.rglob("*") if path.is_file()} == before
    assert (await origins.states(home))[2] == "logged"
    assert caught.value.kept
    return caught.value


async def test_the_draft_holds_the_files_that_are_tampered_with_here(home: Home) -> None:
    directory = draft_of(home).directory
    found = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert {name for name in found if not name.startswith("changes/")} == set(FILES)
    assert await origins.approve_release(home, 2) == ("approver-1", True)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", ["flip first", "flip middle", "flip last", "cut", "grow", "empty", "gone"])
async def test_a_change_in_any_file_is_found(home: Home, name: str, change: str) -> None:
    file = draft_of(home).directory / name
    data = file.read_bytes()
    at = {"flip first": 0, "flip middle": len(data) // 2, "flip last": len(data) - 1}.get(change)
    if at is not None:
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif change == "gone":
        file.unlink()
    else:
        file.write_bytes({"cut": data[:-1], "grow": data + b"\0", "empty": b""}[change])
    if name.startswith("roles/") and change == "flip middle" and _only_a_signature(data, file.read_bytes()):
        return  # the assembler's signature no longer counts, and the threshold says so: see below
    await refused(home)


def _only_a_signature(old: bytes, new: bytes) -> bool:
    try:
        return bool(json.loads(old)["signed"] == json.loads(new)["signed"])
    except ValueError:
        return False


@pytest.mark.parametrize(("before", "after"), [(b"", b"\r"), (b"\xef\xbb\xbf", b"")])
async def test_an_assembler_that_is_wrong_about_sets_is_found(
    new_home: Home, monkeypatch: pytest.MonkeyPatch, before: bytes, after: bytes
) -> None:
    """Both sides run the same program: a mistake in it would be assembled again, to the byte, and engines refuse the whole set."""

    def wrong(lines: Iterable[bytes]) -> tuple[bytes, int]:
        ordered = sorted({before + line + after for line in lines})
        return b"".join(line + b"\n" for line in ordered), len(ordered)

    monkeypatch.setattr("coldchain_server.feeds.lint.canonical_set", wrong)
    with pytest.raises(GateError, match="CR or byte order mark"):
        await origins.build_release(new_home, origins.FIRST)
    monkeypatch.setattr("coldchain_server.gate.gate.check_lint", lambda _, words, cache: passed("lint", words))
    built = await origins.build_release(new_home, origins.FIRST)
    with pytest.raises(ApprovalError, match="CR or byte order mark"):
        await origins.approve_release(new_home, built.number)


@pytest.mark.parametrize(("one", "other"), [("us", "jp"), ("jp", "us")])
@pytest.mark.parametrize("what", ["roles/{}.json", "targets/{}/full.ccd", "targets/{}/from-1.ccd"])
async def test_good_files_of_another_region_are_found(home: Home, what: str, one: str, other: str) -> None:
    directory = draft_of(home).directory
    (directory / what.format(one)).write_bytes((directory / what.format(other)).read_bytes())
    await refused(home)


# -- a dishonest assembler: files, role and signature agree with each other, and not with what they should be ---------

Lie = Callable[[Home, Draft, dict[str, Any]], None]


def evil_target(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    """Another bundle in the place of the full one."""
    file = draft.target("us", "full.ccd")
    file.write_bytes(draft.target("jp", "full.ccd").read_bytes())
    length, digest = measure(file)
    signed["targets"]["us/stable/full.ccd"] = {"length": length, "hashes": {"sha256": digest}}


def evil_delta(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    file = draft.target("us", "from-1.ccd")
    file.write_bytes(draft.target("us", "full.ccd").read_bytes()[:-1])
    length, digest = measure(file)
    signed["targets"]["us/stable/from-1.ccd"] = {"length": length, "hashes": {"sha256": digest}}


def unknown_source(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    file = draft.target("us", "from-9.ccd")
    file.write_bytes(draft.target("us", "from-1.ccd").read_bytes())
    signed["targets"]["us/stable/from-9.ccd"] = signed["targets"]["us/stable/from-1.ccd"]


def stray_file(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    """A file made for one customer."""
    file = draft.target("us", "for-customer-7.ccd")
    file.write_bytes(draft.target("us", "full.ccd").read_bytes())
    signed["targets"]["us/stable/for-customer-7.ccd"] = signed["targets"]["us/stable/full.ccd"]


def other_channel(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    signed["targets"]["us/early/full.ccd"] = signed["targets"]["us/stable/full.ccd"]


def other_facts(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    signed["coldchain"]["channels"]["early"] = signed["coldchain"]["channels"]["stable"]


def fast_forward(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    signed["version"] = 1_000_000


def other_release(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    signed["coldchain"]["channels"]["stable"]["release"] = 3


def other_digest(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    signed["coldchain"]["channels"]["stable"]["bundle"] = "0" * 64


def other_count(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    signed["coldchain"]["channels"]["stable"]["records"] += 1


def other_product(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    signed["coldchain"]["product"] = "another"


def long_life(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    signed["expires"] = "2099-01-01T00:00:00Z"


def no_life(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    signed["expires"] = (NOW - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def no_full_bundle(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    del signed["targets"]["us/stable/full.ccd"]


def a_delegation(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    signed["delegations"] = {"keys": {}, "roles": []}


def a_custom_member(home: Home, draft: Draft, signed: dict[str, Any]) -> None:
    signed["targets"]["us/stable/full.ccd"]["custom"] = {"for": "customer 7"}


LIES = (
    evil_target,
    evil_delta,
    unknown_source,
    stray_file,
    other_channel,
    other_facts,
    fast_forward,
    other_release,
    other_digest,
    other_count,
    other_product,
    long_life,
    no_life,
    no_full_bundle,
    a_delegation,
    a_custom_member,
)


@pytest.mark.parametrize("lie", LIES)
async def test_a_dishonest_assembler_is_found(home: Home, lie: Lie) -> None:
    draft = draft_of(home)
    document = json.loads(draft.role("us"))
    lie(home, draft, document["signed"])
    data = canonical.encode({"signatures": [], "signed": document["signed"]})
    role = decode(data, "role")
    sign(role, [origins.keyring(home).signer("assembler")])
    draft.put_role("us", role)
    await refused(home)


MANIFEST_LIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "a bundle": lambda m: m["regions"]["us"].update(bundle="0" * 64),
    "a count": lambda m: m["regions"]["us"].update(records=m["regions"]["us"]["records"] + 1),
    "the global bundle": lambda m: m["global"].update(bundle="0" * 64),
    "a policy's reason": lambda m: m["regions"]["jp"]["policy"][0].update(reason="because"),
    "a hidden policy": lambda m: m["regions"]["jp"].update(policy=[]),
    "an invented policy": lambda m: m["regions"]["us"].update(policy=m["regions"]["jp"]["policy"]),
    "a feed's count": lambda m: m["feeds"][0].update(records=1),
    "a feed's name": lambda m: m["feeds"][0].update(name="other"),
    "a missing feed": lambda m: m.update(feeds=[]),
    "a missing region": lambda m: m["regions"].pop("jp"),
    "the product": lambda m: m.update(product="another"),
    "the channel": lambda m: m.update(channel="early"),
    "the number": lambda m: m.update(release=7),
}


def checked_before(home: Home) -> Path:
    """What an approver remembers who has checked the draft's feeds before."""
    cache = home.directory.parent / "approver"
    manifest = parse_manifest((draft_of(home).directory / "manifest.json").read_bytes())
    assemble_again(manifest, home.regions(), home.content, cache=cache)
    assert any(cache.iterdir())
    return cache


async def test_what_an_approver_checked_before_is_not_checked_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, real, checked = checked_before(home), lint._check, []

    def counted(*words: Any) -> Any:
        checked.append(words)
        return real(*words)

    monkeypatch.setattr(lint, "_check", counted)
    assert await origins.approve_release(home, 2, cache=cache) == ("approver-1", True)
    assert checked == []
    await origins.publish_release(home, 2)
    built = await origins.build_release(home, origins.THIRD)
    for used, least in ((cache, 1), (None, 2)):
        checked.clear()
        await origins.approve_release(home, built.number, key="approver-1", cache=used)
        assert len(checked) >= least, "what changed since is checked, and without a cache all of it"


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("lie", MANIFEST_LIES)
async def test_a_manifest_that_does_not_follow_from_the_feeds_is_found(
    home: Home, lie: str, warm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when catalogue, manifest and roles all say the same: everything is assembled again from the snapshots."""
    draft, cache = draft_of(home), checked_before(home) if warm else None
    manifest = json.loads((draft.directory / "manifest.json").read_bytes())
    MANIFEST_LIES[lie](manifest)
    data = canonical.encode(manifest)
    parsed = parse_manifest(data)
    draft.write(draft.directory / "manifest.json", data)
    for region in ("us", "jp"):
        document = json.loads(draft.role(region))
        facts = document["signed"]["coldchain"]["channels"]["stable"]
        facts["manifest"] = parsed.digest
        if region in parsed.regions:
            said = parsed.regions[region].facts
            facts.update(bundle=said.bundle, bytes=said.bytes, records=said.records)
        file = encode_evidence(data, draft.read(draft.directory / "manifest.tlog-proof"))
        draft.write(draft.directory / "evidence.zst", file)
        document["signed"]["targets"][f"{region}/stable/evidence.zst"] = {
            "length": len(file),
            "hashes": {"sha256": hashlib.sha256(file).hexdigest()},
        }
        role = decode(canonical.encode({"signatures": [], "signed": document["signed"]}), "role")
        sign(role, [origins.keyring(home).signer("assembler")])
        draft.put_role(region, role)
    catalogue = await SqliteCatalogue.open(home.directory / "catalogue.sqlite")
    await catalogue._run("UPDATE releases SET manifest = ? WHERE number = 2", (parsed.digest,))
    await catalogue.close()
    await refused(home, cache=cache)


@pytest.mark.parametrize("change", ["policy", "region added", "region gone"])
async def test_the_approvers_regions_decide(home: Home, change: str) -> None:
    regions = home.directory / "regions.toml"
    text = regions.read_text()
    new = {
        "policy": text.replace("Agent-3-0", "Agent-4-0"),
        "region added": text + '\n[regions.kr]\njurisdiction = "Korea"\n',
        "region gone": text.split("[regions.jp]")[0],
    }[change]
    regions.write_text(new)
    await refused(home, "regions")


async def test_an_earlier_result_of_the_lint_is_not_believed(published_home: Home) -> None:
    """Results of checks are kept beside the origin; who can write there decides what is built, and not what is approved."""
    home = published_home
    async with home.catalogue() as catalogue:
        feed = Feed("acme", "clamav", str(origins.write_feed(home, origins.SECOND)), False)
        await pull(home, catalogue, feed, taken="2026-06-01T12:00:00Z")
    evil = origins.SECOND["daily.hsb"].replace(b"Agent-7-0", b"Agent-7-1")
    digest = home.content.put(evil)
    poisoned = 0
    for file in home.lint.iterdir():
        entry = json.loads(file.read_bytes())
        if entry["section"]["sha256"] == hashlib.sha256(origins.SECOND["daily.hsb"]).hexdigest():
            entry["section"]["sha256"] = digest
            file.write_bytes(canonical.encode(entry))
            poisoned += 1
    assert poisoned == 1
    await origins.build_release(home, None)
    await refused(home, "assembled again from the feeds' snapshots")


async def test_damaged_content_is_not_approved(home: Home) -> None:
    manifest = parse_manifest((draft_of(home).directory / "manifest.json").read_bytes())
    home.content(manifest.feeds[0].snapshot).write_bytes(b"{}")
    with pytest.raises(ColdchainError, match="damaged"):
        await origins.approve_release(home, 2)
    assert (await origins.states(home))[2] == "logged"


async def test_another_root_than_the_pinned_one_is_found(home: Home) -> None:
    (home.directory / "root.json").write_bytes(home.pinned_root() + b" ")
    await refused(home, "not the root.json that customers pin")


@pytest.mark.parametrize("name", ["metadata/2.us.json", "metadata/2.snapshot.json", "metadata/1.targets.json"])
async def test_a_published_state_that_a_client_would_refuse_is_not_built_upon(home: Home, name: str) -> None:
    file = home.public / name
    document = json.loads(file.read_bytes())
    document["signatures"] = document["signatures"][:0]
    file.write_bytes(canonical.encode(document))
    with pytest.raises(ColdchainError):
        await origins.approve_release(home, 2)
    assert (await origins.states(home))[2] == "logged"


async def test_a_bad_signature_does_not_count(home: Home) -> None:
    """The assembler's signature is broken, or an approver's forged: the threshold is not reached by their number."""
    draft = draft_of(home)
    for region in ("us", "jp"):
        document = json.loads(draft.role(region))
        (signature,) = document["signatures"]
        forged = {"keyid": origins.keyring(home).public("approver-1").keyid, "sig": signature["sig"]}
        document["signatures"].append(forged)
        (draft.roles / f"{region}.json").write_bytes(canonical.encode(document))
    assert await origins.approve_release(home, 2, key="assembler") == ("assembler", False)
    assert (await origins.states(home))[2] == "logged"
    assert await origins.approve_release(home, 2, key="approver-2") == ("approver-2", True)
    await origins.publish_release(home, 2)
    assert origins.read_all(home) == 2


async def test_an_approval_that_died_half_way_is_taken_up(home: Home) -> None:
    """One region has the approver's signature already; the same key signs the rest, though it is the only one here."""
    (home.keys / "approver-2.json").unlink()
    (home.keys / "assembler.json").unlink()
    draft = draft_of(home)
    before = draft.role("jp")
    await origins.approve_release(home, 2)
    (draft.roles / "jp.json").write_bytes(before)
    catalogue = await SqliteCatalogue.open(home.directory / "catalogue.sqlite")
    await catalogue._run("UPDATE releases SET state = 'logged' WHERE number = 2")
    await catalogue.close()
    assert await origins.approve_release(home, 2) == ("approver-1", True)
