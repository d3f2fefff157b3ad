"""No release without good evidence: what is missing or wrong in it is refused with a code of its own, and what runs keeps running."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from coldchain.errors import DamagedError, EvidenceError, HeldError, ResponseError, SignatureError, StorageError
from coldchain.install import public_log, trusted
from coldchain.install.audit import audit
from coldchain.install.directory import ClientDirectory
from coldchain.install.durable import Folder
from coldchain.keys import PublicKey
from coldchain.limits import LIMITS
from coldchain.tlog.checkpoint import Checkpoint
from coldchain.tlog.merkle import leaf_hash, node_hash
from coldchain.tlog.note import SignedNote
from coldchain.tlog.proof import OfflineProof, parse_proof
from coldchain.tlog.vkey import Kind, NoteKey
from coldchain.verify import PROOF
from tests.client.agent.publisher import FIRST, SECOND, THIRD, Edge, Publisher, run, serving
from tests.client.agent.world import contents
from tests.client.tlog.memory_log import MemoryLog, Signing
from tests.client.tuf.repository import digest, sign

RELEASES = [FIRST, SECOND, THIRD]


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(tmp_path / "publisher", log=MemoryLog())
    made.publish(1, FIRST)
    return made


@pytest.fixture
async def endpoint(publisher: Publisher, tmp_path: Path) -> ClientDirectory:
    """An endpoint that holds release 1 and follows the tree on the disk."""
    directory = publisher.client(tmp_path / "endpoint", str(tmp_path / "tree"))
    await update(publisher, directory)
    return directory


async def update(publisher: Publisher, directory: ClientDirectory) -> int:
    tree = Path(directory.config().urls[0])
    publisher.write(tree)
    return (await run(directory)).release


async def refused(
    publisher: Publisher, directory: ClientDirectory, words: str | None = None, *, grown: bool = False
) -> EvidenceError:
    """Refused for its evidence: the set stays, and the checkpoint that was believed unless the log has rightly grown."""
    before, seen = contents(directory), (directory.metadata / "checkpoint").read_bytes()
    with pytest.raises(EvidenceError, match=words) as found:
        await update(publisher, directory)
    assert contents(directory) == before
    assert ((directory.metadata / "checkpoint").read_bytes() == seen) is not grown
    assert found.value.exit_code == 16
    assert "stays in use" in found.value.kept
    assert found.value.todo
    return found.value


def resign(publisher: Publisher, proof: bytes | None, manifest: bytes | None = None) -> None:
    """The region role names evidence with this proof (None: none) and, if given, this manifest; everything well signed."""
    publisher.name_evidence(manifest if manifest is not None else publisher.manifest(), proof)
    publisher.repository.publish("us")


def log_of(publisher: Publisher) -> MemoryLog:
    assert publisher.log is not None
    return publisher.log


async def test_releases_in_the_log_are_applied_and_what_was_verified_is_kept(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    for number, content in enumerate(RELEASES[1:], 2):
        publisher.publish(number, content)
        assert await update(publisher, endpoint) == number
        assert contents(endpoint) == content
        kept = (endpoint.metadata / "checkpoint").read_bytes()
        assert kept == log_of(publisher).note(at=publisher.now).encode()
        found = audit(endpoint, datetime.now(UTC))
        assert found.error is None
        (said,) = [check.detail for check in found.checks if check.name == "public log"]
        assert f"entry {number - 1} of log.example/test, under its root at {number} entries" in said
        assert "cosigned by w0 (" in said


async def test_a_release_without_a_proof_is_refused(publisher: Publisher, endpoint: ClientDirectory) -> None:
    publisher.publish(2, SECOND)
    good = publisher.proof()
    resign(publisher, None)
    await refused(publisher, endpoint, "comes without a proof that the public log holds it")
    resign(publisher, good)
    assert await update(publisher, endpoint) == 2


async def test_the_proof_of_another_entry_is_refused(publisher: Publisher, endpoint: ClientDirectory) -> None:
    publisher.publish(2, SECOND)
    log = log_of(publisher)
    for index in (0,):
        resign(publisher, log.proof(index, at=publisher.now))
        await refused(publisher, endpoint, "is not under this root")


@pytest.mark.parametrize("cosigned", [0, 1])
async def test_no_quorum_no_release(publisher: Publisher, endpoint: ClientDirectory, cosigned: int) -> None:
    publisher.publish(2, SECOND)
    resign(publisher, log_of(publisher).proof(1, cosigned, at=publisher.now))
    error = await refused(publisher, endpoint, "no quorum of witnesses")
    assert "w1" in error.what
    assert ("w0" in error.what) is (cosigned == 0)


async def test_cosignatures_from_the_future_do_not_count(publisher: Publisher, endpoint: ClientDirectory) -> None:
    publisher.publish(2, SECOND)
    resign(publisher, log_of(publisher).proof(1, at=publisher.now + timedelta(days=3)))
    await refused(publisher, endpoint, "clock has not reached")


async def test_another_logs_proof_is_refused(publisher: Publisher, endpoint: ClientDirectory) -> None:
    """A log with other keys, with the same name and with another one."""
    publisher.publish(2, SECOND)
    manifest = publisher.manifest()
    for origin, words in (("log.example/other", "not a log that is known here"), ("log.example/test", None)):
        other = MemoryLog(origin)
        if not words:
            other.key = replace(other.key, private=MemoryLog("x").key.private)
        other.append(b"a", manifest)
        resign(publisher, other.proof(1, at=publisher.now))
        await refused(publisher, endpoint, words)


async def test_every_byte_of_the_proof_counts(publisher: Publisher, endpoint: ClientDirectory) -> None:
    publisher.publish(2, SECOND)
    good = publisher.proof()
    text_end = good.index(b"\n\n", good.index(b"\n\n") + 2)
    for at in [*range(0, text_end, 7), *range(text_end, len(good), 41)]:
        resign(publisher, good[:at] + bytes([good[at] ^ 0x04]) + good[at + 1 :])
        await refused(publisher, endpoint)
    resign(publisher, good)
    assert await update(publisher, endpoint) == 2


async def test_a_log_that_tells_two_stories_is_caught_and_both_are_kept_as_proof(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    """The second story has the same keys, the same witnesses (all coerced) and another first entry."""
    publisher.publish(2, SECOND)
    honest = publisher.proof()
    manifest = publisher.manifest()
    for entries in ([b"special", manifest], [manifest], [b"special", b"more", b"and more", manifest]):
        fork = MemoryLog()
        fork.append(*entries)
        saved = {path: data for path, data in publisher.files.items() if path.startswith("log/")}
        publisher.files.update({f"log/{path}": data for path, data in fork.files.items()})
        resign(publisher, fork.proof(len(entries) - 1, at=publisher.now))
        error = await refused(publisher, endpoint, "two different stories")
        kept = (endpoint.metadata / "fork.txt").read_bytes()
        assert str(endpoint.metadata / "fork.txt") in error.todo
        assert (endpoint.metadata / "checkpoint").read_bytes() in kept
        assert fork.note(at=publisher.now).encode() in kept
        publisher.files.update(saved)
    resign(publisher, honest)
    assert await update(publisher, endpoint) == 2


async def test_tiles_that_lie_are_no_proof_of_anything(
    publisher: Publisher, endpoint: ClientDirectory, tmp_path: Path
) -> None:
    """One source lies about tiles: refused from it alone, applied when another one has them."""
    for number, content in enumerate(RELEASES[1:], 2):
        log_of(publisher).append(b"an entry of another kind")  # a release alone needs no tiles
        publisher.publish(number, content)
        good = publisher.write(tmp_path / "good")
        told: list[Callable[[bytes], bytes]] = [lambda data: data[::-1], lambda data: data[:-1], lambda _: b""]

        def lie(request: web.Request, data: bytes) -> bytes:
            return told[-1](data) if "/tile/" in request.path else data  # noqa: B023  the newest lie, on purpose

        async with serving(Edge(publisher.files, lie)) as url:
            while True:
                before = contents(endpoint)
                with pytest.raises(EvidenceError):
                    await run(endpoint, url)
                assert contents(endpoint) == before
                assert not (endpoint.metadata / "fork.txt").exists()
                if len(told) == 1:
                    break
                told.pop()
            assert (await run(endpoint, url, str(good))).release == number


async def test_skipped_releases_are_walked_back_to_the_installed_one(
    publisher: Publisher, endpoint: ClientDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = range(2, 6)
    for number in numbers:
        publisher.publish(number, RELEASES[number % 3])
    between = {digest(data): path for path, data in publisher.files.items() if path.startswith("manifests/")}
    tree = Path(endpoint.config().urls[0])
    publisher.write(tree)
    middle = publisher.manifest()
    path = tree / f"manifests/{_previous(middle)}.json"
    assert path.relative_to(tree).as_posix() in between.values()
    data = path.read_bytes()
    for bad in (None, data[:-1], data.replace(b'"release":4', b'"release":3')):
        path.unlink(missing_ok=True)
        if bad is not None:
            path.write_bytes(bad)
        with pytest.raises(EvidenceError, match="an earlier release is not there"):
            await run(endpoint)
    path.write_bytes(data)
    assert (await run(endpoint)).release == 5


def _previous(manifest: bytes) -> str:
    import json

    found: str = json.loads(manifest)["previous"]
    return found


@pytest.mark.parametrize("previous", ["none", "another"])
async def test_a_release_that_does_not_follow_the_installed_one_is_refused(
    publisher: Publisher, endpoint: ClientDirectory, previous: str
) -> None:
    """Everything is signed, logged and cosigned; only the history it claims is another one."""
    publisher.previous = None if previous == "none" else "ab" * 32
    publisher.publish(2, SECOND)
    await refused(publisher, endpoint, "names another release 1 before it", grown=True)


async def test_over_very_many_releases_the_chain_is_not_walked(publisher: Publisher, endpoint: ClientDirectory) -> None:
    publisher.previous = "ab" * 32
    publisher.publish(2 + LIMITS.chain_walk, SECOND)
    assert await update(publisher, endpoint) == 2 + LIMITS.chain_walk


async def test_the_customers_own_policy_counts_and_not_the_roots(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    """Stricter: a witness that has not signed is asked for. Then the file is damaged. Then it is as lax as the root's."""
    publisher.publish(2, SECOND)
    log = log_of(publisher)
    third = MemoryLog(witnesses=("wit.example/three",)).keys[0]
    strict = log.policy.replace(
        "quorum all-of-us", f"witness w9 {third.public.vkey}\ngroup both all all-of-us w9\nquorum both"
    )
    for text, words in ((strict, "no quorum of witnesses"), (log.policy, "")):
        with endpoint.locked():
            named = public_log.keep_policy(endpoint, text.encode())
            endpoint.write_config(replace(endpoint.config(), policy=named))
        if words:
            await refused(publisher, endpoint, words)
            (endpoint.path / "policy").write_bytes(log.policy.encode())
            with pytest.raises(DamagedError, match="the log policy in"):
                await update(publisher, endpoint)
    assert await update(publisher, endpoint) == 2


async def test_a_root_that_no_longer_names_a_log_frees_nobody(publisher: Publisher, endpoint: ClientDirectory) -> None:
    del publisher.repository.root["coldchain"]
    publisher.repository.publish_root()
    publisher.publish(2, SECOND)
    await refused(publisher, endpoint, "names no public log")


async def test_the_first_checkpoint_is_believed_and_a_lost_one_is_the_first_again(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    kept = endpoint.metadata / "checkpoint"
    for damage in (None, b"", b"rubbish"):
        kept.unlink(missing_ok=True)
        if damage is not None:
            kept.write_bytes(damage)
        number = len(publisher.releases["us"]) + 1
        publisher.publish(number, RELEASES[number % 3])
        assert await update(publisher, endpoint) == number
        assert kept.read_bytes() == log_of(publisher).note(at=publisher.now).encode()


async def test_the_evidence_is_checked_again_offline(publisher: Publisher, endpoint: ClientDirectory) -> None:
    (link,) = [one for one in endpoint.signed.iterdir() if not one.name.startswith(".")]
    proof = link / PROOF
    good = proof.read_bytes()
    assert good == publisher.proof()
    for bad in (None, good[:-2], good.replace(b"index 0", b"index 1")):
        proof.unlink()
        if bad is not None:
            proof.write_bytes(bad)
        found = audit(endpoint, datetime.now(UTC))
        assert isinstance(found.error, DamagedError)
        assert [check.name for check in found.checks if not check.ok] == ["public log"]
        proof.write_bytes(good)
    assert audit(endpoint, datetime.now(UTC)).error is None


# Attacks on what an endpoint remembers and on the ways around a check


def set_policy(directory: ClientDirectory, text: str) -> None:
    with directory.locked():
        named = public_log.keep_policy(directory, text.encode())
        directory.write_config(replace(directory.config(), policy=named))


async def test_going_to_another_log_and_back_does_not_make_a_log_forget_its_story(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    """The policy lists two logs; whoever runs both could otherwise use one to wash the other."""
    first, other = log_of(publisher), MemoryLog("log.example/other")
    set_policy(endpoint, first.policy.replace("witness w0", f"log {other.key.public.vkey}\nwitness w0"))
    publisher.log = other
    publisher.publish(2, SECOND)
    assert await update(publisher, endpoint) == 2
    kept = {one.name: one.read_bytes() for one in endpoint.metadata.glob("checkpoint*")}
    assert len(kept) == 2
    assert kept["checkpoint"] == other.note(at=publisher.now).encode()

    publisher.log = None
    publisher.publish(3, THIRD)
    manifest = publisher.manifest()
    for entries in ([manifest], [b"special", manifest], [b"special", b"more", b"and more", manifest]):
        fork = MemoryLog()
        fork.append(*entries)
        publisher.files.update({f"log/{path}": data for path, data in fork.files.items()})
        resign(publisher, fork.proof(len(entries) - 1, at=publisher.now))
        await refused(publisher, endpoint, "two different stories")
        assert first.note(at=publisher.now).encode() in (endpoint.metadata / "fork.txt").read_bytes()
    assert {one.name: one.read_bytes() for one in endpoint.metadata.glob("checkpoint*")} == kept

    # the truth is not in the way of itself: the first log's honest growth is applied, and so is the other's after it
    for number, log in ((3, first), (4, other), (5, first)):
        publisher.log = None
        if number > 3:
            publisher.publish(number, RELEASES[number % 3])
        manifest = publisher.manifest()
        proof = log.proof(log.append(manifest), at=publisher.now)
        publisher.files.update({f"log/{path}": data for path, data in log.files.items()})
        resign(publisher, proof)
        assert await update(publisher, endpoint) == number


async def test_pinning_another_root_forgets_no_story(publisher: Publisher, endpoint: ClientDirectory) -> None:
    kept = (endpoint.metadata / "checkpoint").read_bytes()
    (endpoint.metadata / "fork.txt").write_bytes(b"proof")
    (endpoint.metadata / "checkpoint-a.json").write_bytes(b"{}")
    publisher.repository.publish_root()
    newer = publisher.files["metadata/2.root.json"]
    with endpoint.locked():
        trusted.pin(endpoint, newer)
        endpoint.write_config(replace(endpoint.config(), root=digest(newer)))
    assert not (endpoint.metadata / "timestamp.json").exists()
    assert not (endpoint.metadata / "checkpoint-a.json").exists(), "a region's role, whatever the region is called"
    assert (endpoint.metadata / "checkpoint").read_bytes() == kept
    assert (endpoint.metadata / "fork.txt").read_bytes() == b"proof"
    fork = MemoryLog()
    publisher.log = None
    publisher.publish(2, SECOND)
    fork.append(b"special", publisher.manifest())
    publisher.files.update({f"log/{path}": data for path, data in fork.files.items()})
    resign(publisher, fork.proof(1, at=publisher.now))
    await refused(publisher, endpoint, "two different stories")


@pytest.mark.parametrize("by", ["customer", "root"])
async def test_the_installed_release_is_judged_by_the_policy_in_force_now(
    publisher: Publisher, endpoint: ClientDirectory, by: str
) -> None:
    """``current`` is not said of a release whose evidence the policy no longer accepts: say, a witness's key was stolen."""
    log = log_of(publisher)
    ninth = MemoryLog(witnesses=("wit.example/nine",)).keys[0]
    strict = log.policy.replace(
        "quorum all-of-us", f"witness w9 {ninth.public.vkey}\ngroup both all all-of-us w9\nquorum both"
    )
    if by == "customer":
        set_policy(endpoint, strict)
    else:
        publisher.repository.root["coldchain"]["log_policy"] = strict.splitlines()
        publisher.repository.publish_root()
        publisher.repository.publish()
    for _ in range(2):  # once in the full workflow, once after the quick check
        await refused(publisher, endpoint, "no quorum of witnesses: both: 1 of 2 needed .w9: no cosignature")
    told = audit(endpoint, datetime.now(UTC)).error
    if by == "customer":
        assert isinstance(told, EvidenceError), "every byte is as signed: this is no damage that a repair would mend"
        assert "as signed" in told.kept
    else:
        assert told is None, (
            "offline it is judged by the root that came with the release, as it was when it was installed"
        )
    # a proof that the new witness has cosigned too, under a role that is signed anew, makes it good again
    log.keys.append(ninth)
    resign(publisher, log.proof(0, at=publisher.now))
    assert await update(publisher, endpoint) == 1
    assert audit(endpoint, datetime.now(UTC)).error is None


async def test_a_damaged_release_is_not_made_anew_without_its_evidence(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    """A newer release is held, so the installed one is mended; but not against the policy in force."""
    publisher.publish(2, SECOND, held=True)
    damaged = next(endpoint.current.glob("daily.hsb"))
    damaged.chmod(0o644)
    damaged.write_bytes(b"")
    good = endpoint.config().policy
    set_policy(endpoint, log_of(publisher).policy.replace("log.example/test", "log.example/else"))
    await refused(publisher, endpoint, "the log policy is not in order|is not a log that is known here")
    with endpoint.locked():
        endpoint.write_config(replace(endpoint.config(), policy=good))
    with pytest.raises(HeldError, match="is repaired"):
        await update(publisher, endpoint)
    assert contents(endpoint) == FIRST


async def test_a_fork_is_told_also_when_the_disk_has_no_room_for_the_proof(
    publisher: Publisher, endpoint: ClientDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.log = None
    publisher.publish(2, SECOND)
    fork = MemoryLog()
    fork.append(publisher.manifest())
    resign(publisher, fork.proof(0, at=publisher.now))
    write = Folder.write

    def full(folder: Folder, name: str, data: bytes) -> None:
        if name == public_log.FORK:
            raise StorageError("fork.txt: No space left on device")
        write(folder, name, data)

    monkeypatch.setattr(Folder, "write", full)
    error = await refused(publisher, endpoint, "two different stories.*could not be kept .fork.txt: No space")
    assert "make room" in error.todo


async def test_a_clock_that_is_ten_years_slow_is_what_a_person_is_told_about(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    publisher.publish(2, SECOND)
    publisher.write(Path(endpoint.config().urls[0]))
    slow = publisher.now - timedelta(days=3650)
    with pytest.raises(EvidenceError, match="clock has not reached") as found:
        await run(endpoint, now=lambda: slow)
    assert "compare this machine's clock" in found.value.todo
    assert contents(endpoint) == FIRST
    assert await update(publisher, endpoint) == 2


async def test_what_stands_in_the_chain_and_is_no_manifest_is_a_matter_of_evidence(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    """A logged manifest names rubbish as the one before it, and the rubbish is really there."""
    rubbish = b'{"format":"nothing"}'
    publisher.files[f"manifests/{digest(rubbish)}.json"] = rubbish
    publisher.previous = digest(rubbish)
    publisher.publish(4, SECOND)
    await refused(publisher, endpoint, "the chain of manifests", grown=True)
    publisher.previous = None
    assert contents(endpoint) == FIRST


async def test_releases_that_were_logged_and_given_up_are_links_of_the_chain(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    """Whoever holds a region's threshold can publish one (it is public, so nobody is singled out); the honest one after it fits."""
    publisher.publish(2, SECOND)
    assert await update(publisher, endpoint) == 2
    for number in (3, 4):  # logged, and never seen by this endpoint
        publisher.publish(number, RELEASES[number % 3])
    publisher.publish(5, SECOND)
    assert await update(publisher, endpoint) == 5


async def test_a_statement_about_anything_else_is_refused(publisher: Publisher, endpoint: ClientDirectory) -> None:
    """Logged and cosigned like any other, and signed by the region: but it speaks of another product, channel, number, bundle."""
    publisher.publish(2, SECOND)
    log = log_of(publisher)
    good = publisher.manifest()
    bundle = publisher.releases["us"][2].digest.encode()
    other = [
        good.replace(b'"product":"coldchain"', b'"product":"coldstore"'),
        good.replace(b'"channel":"stable"', b'"channel":"early"'),
        good.replace(b'"release":2', b'"release":3'),
        good.replace(bundle, bundle[::-1]),
        good.replace(b'"us":', b'"eu":'),
        good.replace(b'"us":', b'"zz":'),
        good.replace(b'"release":2', b'"release":2 '),
    ]
    assert good not in other
    for bad in other:
        proof = log.proof(log.append(bad), at=publisher.now)
        publisher.files.update({f"log/{path}": data for path, data in log.files.items()})
        resign(publisher, proof, bad)
        await refused(publisher, endpoint)
    publisher.files.update({f"log/{path}": data for path, data in log.files.items()})
    resign(publisher, log.proof(1, at=publisher.now), good)
    assert await update(publisher, endpoint) == 2


async def test_another_file_than_the_logged_one_is_refused_though_it_would_give_the_same_bundle(
    publisher: Publisher, tmp_path: Path
) -> None:
    """Whoever holds a region's threshold could hand one endpoint a file that is made for its decoder."""
    fresh = publisher.client(tmp_path / "fresh", str(tmp_path / "tree"))
    log, document = log_of(publisher), publisher.repository.documents["us"]
    manifest = publisher.manifest()
    info = document["targets"]["us/stable/full.ccd"]
    named = (
        b'"full":{"bytes":%d,"sha256":"%s"},' % (info["length"], info["hashes"]["sha256"].encode()),
        b'"full":{"bytes":%d,"sha256":"%s"},' % (info["length"] + 1, info["hashes"]["sha256"].encode()),
        b'"full":{"bytes":%d,"sha256":"%s"},' % (info["length"], b"ab" * 32),
    )
    at = manifest.index(b'"policy":', manifest.index(b'"us":'))
    for full in reversed(named):
        stated = manifest[:at] + full + manifest[at:]
        proof = log.proof(log.append(stated), at=publisher.now)
        publisher.files.update({f"log/{path}": data for path, data in log.files.items()})
        resign(publisher, proof, stated)
        publisher.write(tmp_path / "tree")
        if full is not named[0]:
            with pytest.raises(EvidenceError, match="names the full bundle's file"):
                await run(fresh)
            assert contents(fresh) == {}
    assert (await run(fresh)).release == 1


async def test_a_tree_of_a_size_beyond_belief_costs_a_few_requests(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    """Log and witnesses lie together; the proof is good, since whoever makes up 62 hashes can make up their root."""
    publisher.publish(2, SECOND)
    log, manifest = log_of(publisher), publisher.manifest()
    honest = publisher.proof()
    path = [hashlib.sha256(bytes([n])).digest() for n in range(63)]
    for size in (2**63 - 1, 2**62, 2**40 + 1, 1000):
        index, root, hashes = 0, leaf_hash(manifest), path[: (size - 1).bit_length()]
        for sibling in hashes:
            root = node_hash(root, sibling)
        text = Checkpoint(log.origin, size, root).text
        at = int(publisher.now.timestamp())
        note = SignedNote(text, (log.key.sign(text), *(key.sign(text, at) for key in log.keys)))
        resign(publisher, OfflineProof(index, tuple(hashes), note).encode())
        for tiles in (lambda _: None, lambda width: b"x" * 32 * width):

            async def anything(request: web.Request, tiles: Callable[[int], bytes | None] = tiles) -> web.Response:
                edge.log.append((request.path.lstrip("/"), {}))  # noqa: B023  this round's
                asked = request.path.removeprefix("/log/")
                if (
                    asked == request.path
                    or (body := tiles(int(asked.rpartition(".p/")[2]) if ".p/" in asked else 256)) is None
                ):
                    data = publisher.files.get(request.path.lstrip("/"))
                    return web.Response(body=data) if data is not None else web.Response(status=404)
                return web.Response(body=body)

            edge = Edge(publisher.files)
            edge.handle = anything  # type: ignore[method-assign]
            before, seen = contents(endpoint), (endpoint.metadata / "checkpoint").read_bytes()
            async with serving(edge) as url:
                with pytest.raises(EvidenceError) as found:
                    await run(endpoint, url)
            assert found.value.exit_code == 16
            assert contents(endpoint) == before
            assert (endpoint.metadata / "checkpoint").read_bytes() == seen
            assert not (endpoint.metadata / "fork.txt").exists()
            assert len([path for path in edge.paths if path.startswith("log/")]) <= 24
    resign(publisher, honest)
    assert await update(publisher, endpoint) == 2


async def test_a_checkpoint_that_says_more_is_understood_and_is_no_other_story(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    """Extension lines are signed too; the tree is the same."""
    publisher.publish(2, SECOND)
    log = log_of(publisher)
    proof = parse_proof(log.proof(1, at=publisher.now))
    head = replace(log.head, extensions=("more", "and more"))
    at = int(publisher.now.timestamp())
    note = SignedNote(head.text, (log.key.sign(head.text), *(key.sign(head.text, at) for key in log.keys)))
    resign(publisher, replace(proof, checkpoint=note).encode())
    assert await update(publisher, endpoint) == 2
    # the cosignatures of the plain text do not count for the longer one
    resign(publisher, replace(proof, checkpoint=replace(note, text=log.head.text)).encode())
    with pytest.raises(EvidenceError):
        await update(publisher, endpoint)
    publisher.publish(3, THIRD)
    assert await update(publisher, endpoint) == 3


async def test_a_release_that_follows_the_one_before_needs_no_tiles(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    """Its inclusion proof holds the proof that the log has grown by it alone, for every size of the log."""
    for number in range(2, 19):
        publisher.publish(number, RELEASES[number % 3])
        edge = Edge({path: data for path, data in publisher.files.items() if not path.startswith("log/")})
        async with serving(edge) as url:
            assert (await run(endpoint, url)).release == number
        assert not any(path.startswith("log/") for path in edge.paths)
        assert (endpoint.metadata / "checkpoint").read_bytes() == log_of(publisher).note(at=publisher.now).encode()


async def test_a_tile_that_is_withheld_is_said_and_the_next_source_has_it(
    publisher: Publisher, endpoint: ClientDirectory, tmp_path: Path
) -> None:
    log_of(publisher).append(b"an entry of another kind")
    publisher.publish(2, SECOND)
    good = publisher.write(tmp_path / "good")
    edge = Edge({path: data for path, data in publisher.files.items() if "/tile/" not in path})
    async with serving(edge) as url:
        with pytest.raises(EvidenceError, match=r"tile/0/000\.p/3 is not there") as found:
            await run(endpoint, url)
        assert "try again later" in found.value.todo
        assert contents(endpoint) == FIRST
        assert (await run(endpoint, url, str(good))).release == 2


async def test_rubbish_in_any_file_an_endpoint_keeps_of_its_own_does_not_stand_in_the_way(
    publisher: Publisher, endpoint: ClientDirectory, tmp_path: Path
) -> None:
    publisher.publish(2, SECOND)
    tree = publisher.write(tmp_path / "tree")
    (endpoint.metadata / "fork.txt").write_bytes(b"a fork")
    kept = [one for one in endpoint.metadata.iterdir() if one.is_file()] + [endpoint.path / "state.json"]
    assert {"checkpoint", "us.json", "timestamp.json", "state.json"} <= {one.name for one in kept}
    for number, one in enumerate(kept):
        for how in (b"", b"rubbish", b"{}", b"\xff" * 1000, "gone", "link"):
            copy = tmp_path / f"copy-{number}"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(endpoint.path, copy, symlinks=True)
            file = copy / one.relative_to(endpoint.path)
            file.unlink()
            if isinstance(how, bytes):
                file.write_bytes(how)
            elif how == "link":
                file.symlink_to("/etc/passwd")
            done = await run(ClientDirectory(copy), str(tree))
            assert done.release == 2, (one.name, how)
            assert contents(ClientDirectory(copy)) == SECOND
            assert audit(ClientDirectory(copy), datetime.now(UTC)).error is None


async def test_a_proof_under_an_older_checkpoint_is_good_if_the_newer_one_continues_it(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    publisher.publish(2, SECOND)
    log, manifest = log_of(publisher), publisher.manifest()
    older = publisher.proof()
    assert await update(publisher, endpoint) == 2
    log.append(b"of another product")
    publisher.files.update({f"log/{path}": data for path, data in log.files.items()})
    newer = log.proof(1, at=publisher.now)
    resign(publisher, newer)
    assert await update(publisher, endpoint) == 2
    seen = (endpoint.metadata / "checkpoint").read_bytes()
    assert seen == log.note(at=publisher.now).encode()
    for entries in ([manifest], [b"special", manifest], [b"special", manifest, b"more"]):
        fork = MemoryLog()
        fork.append(*entries)
        resign(publisher, fork.proof(entries.index(manifest), at=publisher.now))
        await refused(publisher, endpoint, "two different stories")
    resign(publisher, older)
    assert await update(publisher, endpoint) == 2
    assert (endpoint.metadata / "checkpoint").read_bytes() == seen, "what was seen never shrinks"


async def test_no_link_of_the_chain_is_longer_than_an_entry_can_be(
    publisher: Publisher, endpoint: ClientDirectory
) -> None:
    """Else whoever signs for the region fills an endpoint's memory with what no log holds."""
    long = b"x" * (LIMITS.log_entry_bytes + 1)
    publisher.files[f"manifests/{digest(long)}.json"] = long
    publisher.previous = digest(long)
    publisher.publish(3, SECOND)
    with pytest.raises(ResponseError, match=r"longer than|more than"):
        await update(publisher, endpoint)
    assert contents(endpoint) == FIRST


async def test_a_log_that_changes_its_key_keeps_its_story(publisher: Publisher, endpoint: ClientDirectory) -> None:
    """Both keys stand in the policy for a while; what the old one signed is continued by what the new one signs, or refused."""
    log = log_of(publisher)
    private = MemoryLog("another-seed").key.private
    new = Signing(NoteKey(log.origin, Kind.ED25519, PublicKey(bytes(private.verify_key))), private)
    set_policy(endpoint, log.policy.replace("witness w0", f"log {new.public.vkey}\nwitness w0"))
    publisher.log = None
    publisher.publish(2, SECOND)
    manifest = publisher.manifest()
    for entries in ([manifest], [b"special", manifest], [b"special", b"more", manifest]):
        fork = MemoryLog()
        fork.key = new
        fork.append(*entries)
        publisher.files.update({f"log/{path}": data for path, data in fork.files.items()})
        resign(publisher, fork.proof(len(entries) - 1, at=publisher.now))
        await refused(publisher, endpoint, "two different stories")
    log.key = new
    proof = log.proof(log.append(manifest), at=publisher.now)
    publisher.files.update({f"log/{path}": data for path, data in log.files.items()})
    resign(publisher, proof)
    assert await update(publisher, endpoint) == 2


async def test_a_policy_without_the_root_keys_is_nobodys(publisher: Publisher, endpoint: ClientDirectory) -> None:
    """All online keys, the region's and the targets' threshold: the next root, with a policy that asks for no witness, is refused."""
    other = MemoryLog("log.example/other", witnesses=())
    root = publisher.repository.root
    good = list(root["coldchain"]["log_policy"])
    root["coldchain"]["log_policy"] = other.policy.splitlines()
    root["version"] += 1
    signers = [one for role, every in publisher.repository.signers.items() if role != "root" for one in every]
    publisher.files["metadata/2.root.json"] = sign(root, signers)
    publisher.log = other
    publisher.publish(2, SECOND)
    tree = Path(endpoint.config().urls[0])
    publisher.write(tree)
    with pytest.raises(SignatureError, match=r"root"):
        await run(endpoint)
    assert contents(endpoint) == FIRST
    # without the root: the release is in no log that is known here
    root["version"] -= 1
    root["coldchain"]["log_policy"] = good
    del publisher.files["metadata/2.root.json"]
    (tree / "metadata" / "2.root.json").unlink()
    await refused(publisher, endpoint, "is not a log that is known here")
